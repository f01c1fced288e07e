"""Routes for single decisions and data subjects: show, history, hold, erase.

A person is named in request bodies only, so that no access log holds a name; answers about people carry
`Cache-Control: no-store`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from lineage.errors import RefusedError, UnknownError
from lineage.privacy.decisions import PERSONAL_FIELDS, Found
from lineage.privacy.erasure import SubjectRequest, Subjects
from lineage.rules.draft import REASON_CHARACTERS, Draft, Record
from lineage.rules.proposal import Actor
from lineage.rules.roles import SUBJECT_READERS, check_role
from lineage.service.bodies import Body
from lineage.service.personal_reads import (
    ReasonHeader,
    commitment_of,
    read_data,
    reason_in,
    refuse_name_in,
    without_name,
)
from lineage.service.reads import Caller, context_of, reader
from lineage.service.writes import Key, recorded
from lineage.state.fold import LedgerState

router = APIRouter(dependencies=[Depends(reader)])
_NO_STORE = {"Cache-Control": "no-store"}
_SUBJECT = Field(min_length=1, max_length=200)
#: Facts that give a release live traffic.
_BRINGS_TRAFFIC = frozenset(
    {"CanaryStarted", "CanaryStepped", "RolloutStepped", "ReleasePromoted", "ChampionReinstated", "ReleaseRegistered"}
)


class SubjectAction(Body):
    """A query or an action about one person, with its reason."""

    subject: str = _SUBJECT
    reason: str = Field(min_length=1, max_length=REASON_CHARACTERS, pattern=r"\S")


class Erase(SubjectAction):
    """An erasure; the identity of the person has to be verified first."""

    identity_verified: bool = False


@router.get("/v1/decisions/{decision_id}")
def decision(request: Request, decision_id: str, actor: Caller, x_reason: ReasonHeader = None) -> Response:
    """One decision: its outcome, the release that made it, the actions behind that release, and the sealing record.

    Fields about the person are shown to auditors and operators only. It takes a reason, and the read goes on record
    before the answer.
    """
    reads, subjects = context_of(request).reads, _subjects(request)
    reads.require_reader(actor)
    reason = reason_in(x_reason)
    found = subjects.decisions.find(decision_id)
    key = found.row.get("key")
    reason = without_name(reason, key)
    pseudonym = found.row.get("subject") or (subjects.vault.existing_pseudonym(key) if key else None)
    commitment, shown = commitment_of(subjects.vault, pseudonym), actor.role in SUBJECT_READERS
    reads.record(actor, reason, read_data("decision", [found.row["decision_id"]], commitment=commitment, shown=shown))
    return Response(orjson.dumps(_view(request, found, actor)), headers=_NO_STORE, media_type="application/json")


@router.post("/v1/subjects/history")
def history(request: Request, body: SubjectAction, actor: Caller) -> Response:
    """Every decision about one person, the oldest first. For auditors and operators; the read goes on record."""
    ledger = context_of(request).ledger
    try:
        check_role(actor, SUBJECT_READERS, "see decisions about a person")
    except RefusedError as refusal:
        ledger.refuse(Draft("SubjectHistory", actor, {}), refusal)
        raise
    refuse_name_in(body.reason, body.subject, "reason")
    subjects = _subjects(request)
    found = subjects.decisions.of_subject(body.subject)
    commitment = commitment_of(subjects.vault, subjects.vault.existing_pseudonym(body.subject))
    ids = [one.row["decision_id"] for one in found.decisions]
    read = read_data("history", ids, commitment=commitment, shown=True)
    context_of(request).reads.record(actor, body.reason, read)
    views = [_view(request, one, actor) for one in found.decisions]
    answer = {"decisions": views, "missing_segments": [one.to_dict() for one in found.missing]}
    return Response(orjson.dumps(answer), headers=_NO_STORE, media_type="application/json")


@router.post("/v1/subjects/erase")
def erase(request: Request, body: Erase, actor: Caller, key: Key = None) -> Response:
    """Destroy the key of one person. For operators."""
    subject_request = SubjectRequest(actor, body.subject, body.reason, key)
    verified = body.identity_verified
    return _act(
        request,
        "SubjectErased",
        subject_request,
        lambda subjects: subjects.erase(subject_request, identity_verified=verified),
    )


@router.post("/v1/subjects/hold")
def hold(request: Request, body: SubjectAction, actor: Caller, key: Key = None) -> Response:
    """Forbid the erasure of one person. For auditors and operators."""
    subject_request = SubjectRequest(actor, body.subject, body.reason, key)
    return _act(request, "HoldPlaced", subject_request, lambda subjects: subjects.hold(subject_request))


@router.post("/v1/subjects/release-hold")
def release_hold(request: Request, body: SubjectAction, actor: Caller, key: Key = None) -> Response:
    """Allow the erasure of one person again. For auditors."""
    subject_request = SubjectRequest(actor, body.subject, body.reason, key)
    return _act(request, "HoldReleased", subject_request, lambda subjects: subjects.release_hold(subject_request))


def _act(
    request: Request, kind: str, subject_request: SubjectRequest, action: Callable[[Subjects], tuple[Record, bool]]
) -> Response:
    try:
        record, new = action(_subjects(request))
    except RefusedError as refusal:
        context_of(request).ledger.refuse(
            Draft(kind, subject_request.actor, {}, None, None, subject_request.reason), refusal
        )
        raise
    except UnknownError as unknown:  # that a person is not known, or only in data sets, is an answer about the person
        actor, count = subject_request.actor, len(unknown.detail.get("datasets", ()))
        context_of(request).reads.record(actor, subject_request.reason, read_data("presence", (), count=count))
        raise
    return recorded(request, record, 201 if new else 200, **_NO_STORE)


def _subjects(request: Request) -> Subjects:
    subjects: Subjects = context_of(request).subjects
    return subjects


def _view(request: Request, found: Found, actor: Actor) -> dict[str, Any]:
    """A decision as JSON: fields about the person under `subject`, its segment and proof under `evidence`."""
    context, row = context_of(request), found.row
    hidden = {*PERSONAL_FIELDS, "person", "subject", "type", "outcome"}
    shown = {name: value for name, value in row.items() if name not in hidden}
    released = context.ledger.read(lambda state: _released(state, row))
    evidence: dict[str, Any] = {"state": "spooled"}
    if found.place is not None:
        proof = f"/v1/proof/{found.place.record}"
        evidence = {"state": "sealed", **vars(found.place), "proof": proof}
    return shown | {
        "score_hex": float(row["score"]).hex(),
        "error": None if row["error"] is None else str(row["error"]).partition(":")[0],
        "subject": _person(request, row, actor, released["features"] if released else []),
        "outcomes": found.outcomes,
        "missing_segments": [one.to_dict() for one in found.missing],
        "released": released,
        "evidence": evidence,
    }


def _person(request: Request, row: dict[str, Any], actor: Actor, names: list[str]) -> dict[str, Any]:
    """The fields about the person, if the role may see them: `features` in model order, and by name in `named`."""
    if not actor.has(SUBJECT_READERS):
        roles = " or ".join(sorted(SUBJECT_READERS))
        return {"standing": "withheld", "why": f"role {' and '.join(actor.roles)} may not see it; role {roles} may"}
    values = row["features"] or []
    return {name: row[name] for name in PERSONAL_FIELDS} | {
        "standing": row["person"],
        "named": dict(zip(names, values, strict=True)) if len(names) == len(values) else None,
        "erased": _subjects(request).vault.erased_by(row.get("subject") or ""),
    }


def _released(state: LedgerState, row: dict[str, Any]) -> dict[str, Any] | None:
    """The newest step of the release before the route table in force, its author and approvals; None if unknown."""
    release = state.releases.get(row["release"])
    if release is None:
        return None
    steps = [one for one in release.steps if one.seq <= row["route_version"] and one.kind in _BRINGS_TRAFFIC]
    return {
        "by": steps[-1] if steps else None,
        "author": release.author,
        "approvals": [one for one in release.approvals if one.at[:19] <= row["at"][:19]],
        "features": list(release.features),
    }
