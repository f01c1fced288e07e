"""Random facts about random releases: mostly lawful, some with one fault, some arbitrary."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from lineage.facts.registry import FACTS, subject_of
from lineage.lifecycle import IN_FLIGHT, State
from lineage.policy import parse_policy
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.state.entities import Release
from lineage.state.fold import LedgerState
from tests.support.accounts import in_era
from tests.support.sample_facts import AUTHOR, CONTROLLER, OPERATOR, POLICY, VALIDATOR, digest, judgement, sample

MATCHED = {"count": 2, "matched": 2}
POLICIES = [POLICY, POLICY | {"review": {"required": False}}, POLICY | {"canary": {"steps": [0.25]}}]
KINDS = [kind for kind in FACTS if subject_of(kind) == "release"] + ["ModelTrained", "JobStarted", "RetrainRequested"]
SWITCH = [kind for kind in FACTS if subject_of(kind) == "one_or_all"]
BREAKERS = ["BreakerOpened", "BreakerClosed"]
STOPPERS = [VALIDATOR, OPERATOR, Actor("second-operator", "operator")]
ACTORS = [CONTROLLER, CONTROLLER, CONTROLLER, AUTHOR, VALIDATOR, OPERATOR, Actor("author-and-validator", "validator")]


def switch(random: Random, state: LedgerState) -> Draft:
    """A fact about a kill switch, often a lawful one."""
    killed: list[str | None] = [name for name, view in state.models.items() if view.kill]
    killed += [None] if state.kill else []
    some = killed if killed and random.random() < 0.8 else [None, *state.models]
    model = random.choice(some)
    kill = state.models[model].kill if model is not None else state.kill
    kind = random.choice(SWITCH)
    if random.random() < 0.7:
        asked = kill is not None and kill.asked_by is not None
        kind = "KillSwitchReleased" if asked else "KillReleaseRequested" if kill else "KillSwitchPulled"
    known = {"pulled": kill.seq, "requested": kill.asked_seq or 1} if kill else {}
    given = {"answer": random.choice(["baseline", "nothing"])} | known
    data = {name: given.get(name, value) for name, value in sample(kind).items()}
    return Draft(kind, random.choice([*STOPPERS, random.choice(ACTORS)]), data, model, None, "because")


def breaker(random: Random, state: LedgerState) -> Draft:
    release = random.choice(list(state.releases.values()))
    data = sample(random.choice(BREAKERS), release=release.release, replica=random.choice("ab"))
    kind = "BreakerOpened" if "times" in data else "BreakerClosed"
    return Draft(kind, random.choice(ACTORS), data, release.model)


def shadow(random: Random, state: LedgerState) -> Draft:
    release = random.choice(list(state.releases.values())[-3:])
    kind = random.choice(["ShadowStarted", "ShadowStopped"])
    return Draft(kind, OPERATOR, sample(kind), release.model, release.release, "because")


def wild(random: Random, state: LedgerState) -> Draft:
    """Any fact about any release, with values that fit or nearly fit."""
    kind, actor = random.choice(KINDS), random.choice(ACTORS)
    model = random.choice(["one", "one", "one", "two"])
    if kind == "ModelTrained" or not state.releases:
        author = random.choice(["scientist", "author-and-validator"])
        policy = random.choice(POLICIES)
        data = sample("ModelTrained", digest=digest(random.randrange(6)), author=author, policy=policy)
        return Draft("ModelTrained", actor, data, model, None, "because")
    if kind in ("JobStarted", "RetrainRequested"):
        changes = {"request": random.randrange(1, state.seq + 2)} if kind == "JobStarted" else {}
        return Draft(kind, actor, sample(kind, **changes), model, None, "because")
    release = random.choice(list(state.releases.values())[-6:])
    return Draft(kind, actor, values(random, kind, release, state), release.model, release.release, "because")


def bent(random: Random, draft: Draft, state: LedgerState) -> Draft:
    """A lawful fact with one value replaced by a random one."""
    if draft.release is None or random.random() < 0.2:
        return replace(draft, actor=random.choice(ACTORS))
    other = values(random, draft.kind, state.releases[draft.release], state)
    name = random.choice(list(draft.data))
    return replace(draft, data=draft.data | {name: other[name]})


def values(random: Random, kind: str, release: Release, state: LedgerState) -> dict[str, Any]:
    model = state.models[release.model]
    terms = parse_policy(release.policy)
    choices: dict[str, list[Any]] = {
        "share": [*terms.canary.steps, *terms.rollout.steps, 0.3],
        "digest": [release.digest, digest("other")],
        "control": [model.champion or "baseline", "baseline"],
        "replaced": [model.champion, None],
        "to": [model.previous or "baseline", "baseline"],
        "check": terms.validation.checks,
        "status": ["pass", "fail", "not_evaluated"],
        "golden": [MATCHED, {"count": 2, "matched": 1}, {"count": 0, "matched": 0}],
        "judgement": [judgement(), judgement("HOLD")],
        "decision": ["approve", "reject"],
    }
    return {name: random.choice(choices.get(name, [value])) for name, value in sample(kind).items()}


def likely_next(random: Random, state: LedgerState) -> Draft | None:
    """The fact that carries the newest unfinished release on, so that histories get long."""
    if random.random() < 0.08:
        standing = [state.releases[model.champion] for model in state.models.values() if model.champion]
        return rollback(random.choice(standing), state) if standing else None
    for release in reversed(state.releases.values()):
        model = state.models[release.model]
        same = {"digest": release.digest}
        left = [name for name in parse_policy(release.policy).validation.checks if name not in release.checks]
        step: dict[State, tuple[str, Actor, dict[str, Any]]] = {
            State.TRAINED: ("CheckCompleted", CONTROLLER, {"check": left[0]})
            if left
            else ("CandidateValidated", CONTROLLER, {}),
            State.VALIDATED: ("ReleaseRegistered", CONTROLLER, same),
            State.REGISTERED: (
                "CanaryStarted",
                OPERATOR,
                {"share": parse_policy(release.policy).canary.steps[0], "control": model.champion or "baseline"},
            ),
            State.CANARY: ("CanaryStepped", CONTROLLER, {})
            if release.share < 0.25
            else ("ReviewRequested", CONTROLLER, {}),
            State.REVIEW: ("ReviewDecided", VALIDATOR, same),
            State.APPROVED: ("RolloutStepped", OPERATOR, {}),
            State.ROLLOUT: ("RolloutStepped", CONTROLLER, {"share": 1.0})
            if release.share < 1
            else ("ReleasePromoted", CONTROLLER, same | {"replaced": model.champion}),
        }
        if release.state in IN_FLIGHT and release.control != (model.champion or "baseline"):
            step = dict.fromkeys(IN_FLIGHT, ("CanaryAborted", CONTROLLER, {}))
        if release.state in step:
            kind, actor, changes = step[release.state]
            return Draft(kind, actor, sample(kind, **changes), release.model, release.release, "because")
    data = sample("ModelTrained", digest=digest(random.randrange(400)), policy=random.choice(POLICIES))
    return Draft("ModelTrained", CONTROLLER, data, "one", None, "because")


def rollback(release: Release, state: LedgerState) -> Draft:
    """One step of a rollback: the order, or the controller's fact after it."""
    model = state.models[release.model]
    if model.rollback is None:
        data = sample("RollbackOrdered", to=model.previous or "baseline")
        return Draft("RollbackOrdered", OPERATOR, data, release.model, release.release, "because")
    left = state.releases[model.rollback.release]
    if left.state is State.ROLLING_BACK:
        return Draft("ReleaseRolledBack", CONTROLLER, sample("ReleaseRolledBack"), left.model, left.release)
    return Draft("ChampionReinstated", CONTROLLER, sample("ChampionReinstated"), release.model, release.release)


def next_draft(random: Random, state: LedgerState) -> Draft:
    """The next fact, by an actor as the era of the state wants it."""
    draft = _any_draft(random, state)
    return replace(draft, actor=in_era(state, draft.kind, draft.actor))


def _any_draft(random: Random, state: LedgerState) -> Draft:
    luck = random.random()
    # Sooner let go than stopped, so that there is a story in between.
    if luck < (0.5 if state.kill or any(model.kill for model in state.models.values()) else 0.03):
        return switch(random, state)
    if state.releases and luck > 0.9:
        return breaker(random, state) if luck > 0.94 else shadow(random, state)
    likely, luck = likely_next(random, state), random.random()
    if likely is None or luck < 0.15:
        return wild(random, state)
    return likely if luck < 0.75 else bent(random, likely, state)
