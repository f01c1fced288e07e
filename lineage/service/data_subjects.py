"""What the ledger service answers about single decisions and people: show, history, hold, erase.

A person is named in the body of a request only, so that no access log ever holds a name, and answers about people are
stored by nobody on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from lineage.errors import RefusedError
from lineage.privacy.decisions import OF_THE_SUBJECT, Found
from lineage.privacy.erasure import Asked, Subjects
from lineage.rules.draft import REASON_CHARACTERS, Draft, Record
from lineage.rules.proposal import Actor
from lineage.rules.roles import SEES_SUBJECTS
from lineage.service.bodies import Body
from lineage.service.reads import Caller, context_of, reader
from lineage.service.writes import Key
from lineage.state.fold import LedgerState

router = APIRouter(dependencies=[Depends(reader)])
_NO_STORE = {"Cache-Control": "no-store"}
_SUBJECT = Field(min_length=1, max_length=200)
#: Facts by which a release came to answer customers.
_BRINGS_TRAFFIC = frozenset(
    {"CanaryStarted", "CanaryStepped", "RolloutStepped", "ReleasePromoted", "ChampionReinstated", "ReleaseRegistered"}
)


class OfSubject(Body):
    """One person."""

    subject: str = _SUBJECT


class AboutSubject(OfSubject):
    """An action about one person, with its reason."""

    reason: str = Field(min_length=1, max_length=REASON_CHARACTERS, pattern=r"\S")


class Erase(AboutSubject):
    """An erasure; somebody has to have verified who asks for it."""

    identity_verified: bool = False


@router.get("/v1/decisions/{decision_id}")
def decision(request: Request, decision_id: str, who: Caller) -> Response:
    """One decision: what was decided, by which release, who had put it there, and the record that proves it.

    What it says about the person is shown to auditors and operators.
    """
    found = _subjects(request).decisions.find(decision_id)
    return Response(orjson.dumps(_view(request, found, who)), headers=_NO_STORE, media_type="application/json")


@router.post("/v1/subjects/history")
def history(request: Request, body: OfSubject, who: Caller) -> Response:
    """Every decision about one person, the oldest first. For auditors and operators."""
    ledger = context_of(request).ledger
    if who.role not in SEES_SUBJECTS:
        refusal = _role(who, "see decisions about a person", SEES_SUBJECTS)
        ledger.refuse(Draft("SubjectHistory", who, {}), refusal)
        raise refusal
    found = _subjects(request).decisions.of_subject(body.subject)
    views = [_view(request, one, who) for one in found]
    return Response(orjson.dumps({"decisions": views}), headers=_NO_STORE, media_type="application/json")


@router.post("/v1/subjects/erase")
def erase(request: Request, body: Erase, who: Caller, key: Key = None) -> Response:
    """Destroy the key of one person. For operators."""
    asked = Asked(who, body.subject, body.reason, key)
    verified = body.identity_verified
    return _act(request, "SubjectErased", asked, lambda desk: desk.erase(asked, identity_verified=verified))


@router.post("/v1/subjects/hold")
def hold(request: Request, body: AboutSubject, who: Caller, key: Key = None) -> Response:
    """Forbid the erasure of one person. For auditors and operators."""
    asked = Asked(who, body.subject, body.reason, key)
    return _act(request, "HoldPlaced", asked, lambda desk: desk.hold(asked))


@router.post("/v1/subjects/release-hold")
def release_hold(request: Request, body: AboutSubject, who: Caller, key: Key = None) -> Response:
    """Allow the erasure of one person again. For auditors."""
    asked = Asked(who, body.subject, body.reason, key)
    return _act(request, "HoldReleased", asked, lambda desk: desk.release_hold(asked))


def _act(request: Request, kind: str, asked: Asked, work: Callable[[Subjects], tuple[Record, bool]]) -> Response:
    try:
        record, new = work(_subjects(request))
    except RefusedError as refusal:
        context_of(request).ledger.refuse(Draft(kind, asked.who, {}, None, None, asked.reason), refusal)
        raise
    return Response(orjson.dumps(record), 201 if new else 200, _NO_STORE, "application/json")


def _subjects(request: Request) -> Subjects:
    subjects: Subjects = context_of(request).subjects
    return subjects


def _role(who: Actor, what: str, roles: frozenset[str]) -> RefusedError:
    message = f"{who.name} has role {who.role}, which may not {what}; role {' or '.join(sorted(roles))} may"
    return RefusedError(message, code="role", status=403)


def _view(request: Request, found: Found, who: Actor) -> dict[str, Any]:
    """A decision as it is shown: the person's part under `subject`, where it lies under `evidence`."""
    context, row = context_of(request), found.row
    hidden = {*OF_THE_SUBJECT, "person", "subject", "type", "outcome"}
    shown = {name: value for name, value in row.items() if name not in hidden}
    released = context.ledger.read(lambda state: _released(state, row))
    evidence: dict[str, Any] = {"state": "spooled"}
    if found.place is not None:
        proof = f"/v1/proof/{found.place.record}"
        evidence = {"state": "sealed", **vars(found.place), "proof": proof}
    return shown | {
        "score_hex": float(row["score"]).hex(),
        "error": None if row["error"] is None else str(row["error"]).partition(":")[0],
        "subject": _person(request, row, who, released["features"] if released else []),
        "outcomes": found.outcomes,
        "released": released,
        "evidence": evidence,
    }


def _person(request: Request, row: dict[str, Any], who: Actor, names: list[str]) -> dict[str, Any]:
    """What the decision says about the person, for whoever may see it: `features` in model order and `named`."""
    if who.role not in SEES_SUBJECTS:
        roles = " or ".join(sorted(SEES_SUBJECTS))
        return {"standing": "withheld", "why": f"role {who.role} may not see it; role {roles} may"}
    values = row["features"] or []
    return {name: row[name] for name in OF_THE_SUBJECT} | {
        "standing": row["person"],
        "named": dict(zip(names, values, strict=True)) if len(names) == len(values) else None,
        "erased": _subjects(request).vault.erased_by(row.get("subject") or ""),
    }


def _released(state: LedgerState, row: dict[str, Any]) -> dict[str, Any] | None:
    """Who had put the release where it answered: the newest step before the route table that was in force."""
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
