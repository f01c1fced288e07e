"""Canary: the challenger answers a share of live traffic, and the judge's verdict advances, holds or aborts it.

The verdict applies during review and rollout too: harm ends a release at every stage. A hold that outlasts the
policy's deadline ends with the champion kept.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from lineage.clock import instant
from lineage.state.entities import Model, Release
from serve.intent import Intention
from serve.judge.verdict import Judgement

_MAX_REASONS = 3  # in one CanaryHeld


def step(model: Model, release: Release, judgement: Judgement, now: datetime) -> Intention | None:
    """The next fact about a release in flight, or None where nothing changed.

    Args:
        model, release: of the ledger's fold; the release is the model's challenger.
        judgement: of the evidence up to `now`.
    """
    control = model.champion or "baseline"
    if control != release.control:
        return _abort(release, f"{release.control}, with which it was compared, no longer answers", judgement)
    if judgement.verdict == "ABORT":
        return _abort(release, "; ".join(judgement.reasons), judgement)
    if release.state != "canary":
        return None
    if judgement.verdict == "ADVANCE":
        return _advance(release, judgement, now)
    return overdue(release, release.canary_started_at, judgement, now) or hold(release, judgement, now)


def hold(release: Release, judgement: Judgement, now: datetime) -> Intention | None:
    """CanaryHeld with the judge's reasons, or None where they did not change or changed less than 5 s ago."""
    why = "; ".join(judgement.reasons[:_MAX_REASONS])
    held = release.hold
    if held and (held.why == why or (now - instant(held.at)).total_seconds() < 5.0):
        return None  # alternating reasons must not fill the record
    return Intention("CanaryHeld", release.release, {"why": why, "judgement": judgement.to_dict()})


def overdue(release: Release, since: str | None, judgement: Judgement, now: datetime) -> Intention | None:
    """CanaryAborted when the release has waited longer than the policy's deadline, else None."""
    minutes = release.terms.canary.deadline_minutes
    if since is None or now - instant(since) <= timedelta(minutes=minutes):
        return None
    why = f"not decided within {minutes:g} minutes; the champion is kept. Last: {judgement.reasons[0]}"
    return _abort(release, why, judgement)


def _advance(release: Release, judgement: Judgement, now: datetime) -> Intention:
    share = release.next_share("canary")
    content = judgement.to_dict()
    if share is not None:
        return Intention("CanaryStepped", release.release, {"share": share, "judgement": content})
    due = now + timedelta(hours=release.terms.review.sla_hours)
    return Intention("ReviewRequested", release.release, {"judgement": content, "due_at": due.isoformat()})


def _abort(release: Release, why: str, judgement: Judgement) -> Intention:
    return Intention("CanaryAborted", release.release, {"why": why, "judgement": judgement.to_dict()}, reason=why)
