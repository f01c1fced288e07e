"""Routes that record facts: sign-in, facts stated by services, actions of people. Refusals are recorded too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Request, Response

from lineage.errors import InvalidError, PlimsollError, RefusedError
from lineage.facts.eras import LATEST
from lineage.rules import actions
from lineage.rules.draft import Draft, Record, check_right, parsed_data
from lineage.rules.proposal import Actor
from lineage.rules.roles import SERVICES, check_role
from lineage.segments import Place, check_columns, content_of
from lineage.service.bodies import Retrain, ReviewDecision, Rollback, Statement, WithReason
from lineage.service.reads import PROBLEMS, Caller, context_of, etag_of
from lineage.state.fold import LedgerState

FACT_BYTES = 256 * 1024


def limit_fact_size(request: Request) -> None:
    """Refuse a body larger than a fact may be: every follower reads each record again.

    Raises:
        RefusedError: the body is larger than `FACT_BYTES` (413).
    """
    length = int(request.headers.get("content-length", "0"))
    if length > FACT_BYTES:
        raise RefusedError(
            f"the body has {length} bytes; a fact takes at most {FACT_BYTES}. Store the rest and state its digest",
            code="too_large",
            status=413,
        )


router = APIRouter(dependencies=[Depends(limit_fact_size)], responses=PROBLEMS)
Key = Annotated[str | None, Header(alias="Idempotency-Key")]
IfMatch = Annotated[str | None, Header(alias="If-Match")]
_KEY_CHARACTERS = 200
REPEATED: dict[int | str, dict[str, Any]] = {200: {"description": "The record that the same request made before"}}


@router.post("/v1/facts", status_code=201)
def state_fact(request: Request, body: Statement, actor: Caller, key: Key = None) -> Response:
    """Record a fact stated by a service."""
    ledger = context_of(request).ledger
    draft = Draft(body.kind, actor, body.data, body.model, body.release, body.reason, checked_key(key))
    try:
        check_role(actor, SERVICES, "state facts; people use the verbs")
        _check_segment(request, draft)
        record = ledger.append(draft)
    except RefusedError as refusal:
        ledger.refuse(draft, refusal)
        raise
    return recorded(request, record, 201)


def _check_segment(request: Request, draft: Draft) -> None:
    """Refuse to record a segment that is not on disk with the stated digest.

    Not a rule: what is on record stays true after the file is gone, and rules read no files.

    Raises:
        RefusedError: the file is missing, has another digest, or is no segment.
        InvalidError: the fact does not name a segment.
    """
    if draft.kind != "DecisionsSealed":
        return
    data = parsed_data(draft, LATEST)
    place = Place(0, data["segment"], data["uri"], data["digest"])
    try:
        check_columns(content_of(context_of(request).settings.root, place, draft.model), place.segment)
    except PlimsollError as error:
        message = f"{error.message}; a segment is recorded once its file is in place"
        raise RefusedError(message, code="segment", field="segment") from error


@router.post("/v1/releases/{release}/canary", status_code=201, responses=REPEATED)
def canary(
    request: Request, release: str, body: WithReason, actor: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Start a canary."""
    action = ActionRequest("CanaryStarted", release, body.reason, actor, key, if_match)
    return act(request, action, lambda state: actions.start_canary(state, release, actor, body.reason))


