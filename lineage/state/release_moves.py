"""What each kind of fact about a release changes in the fold, beside its state. Called by the fold only."""

from __future__ import annotations

from typing import Any

from lineage.state.entities import Approval, CheckOutcome, Hold, Model, Release, Review, Rollback, Step
from lineage.state.people import person_of

Record = dict[str, Any]


def step_of(record: Record) -> Step:
    """The step that a fact is in the history of a release."""
    return Step(record["kind"], record["seq"], record["at"], record["actor"]["name"], record["data"].get("share"))


def move_release(model: Model, release: Release, record: Record) -> None:
    """Apply a fact about a release to it and to its model; facts of other kinds change nothing here."""
    handler = _HANDLERS.get(record["kind"])
    if handler is not None:
        handler(model, release, record)


def _checked(model: Model, release: Release, record: Record) -> None:
    data = record["data"]
    release.checks[data["check"]] = CheckOutcome(data["status"], record["seq"], data["title"])


def _validated(model: Model, release: Release, record: Record) -> None:
    release.report_digest = record["data"]["report_digest"]


def _canary_started(model: Model, release: Release, record: Record) -> None:
    data = record["data"]
    release.share, release.salt, release.control = data["share"], data["salt"], data["control"]
    release.canary_started_at = release.stepped_at = record["at"]
    model.challenger, model.control = release.release, data["control"]
    model.share, model.salt = data["share"], data["salt"]


def _stepped(model: Model, release: Release, record: Record) -> None:
    release.share = model.share = record["data"]["share"]
    release.stepped_at, release.hold = record["at"], None


def _hold(model: Model, release: Release, record: Record) -> None:
    release.hold = Hold(record["data"]["why"], record["at"])


def _review_requested(model: Model, release: Release, record: Record) -> None:
    release.review = Review(record["at"], record["data"]["due_at"])
    release.hold = None


def _review_decided(model: Model, release: Release, record: Record) -> None:
    decision = record["data"]["decision"]
    given = Approval(record["actor"]["name"], decision, record["at"], record["reason"], person_of(record))
    release.approvals.append(given)


def _shadowed(model: Model, release: Release, record: Record) -> None:
    model.shadow = release.release if record["kind"] == "ShadowStarted" else None


def _promoted(model: Model, release: Release, record: Record) -> None:
    model.champions.append(release.release)
    release.promoted_at, release.hold = record["at"], None


def _rollback_ordered(model: Model, release: Release, record: Record) -> None:
    model.champions.remove(release.release)
    model.rollback = Rollback(release.release, record["data"]["to"], record["at"], record["seq"])
    if record["data"]["to"] == "baseline":
        model.champions.clear()
    model.share = 0.0  # the challenger was judged against the champion that was rolled back


def _rolled_back(model: Model, release: Release, record: Record) -> None:
    here = model.rollback
    if here is not None and here.release == release.release and here.to == "baseline":
        model.rollback = None


def _reinstated(model: Model, release: Release, record: Record) -> None:
    model.rollback = None


_HANDLERS = {
    "CheckCompleted": _checked,
    "CandidateValidated": _validated,
    "CandidateRejected": _validated,
    "ShadowStarted": _shadowed,
    "ShadowStopped": _shadowed,
    "CanaryStarted": _canary_started,
    "CanaryStepped": _stepped,
    "CanaryHeld": _hold,
    "ReviewRequested": _review_requested,
    "ReviewDecided": _review_decided,
    "RolloutStepped": _stepped,
    "ReleasePromoted": _promoted,
    "RollbackOrdered": _rollback_ordered,
    "ReleaseRolledBack": _rolled_back,
    "ChampionReinstated": _reinstated,
}
