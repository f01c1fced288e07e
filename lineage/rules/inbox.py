"""What waits for a person: releases, kill switches, breakers, jobs and alerts that this role can act on, worst first.

Pure: the fold, the person and the time in; items out. Whether a release can take its canary is asked of the guard by a
dry run, so that nothing is listed as waiting that the ledger would refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from lineage.clock import instant
from lineage.lifecycle import State
from lineage.rules import available
from lineage.rules.proposal import Actor
from lineage.rules.roles import PEOPLE_MAY
from lineage.state.entities import Model, Release
from lineage.state.fold import LedgerState
from lineage.state.safety import Kill

#: How long a quarantined or rejected release stays listed.
RECENT = timedelta(hours=24)


@dataclass(frozen=True)
class Item:
    """One thing that waits.

    Attributes:
        kind: review, approved, registered, held, quarantined, rejected, kill_release, breaker, job or alert.
        rank: 0 is the worst.
        at: since when.
        model: None for the kill switch of all models.
        release: where it is about one.
        facts: what is known of it, by kind; see the functions of this module.
    """

    kind: str
    rank: int
    at: str
    model: str | None
    release: str | None
    facts: dict[str, Any] = field(default_factory=dict)


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
    return actor.role in PEOPLE_MAY[kind]


def _of_release(state: LedgerState, release: Release, actor: Actor, now: datetime) -> Iterator[Item]:
    model = state.models[release.model]
    stopped, at = model.stopped(state.kill), release.steps[-1].at
    facts = {
        "author": release.author,
        "share": release.share,
        "champion": model.champion,
        "stopped": stopped,
        "judgement": release.judgement,
    }
    match release.state:
        case State.REVIEW if _can("ReviewDecided", actor) and actor.name != release.author and release.review:
            late = instant(release.review.due_at) < now
            facts["due_at"] = release.review.due_at
            yield Item("review", 1 if late else 3, release.review.requested_at, model.model, release.release, facts)
        case State.APPROVED if _can("RolloutStepped", actor) and not stopped:
            facts["approved_by"] = release.approvals[-1].by if release.approvals else None
            yield Item("approved", 4, at, model.model, release.release, facts)
        case State.CANARY | State.ROLLOUT if release.hold is not None and _can("CanaryStarted", actor):
            facts["why"] = release.hold.why
            yield Item("held", 6, release.hold.at, model.model, release.release, facts)
        case State.QUARANTINED if _recent(release, now) and (_can("CanaryAborted", actor) or _own(release, actor)):
            yield Item("quarantined", 0, at, model.model, release.release, facts | _reasons(release))
        case State.REJECTED if _recent(release, now) and _own(release, actor):
            facts |= _reasons(release) | {"had_traffic": release.canary_started_at is not None}
            yield Item("rejected", 2, at, model.model, release.release, facts)


#: States in which something may wait for a person; registered releases are looked at by model.
_OF_STATE = frozenset(
    {State.REVIEW, State.APPROVED, State.CANARY, State.ROLLOUT, State.QUARANTINED, State.REJECTED},
)


def _of_model(state: LedgerState, model: Model, actor: Actor) -> Iterator[Item]:
    yield from _registered(state, model, actor)
    job = model.last_job
    if job and job.status in ("failed", "stopped") and (_can("RollbackOrdered", actor) or job.author == actor.name):
        yield Item("job", 2, job.finished_at or job.at, model.model, None, asdict(job) | _answers(state, model))
    if model.breakers and _can("RollbackOrdered", actor):
        since = min(breaker.since for breaker in model.breakers.values())
        opened = {replica: asdict(breaker) for replica, breaker in model.breakers.items()}
        yield Item("breaker", 1, since, model.model, model.champion, {"breakers": opened} | _answers(state, model))
    for alert in model.alerts:
        if _can("CanaryAborted", actor) or (alert.alert == "drift" and _can("RetrainRequested", actor)):
            facts = asdict(alert) | {"requested": bool(model.requests)} | _answers(state, model)
            yield Item("alert", 2 if alert.severity == "page" else 7, alert.at, model.model, alert.release, facts)


def _registered(state: LedgerState, model: Model, actor: Actor) -> Iterator[Item]:
    """The newest registered release, if its canary can be started now."""
    if not _can("CanaryStarted", actor) or model.challenger or model.stopped(state.kill):
        return
    names = (name for name in reversed(model.names()) if state.releases[name].state is State.REGISTERED)
    name = next(names, None)
    if name is None:
        return
    canary = next(one for one in available.of_release(state, name, actor) if one.verb == "canary")
    if canary.possible:
        release = state.releases[name]
        facts = {"author": release.author, "shadow": model.shadow == name}
        yield Item("registered", 5, release.steps[-1].at, model.model, name, facts)


def _kill_releases(state: LedgerState, actor: Actor) -> Iterator[Item]:
    """Kill switches whose release another person has asked for."""
    if not _can("KillSwitchReleased", actor):
        return
    pulled: list[tuple[str | None, Kill | None]] = [(None, state.kill)]
    pulled += [(name, model.kill) for name, model in state.models.items()]
    for name, kill in pulled:
        if kill is not None and kill.asked_by not in (None, actor.name) and kill.asked_at is not None:
            champion = state.models[name].champion if name is not None else None
            yield Item("kill_release", 1, kill.asked_at, name, champion, asdict(kill))


def _answers(state: LedgerState, model: Model) -> dict[str, Any]:
    return {"champion": model.champion, "stopped": model.stopped(state.kill)}


def _reasons(release: Release) -> dict[str, Any]:
    failed = [name for name, outcome in release.checks.items() if outcome.status != "pass"]
    rejected = next((asdict(one) for one in reversed(release.approvals) if one.decision == "reject"), None)
    return {"failed_checks": failed, "rejected": rejected}


def _own(release: Release, actor: Actor) -> bool:
    return release.author == actor.name


def _recent(release: Release, now: datetime) -> bool:
    return now - instant(release.steps[-1].at) <= RECENT