@router.post("/v1/releases/{release}/review", status_code=201, responses=REPEATED)
def review(
    request: Request, release: str, body: ReviewDecision, actor: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Approve or reject a release in review."""
    action = ActionRequest(
        "ReviewDecided", release, body.reason, actor, key, required_etag(if_match), {"decision": body.decision}
    )
    return act(request, action, lambda state: actions.decide_review(state, release, actor, body.reason, body.decision))


@router.post("/v1/releases/{release}/promote", status_code=201, responses=REPEATED)
def promote(
    request: Request, release: str, body: WithReason, actor: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Begin the rollout of an approved release."""
    action = ActionRequest("RolloutStepped", release, body.reason, actor, key, required_etag(if_match))
    return act(request, action, lambda state: actions.promote(state, release, actor, body.reason))


@router.post("/v1/releases/{release}/abort", status_code=201, responses=REPEATED)
def abort(
    request: Request, release: str, body: WithReason, actor: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Take a release out of traffic. Needs no ETag: stopping must always be possible."""
    action = ActionRequest("CanaryAborted", release, body.reason, actor, key, if_match)
    return act(request, action, lambda state: actions.abort(state, release, actor, body.reason))


@router.post("/v1/models/{model}/rollback", status_code=201, responses=REPEATED)
def rollback(
    request: Request, model: str, body: Rollback, actor: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Return to the previous champion, or to the baseline. Needs no ETag."""
    requested = {"to": body.to} if body.to else {}
    action = ActionRequest("RollbackOrdered", model, body.reason, actor, key, if_match, requested)
    return act(request, action, lambda state: actions.roll_back(state, model, actor, body.reason, body.to))


@router.post("/v1/models/{model}/retrain", status_code=201, responses=REPEATED)
def retrain(request: Request, model: str, body: Retrain, actor: Caller, key: Key = None) -> Response:
    """Ask for a training run."""
    requested = {"folder": body.folder, "options": body.options}
    action = ActionRequest("RetrainRequested", model, body.reason, actor, key, None, requested)
    return act(request, action, lambda _: actions.retrain(model, actor, body.reason, body.folder, body.options))


@dataclass(frozen=True)
class ActionRequest:
    """A person's request for an action, as sent.

    Attributes:
        kind: the fact that the action records.
        about: a release or a model; None for all models.
        requested: fields of the record's data by which a repeated request is recognised.
    """

    kind: str
    about: str | None
    reason: str
    actor: Actor
    key: str | None
    if_match: str | None
    requested: dict[str, Any] = field(default_factory=dict)


def act(request: Request, action: ActionRequest, make_draft: Callable[[LedgerState], Draft]) -> Response:
    """Record a person's action; the same idempotency key and request give the first record again.

    Raises:
        RefusedError: as `Ledger.act`; the refusal is on record.
    """
    ledger = context_of(request).ledger
    key, etag = checked_key(action.key), etag_of(action.if_match)

    def authorised_draft(state: LedgerState) -> Draft:
        # First: a caller without the right learns nothing about the state.
        check_right(action.kind, action.actor, action.about, state)
        return replace(make_draft(state), key=key, etag=etag)

    try:
        record, new = ledger.act(action.actor, key, authorised_draft)
        if not new:
            _check_same(record, action)
    except RefusedError as refusal:
        ledger.refuse(Draft(action.kind, action.actor, {}, *_model_and_release(action.about), action.reason), refusal)
        raise
    return recorded(request, record, 201 if new else 200)


def recorded(request: Request, record: Record, status: int, **headers: str) -> Response:
    """The answer to an action: its record, and for a control fact `witnessed`, once the witness answered or not."""
    whole = record | context_of(request).witnessing.witnessed(record)
    return Response(orjson.dumps(whole), status, headers, "application/json")


def _check_same(earlier: Record, action: ActionRequest) -> None:
    """Refuse a key used for another request. Only requested fields are compared: the ledger adds salts and shares."""
    same = earlier["kind"] == action.kind and earlier["reason"] == action.reason
    same = same and all(earlier["data"][name] == value for name, value in action.requested.items())
    names = (earlier["model"], earlier["release"]) if action.about is not None else (earlier["model"],)
    if not same or action.about not in names:
        raise RefusedError(
            f"idempotency key {action.key!r} was used for another request (record {earlier['seq']}); use a new one",
            code="key_reused",
        )


def _model_and_release(about: str | None) -> tuple[str | None, str | None]:
    model, at, _ = (about or "").rpartition("@")
    return (model, about) if at else (about, None)


def required_etag(if_match: str | None) -> str:
    """The If-Match header.

    Raises:
        RefusedError: it is missing (428).
    """
    if if_match is None:
        raise RefusedError(
            "send If-Match with the ETag of what you looked at, so that nobody decides on an old view",
            code="if_match",
            status=428,
        )
    return if_match


def checked_key(key: str | None) -> str | None:
    """The header Idempotency-Key.

    Raises:
        InvalidError: it is empty or too long.
    """
    if key is not None and not 1 <= len(key) <= _KEY_CHARACTERS:
        raise InvalidError(
            f"Idempotency-Key has {len(key)} characters; expected 1 to {_KEY_CHARACTERS}", field="Idempotency-Key"
        )
    return key
