"""A fact that somebody asks the ledger to record, and whether it is well formed, authorised and legal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lineage.errors import InvalidError, TamperedError
from lineage.facts.registry import parse_fact, subject_of
from lineage.rules.guards import guard
from lineage.rules.proposal import Actor
from lineage.rules.roles import PEOPLE_MAY, PLATFORM, may
from lineage.state.fold import LedgerState

Record = dict[str, Any]
REASON_CHARACTERS = 4_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Draft:
    """A fact that somebody asks the ledger to record."""

    kind: str
    actor: Actor
    data: dict[str, Any]
    model: str | None = None
    release: str | None = None
    reason: str | None = None
    key: str | None = None
    etag: int | None = None


def check_record(record: Record, state: LedgerState) -> None:
    """Check that a stored record is a fact that the ledger would accept in this state.

    Raises:
        PlimsollError: it would not.
    """
    actor = Actor(record["actor"]["name"], record["actor"]["role"])
    numbered, release = record["kind"] == "ModelTrained", record["release"]
    if numbered and release != state.next_release(str(record["model"])):
        raise TamperedError(f"{release} is not the next release of {record['model']}", record=record["seq"])
    draft = Draft(
        record["kind"], actor, record["data"], record["model"], None if numbered else release, record["reason"]
    )
    if draft.model != model_of(draft):
        raise TamperedError(f"{release} is recorded without its model", record=record["seq"])
    data = parsed(draft, state.era)
    if draft.kind != "ActionRefused":  # a refusal is recorded whatever was refused
        permitted(draft, data, state)


def authorised(draft: Draft, state: LedgerState) -> None:
    """Let the draft pass if it is well formed and its actor may state it, or raise."""
    _well_formed(draft, model_of(draft))
    about = state.releases.get(draft.release or "")
    may(draft.kind, draft.actor, about.author if about else None)


def permitted(draft: Draft, data: dict[str, Any], state: LedgerState) -> None:
    """Let the draft pass if it is authorised and no rule of the era refuses it, or raise.

    Args:
        data: its data in the stored form.
    """
    authorised(draft, state)
    guard(draft.kind, draft.actor, model_of(draft), draft.release, data, state)


def parsed(draft: Draft, era: int) -> dict[str, Any]:
    """The draft's data in its stored form, in the shape of that era."""
    return parse_fact(draft.kind, draft.data, era)


def model_of(draft: Draft) -> str | None:
    """The model that the draft is about, named or by its release."""
    return draft.model if draft.model is not None else draft.release.rpartition("@")[0] if draft.release else None


def _well_formed(draft: Draft, model: str | None) -> None:
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
    person = draft.actor.role not in ("service", PLATFORM)
    if person and draft.kind in PEOPLE_MAY and not (draft.reason or "").strip():
        raise InvalidError(f"{draft.kind} takes a reason: say in a sentence why", field="reason")
    if draft.reason is not None and len(draft.reason) > REASON_CHARACTERS:
        raise InvalidError(
            f"the reason has {len(draft.reason)} characters; at most {REASON_CHARACTERS} are kept", field="reason"
        )
