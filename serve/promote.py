"""Promote: an approved release takes all traffic in steps, each judged, then becomes the champion.

A person takes the first step (`promote` in console, terminal or client), the controller where the policy requires no
review. The golden rows must match again before the release becomes the champion.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from lineage.state.entities import Model, Release
from serve.canary import hold, overdue
from serve.intent import Intention
from serve.judge.verdict import Judgement
from serve.ledger_view import LedgerView


def step(release: Release, judgement: Judgement, now: datetime) -> Intention | None:
    """The next fact of a release for which `canary.step` returned None; None where it waits or is ready."""
    state, name = release.state, release.release
    if state == "review" and not release.terms.review.required:
        first = release.next_share("rollout")
        return Intention("RolloutStepped", name, {"share": first, "judgement": judgement.to_dict()})
    if state != "rollout":
        return None
    if judgement.verdict != "ADVANCE":
        return overdue(release, release.stepped_at, judgement, now) or hold(release, judgement, now)
    share = release.next_share("rollout")
    if share is None:
        return None
    return Intention("RolloutStepped", name, {"share": share, "judgement": judgement.to_dict()})


def is_ready(release: Release, judgement: Judgement) -> bool:
    """Whether only the golden rows remain to be checked before the release becomes the champion."""
    last = release.terms.rollout.steps[-1]
    return release.state == "rollout" and release.share >= last and judgement.verdict == "ADVANCE"


def promotion(model: Model, release: Release, golden: dict[str, Any], judgement: Judgement | None = None) -> Intention:
    """ReleasePromoted when every golden row matches, else CanaryAborted."""
    if not golden["count"] or golden["matched"] != golden["count"]:
        why = f"{golden['matched']} of {golden['count']} golden rows came out as they were; all have to"
        return Intention("CanaryAborted", release.release, {"why": why, "judgement": None}, reason=why)
    last = judgement.to_dict() if judgement else None
    data = {"digest": release.digest, "replaced": model.champion, "golden": golden, "judgement": last}
    return Intention("ReleasePromoted", release.release, data)


def retirements(model: Model, view: LedgerView) -> list[Intention]:
    """ChampionRetired for each former champion that is still in that state."""
    champion = model.champion
    return [
        Intention("ChampionRetired", release.release, {"replaced_by": champion})
        for release in view.of_model(model.model)
        if champion and release.state == "champion" and release.release != champion
    ]
