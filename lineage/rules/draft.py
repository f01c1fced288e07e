"""Drafts: facts before they are recorded, and the checks that they are well formed, authorised and legal."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from lineage.errors import InvalidError, TamperedError
from lineage.facts.registry import parse_fact, subject_of
from lineage.rules.accounts import check_account
from lineage.rules.guards import guard
from lineage.rules.proposal import Actor
from lineage.rules.roles import PEOPLE, PEOPLE_MAY, READERS_LEAVE, acting, may
from lineage.state.fold import LedgerState

Record = dict[str, Any]
REASON_CHARACTERS = 4_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Draft:
    """A fact before it is recorded.

    Attributes:
        key: idempotency key of the request.
        etag: newest record about the model that the caller has seen; a newer one makes the draft stale.
    """

    kind: str
    actor: Actor
    data: dict[str, Any]
    model: str | None = None
    release: str | None = None
    reason: str | None = None
    key: str | None = None
    etag: int | None = None


def check_record(record: Record, state: LedgerState) -> None:
    """Check that the ledger would accept a stored record in this state.

    Raises:
        PlimsollError: it would not; the error is that of the rule or check.
    """
    actor = Actor(record["actor"]["name"], record["actor"]["role"], record["actor"].get("id", ""))
    numbered, release = record["kind"] == "ModelTrained", record["release"]
    if numbered and release != state.next_release(str(record["model"])):
        raise TamperedError(f"{release} is not the next release of {record['model']}", record=record["seq"])
    draft = Draft(
        record["kind"], actor, record["data"], record["model"], None if numbered else release, record["reason"]
    )
    if draft.model != model_of(draft):
        raise TamperedError(f"{release} is recorded without its model", record=record["seq"])
    data = parsed_data(draft, state.era)
    if draft.kind != "ActionRefused":  # refusals are recorded without rules
        check_permitted(draft, data, state)


def check_authorised(draft: Draft, state: LedgerState) -> None:
    """Refuse the draft unless it is well formed and its actor's role may state it.

    Raises:
        InvalidError: it is not well formed.
        RefusedError: the role may not state it.
    """
    _check_well_formed(draft, model_of(draft))
    check_right(draft.kind, draft.actor, draft.release, state)


def check_right(kind: str, actor: Actor, release: str | None, state: LedgerState) -> None:
    """Refuse the actor unless its role may state this kind of fact about the release, and its account is in use.

    Raises:
        RefusedError: the role may not, the author acts on their own release, or the account is not active (403).
    """
    may(kind, actor, state.releases.get(release or ""), state.era)
    if state.era >= 3:
        check_account(replace(actor, role=acting(kind, actor, state.era)), state)


def check_permitted(draft: Draft, data: dict[str, Any], state: LedgerState) -> None:
    """Refuse the draft unless it is authorised and every rule of the era allows it.

    Args:
        draft: the fact to check.
        data: its data in stored form (`parsed_data`).
        state: the state of all records before it.

    Raises:
        InvalidError: it is not well formed, or the policy of a candidate cannot be parsed.
        RefusedError: the role or a rule refuses it.
        UnknownError: it names a model, release or request that does not exist.
    """
    check_authorised(draft, state)
    guard(draft.kind, draft.actor, model_of(draft), draft.release, data, state)


def parsed_data(draft: Draft, era: int) -> dict[str, Any]:
    """The draft's data in stored form, in the shape of that era.

    Raises:
        InvalidError: the kind or a field is not one of that era.
    """
    return parse_fact(draft.kind, draft.data, era)


def model_of(draft: Draft) -> str | None:
    """The model that the draft is about, by its own name or by its release."""
    return draft.model if draft.model is not None else draft.release.rpartition("@")[0] if draft.release else None


def _check_well_formed(draft: Draft, model: str | None) -> None:
    subject = subject_of(draft.kind)
    if not model and (model is not None if subject == "one_or_all" else subject != "platform"):
        raise InvalidError(f"{draft.kind} is about a model; none was named", field="model")
    if model and not _NAME.fullmatch(model):
        raise InvalidError(
            f"{model!r:.120} is no name of a model; expected up to 100 letters, digits, dots, dashes or underscores",
            field="model",
        )
    if subject == "release" and not draft.release and draft.kind != "ModelTrained":
        raise InvalidError(f"{draft.kind} is about a release; none was named", field="release")
    if draft.release and draft.kind == "ModelTrained":
        raise InvalidError("the ledger numbers releases; ModelTrained names a model only", field="release")
    if draft.release and draft.release.rpartition("@")[0] != model:
        raise InvalidError(f"{draft.release} is no release of {model}", field="release")
    takes_reason = draft.kind in (PEOPLE_MAY | READERS_LEAVE)
    if draft.actor.has(PEOPLE) and takes_reason and not (draft.reason or "").strip():
        raise InvalidError(f"{draft.kind} takes a reason: give it in a sentence", field="reason")
    if draft.reason is not None and len(draft.reason) > REASON_CHARACTERS:
        raise InvalidError(
            f"the reason has {len(draft.reason)} characters; at most {REASON_CHARACTERS} are kept", field="reason"
        )
