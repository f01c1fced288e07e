"""What waits for a person: releases, kill switches, breakers, jobs and alerts that this role can act on, worst first.

Pure: the fold, the person and the time in; items out. Whether a release can take its canary is asked of the guard by a
dry run, so that nothing is listed as waiting that the ledger would refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from lineage.clock import instant
from lineage.lifecycle import State
from lineage.rules import available
from lineage.rules.proposal import Actor
from lineage.rules.roles import PEOPLE_MAY
from lineage.state.alerts import Alert
from lineage.state.entities import Approval, Job, Model, Release
from lineage.state.fold import LedgerState
from lineage.state.safety import Breaker, Kill

#: How long a quarantined or rejected release stays listed.
RECENT = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that waits.

    Attributes:
        kind: review, approved, registered, held, quarantined, rejected, kill_release, breaker, job or alert.
        rank: 0 is the worst.
        at: since when.
        model: None for the kill switch of all models.
        release: where it is about one.
        champion: of the model, None where the baseline answers.
        stopped: what answers under the kill switches of the model: `baseline`, `nothing`, or empty.
        about: of the release, where one waits.
        kill: the switch that another person asks to release.
        breakers: those open, by replica.
        job: the training run that ended without success.
        alert: the open alert.
        requested: whether a training run of the model is asked for already.
    """

    kind: str
    rank: int
    at: str
    model: str | None
    release: str | None
    champion: str | None = None
    stopped: str = ""
    about: Standing | None = None
    kill: Kill | None = None
    breakers: dict[str, Breaker] = field(default_factory=dict)
    job: Job | None = None
    alert: Alert | None = None
    requested: bool = False


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What an item says of the release that waits.

    Attributes:
        due_at: of a review.
        approved_by: who approved it.
        held: why a canary is held.
        shadow: whether it scores in the shadow.
        failed_checks: those that did not pass.
        rejected: the decision against it.
        had_traffic: whether it ever answered customers.
    """

    author: str
    share: float
    judgement: dict[str, Any] | None
    due_at: str | None = None
    approved_by: str | None = None
    held: str | None = None
    shadow: bool = False
    failed_checks: list[str] = field(default_factory=list)
    rejected: Approval | None = None
    had_traffic: bool = False


def inbox(state: LedgerState, actor: Actor, now: datetime) -> list[Item]:
    """Everything that waits for this person, worst first, older before newer."""
    items = list(_kill_releases(state, actor))
    for model in state.models.values():
        items += _of_model(state, model, actor)
    for release in state.releases.values():
        if release.state in _OF_STATE:
            items += _of_release(state, release, actor, now)
    return sorted(items, key=lambda item: (item.rank, item.at))


def _can(kind: str, actor: Actor) -> bool:
    return actor.has(PEOPLE_MAY[kind])


def _of_release(state: LedgerState, release: Release, actor: Actor, now: datetime) -> Iterator[Item]:
    model, at = state.models[release.model], release.steps[-1].at

    def item(kind: str, rank: int, since: str = at) -> Item:
        about = _standing(release, model)
        return Item(kind=kind, rank=rank, at=since, release=release.release, about=about, **_answers(state, model))

    match release.state:
        case State.REVIEW if _can("ReviewDecided", actor) and not _own(release, actor) and release.review:
            late = instant(release.review.due_at) < now
            yield item("review", 1 if late else 3, release.review.requested_at)
        case State.APPROVED if _can("RolloutStepped", actor) and not model.stopped(state.kill):
            yield item("approved", 4)
        case State.CANARY | State.ROLLOUT if release.hold is not None and _can("CanaryStarted", actor):
            yield item("held", 6, release.hold.at)
        case State.QUARANTINED if _recent(release, now) and (_can("CanaryAborted", actor) or _own(release, actor)):
            yield item("quarantined", 0)
        case State.REJECTED if _recent(release, now) and _own(release, actor):
            yield item("rejected", 2)


#: States in which something may wait for a person; registered releases are looked at by model.
_OF_STATE = frozenset(
    {State.REVIEW, State.APPROVED, State.CANARY, State.ROLLOUT, State.QUARANTINED, State.REJECTED},
)


def _of_model(state: LedgerState, model: Model, actor: Actor) -> Iterator[Item]:
    yield from _registered(state, model, actor)
    job, answers = model.last_job, _answers(state, model)
    if (
        job
        and job.status in ("failed", "stopped")
        and (_can("RollbackOrdered", actor) or job.author_id == actor.person)
    ):
        yield Item(kind="job", rank=2, at=job.finished_at or job.at, release=None, job=job, **answers)
    if model.breakers and _can("RollbackOrdered", actor):
        since = min(breaker.since for breaker in model.breakers.values())
        breakers = dict(model.breakers)
        yield Item(kind="breaker", rank=1, at=since, release=model.champion, breakers=breakers, **answers)
    for alert in model.alerts:
        if _can("CanaryAborted", actor) or (alert.alert == "drift" and _can("RetrainRequested", actor)):
            rank, requested = 2 if alert.severity == "page" else 7, bool(model.requests)
            yield Item(
                kind="alert",
                rank=rank,
                at=alert.at,
                release=alert.release,
                alert=alert,
                requested=requested,
                **answers,
            )


def _registered(state: LedgerState, model: Model, actor: Actor) -> Iterator[Item]:
    """The newest registered release, if its canary can be started now."""
    if not _can("CanaryStarted", actor) or model.challenger or model.stopped(state.kill):
        return
    names = (name for name in reversed(model.names()) if state.releases[name].state is State.REGISTERED)
    name = next(names, None)
    if name is not None and available.canary(state, name, actor).possible:
        release = state.releases[name]
        yield Item(
            kind="registered",
            rank=5,
            at=release.steps[-1].at,
            release=name,
            about=_standing(release, model),
            **_answers(state, model),
        )


def _kill_releases(state: LedgerState, actor: Actor) -> Iterator[Item]:
    """Kill switches whose release another person has asked for."""
    if not _can("KillSwitchReleased", actor):
        return
    pulled: list[tuple[str | None, Kill | None]] = [(None, state.kill)]
    pulled += [(name, model.kill) for name, model in state.models.items()]
    for name, kill in pulled:
        if kill is not None and kill.asked_by_id not in (None, actor.person) and kill.asked_at is not None:
            answers = _answers(state, state.models[name]) if name is not None else {"model": None}
            release = state.models[name].champion if name is not None else None
            yield Item(kind="kill_release", rank=1, at=kill.asked_at, release=release, kill=kill, **answers)


def _answers(state: LedgerState, model: Model) -> dict[str, Any]:
    return {"model": model.model, "champion": model.champion, "stopped": model.stopped(state.kill)}


def _standing(release: Release, model: Model) -> Standing:
    return Standing(
        author=release.author,
        share=release.share,
        judgement=release.judgement,
        due_at=release.review.due_at if release.review else None,
        approved_by=release.approvals[-1].by if release.approvals else None,
        held=release.hold.why if release.hold else None,
        shadow=model.shadow == release.release,
        failed_checks=[name for name, outcome in release.checks.items() if outcome.status != "pass"],
        rejected=next((one for one in reversed(release.approvals) if one.decision == "reject"), None),
        had_traffic=release.canary_started_at is not None,
    )


def _own(release: Release, actor: Actor) -> bool:
    return release.author_id == actor.person


def _recent(release: Release, now: datetime) -> bool:
    return now - instant(release.steps[-1].at) <= RECENT
