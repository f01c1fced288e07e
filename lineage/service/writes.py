"""What the ledger service lets callers do. Each action is one fact; a refusal is put on record too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Request, Response

from lineage.errors import InvalidError, RefusedError
from lineage.rules import actions
from lineage.rules.draft import Draft, Record
from lineage.rules.proposal import Actor
from lineage.rules.roles import may
from lineage.service.bodies import Because, Decide, Retrain, Rollback, SignIn, Statement
from lineage.service.reads import PROBLEMS, Caller, context_of, etag_of
from lineage.state.fold import LedgerState

FACT_BYTES = 256 * 1024


def bounded(request: Request) -> None:
    """Let pass what makes a record of bounded size: everybody who follows or pages reads it again.

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


router = APIRouter(dependencies=[Depends(bounded)], responses=PROBLEMS)
Key = Annotated[str | None, Header(alias="Idempotency-Key")]
IfMatch = Annotated[str | None, Header(alias="If-Match")]
_KEY_CHARACTERS = 200
AGAIN: dict[int | str, dict[str, Any]] = {200: {"description": "The record that the same request made before"}}


@router.post("/v1/session")
def sign_in(request: Request, body: SignIn) -> Response:
    """Sign a person in; the token is good for twelve hours."""
    context = context_of(request)
    session = context.accounts.sign_in(body.name, body.password)
    who = Actor("ledger", "platform")
    context.ledger.append(Draft("SignedIn", who, {"account": body.name}))
    return Response(orjson.dumps(session), media_type="application/json")


@router.delete("/v1/session")
def sign_out(request: Request, who: Caller) -> Response:
    """End the session of the token that is sent."""
    context_of(request).accounts.sign_out(request.headers["authorization"].partition(" ")[2])
    return Response(orjson.dumps({"signed_out": who.name}), media_type="application/json")


@router.post("/v1/facts", status_code=201)
def state_fact(request: Request, body: Statement, who: Caller, key: Key = None) -> Response:
    """Record a fact stated by a service."""
    ledger = context_of(request).ledger
    draft = Draft(body.kind, who, body.data, body.model, body.release, body.reason, _key(key))
    if who.role != "service":
        refusal = RefusedError(
            f"{who.name} has role {who.role}; people use the verbs, only services state facts", code="role", status=403
        )
        ledger.refuse(draft, refusal)
        raise refusal
    try:
        record = ledger.append(draft)
    except RefusedError as refusal:
        ledger.refuse(draft, refusal)
        raise
    return Response(orjson.dumps(record), 201, media_type="application/json")


@router.post("/v1/releases/{release}/canary", status_code=201, responses=AGAIN)
def canary(
    request: Request, release: str, body: Because, who: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Start a canary."""
    wish = Wish("CanaryStarted", release, body.reason, who, key, if_match)
    return act(request, wish, lambda state: actions.start_canary(state, release, who, body.reason))


@router.post("/v1/releases/{release}/review", status_code=201, responses=AGAIN)
def review(
    request: Request, release: str, body: Decide, who: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Approve or reject a release in review."""
    wish = Wish("ReviewDecided", release, body.reason, who, key, must_have_seen(if_match), {"decision": body.decision})
    return act(request, wish, lambda state: actions.decide_review(state, release, who, body.reason, body.decision))


@router.post("/v1/releases/{release}/promote", status_code=201, responses=AGAIN)
def promote(
    request: Request, release: str, body: Because, who: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Begin the rollout of an approved release."""
    wish = Wish("RolloutStepped", release, body.reason, who, key, must_have_seen(if_match))
    return act(request, wish, lambda state: actions.promote(state, release, who, body.reason))


@router.post("/v1/releases/{release}/abort", status_code=201, responses=AGAIN)
def abort(
    request: Request, release: str, body: Because, who: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Take a release out of traffic. Needs no ETag: stopping must always be possible."""
    wish = Wish("CanaryAborted", release, body.reason, who, key, if_match)
    return act(request, wish, lambda state: actions.abort(state, release, who, body.reason))


@router.post("/v1/models/{model}/rollback", status_code=201, responses=AGAIN)
def rollback(
    request: Request, model: str, body: Rollback, who: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Return to the previous champion, or to the baseline. Needs no ETag."""
    asked = {"to": body.to} if body.to else {}
    wish = Wish("RollbackOrdered", model, body.reason, who, key, if_match, asked)
    return act(request, wish, lambda state: actions.roll_back(state, model, who, body.reason, body.to))


@router.post("/v1/models/{model}/retrain", status_code=201, responses=AGAIN)
def retrain(request: Request, model: str, body: Retrain, who: Caller, key: Key = None) -> Response:
    """Ask for a training run."""
    asked = {"folder": body.folder, "options": body.options}
    wish = Wish("RetrainRequested", model, body.reason, who, key, None, asked)
    return act(request, wish, lambda _: actions.retrain(model, who, body.reason, body.folder, body.options))


@dataclass(frozen=True)
class Wish:
    """What a person asked for, as sent.

    `about` is a release or a model, None for all models; `asked` holds what the record's data has to say for it to be
    the same wish.
    """

    kind: str
    about: str | None
    reason: str
    who: Actor
    key: str | None
    if_match: str | None
    asked: dict[str, Any] = field(default_factory=dict)


def act(request: Request, wish: Wish, make: Callable[[LedgerState], Draft]) -> Response:
    """Record a person's action; the same idempotency key and request give the first record again.

    Raises:
        RefusedError: as `Ledger.act`; the refusal is on record.
    """
    ledger = context_of(request).ledger
    key, etag = _key(wish.key), etag_of(wish.if_match)

    def allowed(state: LedgerState) -> Draft:
        release = state.releases.get(wish.about or "")
        may(wish.kind, wish.who, release.author if release else None)  # before anything is told about the state
        return replace(make(state), key=key, etag=etag)

    try:
        record, new = ledger.act(wish.who, key, allowed)
        if not new:
            _check_same(record, wish)
    except RefusedError as refusal:
        ledger.refuse(Draft(wish.kind, wish.who, {}, *_model_and_release(wish.about), wish.reason), refusal)
        raise
    return Response(orjson.dumps(record), 201 if new else 200, media_type="application/json")


def _check_same(earlier: Record, wish: Wish) -> None:
    """Content is compared as asked for, not as recorded: salts and shares were filled in by the first request."""
    same = earlier["kind"] == wish.kind and earlier["reason"] == wish.reason
    same = same and all(earlier["data"][name] == value for name, value in wish.asked.items())
    names = (earlier["model"], earlier["release"]) if wish.about is not None else (earlier["model"],)
    if not same or wish.about not in names:
        raise RefusedError(
            f"idempotency key {wish.key!r} was used for another request (record {earlier['seq']}); use a new one",
            code="key_reused",
        )


def _model_and_release(about: str | None) -> tuple[str | None, str | None]:
    model, at, _ = (about or "").rpartition("@")
    return (model, about) if at else (about, None)


def must_have_seen(if_match: str | None) -> str:
    """The header, which has to be there.

    Raises:
        RefusedError: it is not (428).
    """
    if if_match is None:
        raise RefusedError(
            "send If-Match with the ETag of what you looked at, so that nobody decides on an old view",
            code="if_match",
            status=428,
        )
    return if_match


def _key(key: str | None) -> str | None:
    if key is not None and not 1 <= len(key) <= _KEY_CHARACTERS:
        raise InvalidError(
            f"Idempotency-Key has {len(key)} characters; expected 1 to {_KEY_CHARACTERS}", field="Idempotency-Key"
        )
    return key
