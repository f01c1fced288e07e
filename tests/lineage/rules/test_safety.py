"""The kill switch, breakers and the shadow: one person stops, two let go, and nothing else ever does."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from lineage.errors import InvalidError, PlimsollError, RefusedError, UnknownError
from lineage.facts.registry import FACTS
from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.rules.roles import HUMAN_ONLY, PLATFORM
from lineage.state.fold import LedgerState
from lineage.state.safety import Kill, stricter
from tests.support.sample_facts import (
    AUTHOR,
    CONTROLLER,
    MODEL,
    OPERATOR,
    TRAINER,
    VALIDATOR,
    Hand,
    Teller,
    judgement,
    record_of,
    sample,
)

SECOND = Actor("second-operator", "operator")
EACH = [MODEL, None]
each_scope = pytest.mark.parametrize("model", EACH, ids=["one model", "all models"])


class Switch:
    """The switch of one model or of all."""

    def __init__(self, ledger: Ledger, model: str | None) -> None:
        self.ledger, self.model = ledger, model

    @property
    def kill(self) -> Kill | None:
        state = self.ledger.state
        return state.models[self.model].kill if self.model is not None else state.kill

    def say(self, kind: str, actor: Actor, **data: Any) -> dict[str, Any]:
        return self.ledger.append(Draft(kind, actor, data, self.model, None, "scores look wrong"))

    def pull(self, actor: Actor = OPERATOR, answer: str = "baseline") -> dict[str, Any]:
        return self.say("KillSwitchPulled", actor, answer=answer)

    def ask(self, actor: Actor = OPERATOR, **wrong: int) -> dict[str, Any]:
        seq = self.kill.seq if self.kill else 1
        return self.say("KillReleaseRequested", actor, **{"pulled": seq} | wrong)

    def confirm(self, actor: Actor = VALIDATOR, **wrong: int) -> dict[str, Any]:
        kill = self.kill
        known = {"pulled": kill.seq if kill else 1, "requested": (kill and kill.asked_seq) or 1}
        return self.say("KillSwitchReleased", actor, **known | wrong)

    def refuses(self, code: str, act: Any, *words: Any, **more: Any) -> RefusedError:
        before, fold = len(self.ledger.records), self.ledger.state.to_dict()
        with pytest.raises(RefusedError) as caught:
            act(*words, **more)
        assert caught.value.code == code, caught.value.message
        assert (len(self.ledger.records), self.ledger.state.to_dict()) == (before, fold)
        return caught.value


@pytest.fixture
def switch(teller: Teller, model: str | None) -> Switch:
    teller.champion()
    return Switch(teller.ledger, model)


@each_scope
def test_one_person_stops_and_two_let_go(switch: Switch, clock: Hand) -> None:
    pulled = switch.pull(VALIDATOR)
    assert switch.kill is not None
    assert asdict(switch.kill) == {
        "by": "validator",
        "at": pulled["at"],
        "seq": pulled["seq"],
        "answer": "baseline",
        "reason": "scores look wrong",
        "since": pulled["at"],
        "asked_by": None,
        "asked_at": None,
        "asked_seq": None,
        "asked_reason": None,
    }
    clock.later(minutes=5)
    asked = switch.ask(VALIDATOR)
    assert switch.kill.by == switch.kill.asked_by == "validator", "whoever pulled may be one of the two"
    assert (switch.kill.asked_at, switch.kill.asked_seq) == (asked["at"], asked["seq"])
    alone = switch.refuses("four_eyes", switch.confirm, VALIDATOR)
    assert alone.status == 403
    assert "second person" in alone.message
    switch.confirm(OPERATOR)
    assert switch.kill is None


@each_scope
def test_what_is_refused_and_why(switch: Switch) -> None:
    for act in (switch.ask, switch.confirm):
        assert "not pulled" in switch.refuses("not_pulled", act).message
    switch.pull()
    assert "operator" in switch.refuses("pulled", switch.pull, VALIDATOR).message
    switch.refuses("not_asked", switch.confirm)
    assert switch.refuses("stale", switch.ask, pulled=1).status == 412
    switch.ask()
    assert "operator asked" in switch.refuses("asked", switch.ask, VALIDATOR).message
    switch.refuses("stale", switch.confirm, requested=1)
    switch.refuses("stale", switch.confirm, pulled=1)
    switch.confirm()
    switch.refuses("not_pulled", switch.confirm)


@each_scope
def test_stopping_more_is_allowed_at_once_and_stopping_less_never(switch: Switch, clock: Hand) -> None:
    first = switch.pull()
    switch.ask()
    clock.later(minutes=1)
    second = switch.pull(SECOND, "nothing")
    assert switch.kill.asked_by is None, "whoever stops more takes back a request to let go"
    assert (switch.kill.since, switch.kill.at) == (first["at"], second["at"])
    assert "two people" in switch.refuses("pulled", switch.pull, OPERATOR, "baseline").message
    switch.refuses("not_asked", switch.confirm)
    switch.ask(SECOND)
    switch.pull(VALIDATOR, "nothing")
    assert switch.kill.asked_by is None, "pulling again what somebody wants to release is to object"


@each_scope
@pytest.mark.parametrize("kind", ["KillSwitchPulled", "KillReleaseRequested", "KillSwitchReleased"])
def test_no_machine_and_no_other_role_has_the_switch(switch: Switch, kind: str) -> None:
    switch.pull()
    switch.ask()
    data = {"KillSwitchPulled": {"answer": "nothing"}}.get(kind) or {"pulled": switch.kill.seq}
    if kind == "KillSwitchReleased":
        data["requested"] = switch.kill.asked_seq
    auditor, itself = Actor("auditor", "auditor"), Actor("ledger", PLATFORM)
    for actor in (CONTROLLER, TRAINER, AUTHOR, auditor, Actor("client", "client"), itself):
        assert switch.refuses("role", switch.say, kind, actor, **data).status == 403
    assert kind in HUMAN_ONLY


@pytest.mark.parametrize("kind", sorted(FACTS))
def test_no_other_fact_and_no_time_lets_go(kind: str) -> None:
    """Whatever is on record after a pull, what is pulled stays so until somebody confirmed its release."""
    state = LedgerState()
    pulled = record_of("KillSwitchPulled", answer="nothing")
    told = [record_of("ModelTrained"), pulled | {"release": None}, pulled | {"model": None, "release": None}]
    for seq, record in enumerate(told, 1):
        state.apply(record | {"seq": seq})
    try:
        state.apply(record_of(kind) | {"seq": 4, "at": "2099-01-01T00:00:00.000000Z"})
    except (LookupError, ValueError):
        return  # it cannot follow
    assert state.kill is not None
    assert (state.models[MODEL].kill is None) is (kind == "KillSwitchReleased")


@each_scope
def test_no_release_takes_traffic_while_it_is_stopped(teller: Teller, model: str | None) -> None:
    switch = Switch(teller.ledger, model)
    champion = teller.champion()
    canary = teller.register()
    switch.pull()
    error = switch.refuses("killed", teller.say, "CanaryStarted", canary, OPERATOR, control=champion)
    assert "operator" in error.message
    assert "Rolling back" in error.message
    switch.ask()
    switch.refuses("killed", teller.say, "CanaryStarted", canary, OPERATOR, control=champion)
    switch.confirm()
    teller.canary(canary)
    switch.pull()
    switch.refuses("killed", teller.say, "CanaryStepped", canary)
    switch.ask()
    switch.confirm()
    teller.to_review(canary)
    switch.pull()
    teller.approve(canary)
    switch.refuses("killed", teller.say, "RolloutStepped", canary, OPERATOR)
    switch.ask()
    switch.confirm()
    teller.rollout(canary)
    teller.say("RolloutStepped", canary, share=1.0)
    switch.pull()
    switch.refuses("killed", teller.say, "ReleasePromoted", canary, digest=teller.digest(canary), replaced=champion)


@each_scope
def test_what_makes_it_safer_stays_possible(teller: Teller, model: str | None) -> None:
    champion = teller.champion()
    release = teller.bring(State.REVIEW)
    Switch(teller.ledger, model).pull()
    teller.approve(release)
    teller.say("CanaryHeld", release)
    teller.say("CanaryAborted", release, OPERATOR)
    teller.say("RollbackOrdered", champion, OPERATOR, to="baseline")
    teller.say("ReleaseRolledBack", champion)
    teller.say("RetrainRequested", None, AUTHOR)
    teller.register()


def test_a_model_without_a_champion_can_be_stopped_and_an_unknown_one_cannot(teller: Teller) -> None:
    teller.train()
    Switch(teller.ledger, MODEL).pull()
    assert teller.ledger.state.models[MODEL].kill
    for name in ("credit-defualt", ""):
        with pytest.raises(PlimsollError) as caught:
            Switch(teller.ledger, name).pull()
        assert isinstance(caught.value, UnknownError if name else InvalidError)
        assert caught.value.field == "model"
    assert teller.ledger.state.kill is None, "a name that is left empty does not stop all"


def test_a_model_and_all_of_them_are_stopped_and_let_go_each_for_itself(teller: Teller) -> None:
    teller.champion()
    one, everybody = Switch(teller.ledger, MODEL), Switch(teller.ledger, None)
    everybody.pull()
    one.pull(answer="nothing")
    everybody.ask()
    everybody.confirm()
    assert (one.kill.answer, everybody.kill) == ("nothing", None)
    everybody.refuses("killed", teller.say, "CanaryStarted", teller.register(), OPERATOR, control=f"{MODEL}@1")
    assert stricter([one.kill, None]) == "nothing"
    assert stricter([replace(one.kill, answer="baseline"), None]) == "baseline"
    assert stricter([None, None]) == ""


def test_a_model_that_is_new_is_stopped_with_all_the_others(ledger: Ledger) -> None:
    Switch(ledger, None).pull()
    teller = Teller(ledger, "new")
    with pytest.raises(RefusedError, match="all models: killed by operator"):
        teller.canary(teller.register())


@each_scope
def test_it_stays_stopped_over_a_restart(switch: Switch) -> None:
    switch.pull(answer="nothing")
    switch.ask()
    folder, before = switch.ledger._log.folder, switch.ledger.state.to_dict()
    switch.ledger.close()
    switch.ledger = Ledger(folder)
    assert switch.ledger.state.to_dict() == before
    assert switch.kill.answer == "nothing"
    switch.confirm()
    assert switch.kill is None
    switch.ledger.close()


@each_scope
def test_what_does_not_reach_the_disk_did_not_stop_anybody(switch: Switch) -> None:
    before = switch.ledger.state.to_dict()
    state = switch.ledger.state
    actor = {"name": "operator", "role": "operator"}
    state.begin()
    for number, kind in enumerate(("KillSwitchPulled", "KillReleaseRequested"), state.seq + 1):
        about = {"model": switch.model, "release": None, "actor": actor}
        state.apply(record_of(kind) | about | {"seq": number})
    state.apply(record_of("BreakerOpened") | {"seq": state.seq + 1})
    assert state.to_dict() != before
    state.roll_back()
    assert state.to_dict() == before


@each_scope
def test_whoever_lets_go_must_have_seen_what_stands(switch: Switch) -> None:
    old = switch.ledger.state.etag_of(switch.model)
    switch.pull()
    seen = switch.ledger.state.etag_of(switch.model)
    assert seen == switch.kill.seq != old
    draft = Draft("KillReleaseRequested", OPERATOR, {"pulled": seen}, switch.model, None, "because", None, old)
    error = switch.refuses("stale", switch.ledger.append, draft)
    assert (error.status, error.detail["etag"]) == (412, seen)


# Breakers


def test_breakers_stand_by_replica_until_they_are_closed(teller: Teller) -> None:
    teller.champion()
    view = teller.ledger.state.models[MODEL]
    etag = view.etag
    opened = teller.say("BreakerOpened")
    teller.say("BreakerOpened", replica="other", cause="slow")
    told = {"release": f"{MODEL}@1", "cause": "constant_scores", "since": opened["data"]["since"], "times": 1}
    assert asdict(view.breakers["a1b2c3"]) == told | {"seq": opened["seq"]}
    teller.say("BreakerOpened", times=2)
    assert (len(view.breakers), view.breakers["a1b2c3"].times) == (2, 2)
    for cause in ("replica gone", "champion changed"):
        teller.say("BreakerClosed", replica="other", cause=cause)
        teller.say("BreakerOpened", replica="other", cause="slow")
    teller.say("BreakerClosed")
    assert list(view.breakers) == ["other"]
    assert view.etag == etag, "a machine's doing changes nothing about what a person decides"


@pytest.mark.parametrize(
    ("kind", "changes", "error"),
    [
        ("BreakerClosed", {}, RefusedError),
        ("BreakerOpened", {"release": f"{MODEL}@9"}, UnknownError),
        ("BreakerOpened", {"release": "other@1"}, UnknownError),
        ("BreakerOpened", {"cause": "Because of NaN"}, InvalidError),
        ("BreakerOpened", {"replica": ""}, InvalidError),
        ("BreakerOpened", {"times": 0}, InvalidError),
        ("BreakerClosed", {"cause": "time"}, InvalidError),
        ("BreakerClosed", {"seconds": -1.0}, InvalidError),
    ],
)
def test_a_breaker_is_of_a_release_and_says_why(
    kind: str, changes: dict[str, Any], error: type[PlimsollError], teller: Teller
) -> None:
    teller.champion()
    Teller(teller.ledger, "other").train()
    with pytest.raises(error):
        teller.say(kind, **changes)
    assert teller.ledger.state.models[MODEL].breakers == {}


def test_a_breaker_is_closed_for_the_release_it_was_opened_for(teller: Teller) -> None:
    teller.champion()
    teller.champion()
    teller.say("BreakerOpened")
    with pytest.raises(RefusedError, match="nothing to close"):
        teller.say("BreakerClosed", release=f"{MODEL}@2")


def test_people_state_nothing_about_breakers(teller: Teller) -> None:
    teller.champion()
    for kind in ("BreakerOpened", "BreakerClosed"):
        with pytest.raises(RefusedError) as caught:
            teller.say(kind, None, OPERATOR)
        assert caught.value.code == "role"


# The shadow


def test_a_shadow_runs_beside_the_champion_and_moves_no_state(teller: Teller) -> None:
    teller.champion()
    release = teller.register()
    view = teller.ledger.state.models[MODEL]
    for actor in (OPERATOR, CONTROLLER):
        teller.say("ShadowStarted", release, actor)
        assert (view.shadow, view.challenger, view.share) == (release, None, 0.0)
        assert teller.ledger.state.releases[release].state is State.REGISTERED
        teller.say("ShadowStopped", release, actor)
        assert view.shadow is None


def shadowed(teller: Teller) -> str:
    release = teller.register()
    teller.say("ShadowStarted", release, OPERATOR)
    return release


def test_its_own_canary_ends_it_and_that_of_another_has_to_wait(teller: Teller) -> None:
    release, other = shadowed(teller), teller.register()
    with pytest.raises(RefusedError, match="stop that first"):
        teller.canary(other)
    teller.canary(release)
    view = teller.ledger.state.models[MODEL]
    assert (view.shadow, view.challenger) == (None, release)


@pytest.mark.parametrize("beside", ["shadow", "canary"])
def test_one_release_is_scored_beside_the_champion(beside: str, teller: Teller) -> None:
    first = shadowed(teller) if beside == "shadow" else teller.bring(State.CANARY)
    second = teller.register()
    for release in {second, first} if beside == "shadow" else {second}:
        with pytest.raises(RefusedError, match=first) as caught:
            teller.say("ShadowStarted", release, OPERATOR)
        assert caught.value.code == ("order" if release == first else "in_flight")


def test_bytes_that_are_barred_or_answer_already_are_not_shadowed(teller: Teller) -> None:
    champion = teller.champion()
    digest = teller.digest(champion)

    def again() -> str:
        release = teller.train(digest=digest)
        teller.check(release)
        teller.say("CandidateValidated", release)
        teller.say("ReleaseRegistered", release, digest=digest)
        return release

    same = again()
    with pytest.raises(RefusedError) as caught:
        teller.say("ShadowStarted", same, OPERATOR)
    assert caught.value.code == "same_bytes"
    teller.say("RollbackOrdered", champion, OPERATOR, to="baseline")
    with pytest.raises(RefusedError) as caught:
        teller.say("ShadowStarted", same, OPERATOR)
    assert caught.value.code == "barred"


def test_a_shadow_whose_bytes_fail_elsewhere_ends(teller: Teller) -> None:
    release = shadowed(teller)
    twin = teller.train(digest=teller.digest(release))
    teller.say("CheckCompleted", twin, status="fail")
    teller.say("CandidateRejected", twin)
    assert teller.ledger.state.models[MODEL].shadow is None


def test_a_shadow_that_does_not_run_is_not_stopped(teller: Teller) -> None:
    with pytest.raises(RefusedError, match="nothing to stop"):
        teller.say("ShadowStopped", teller.register(), OPERATOR)
    with pytest.raises(InvalidError):
        teller.say("ShadowStopped", f"{MODEL}@1", CONTROLLER, code="Because I say so")


def test_a_shadow_may_run_while_all_is_stopped(teller: Teller) -> None:
    teller.champion()
    Switch(teller.ledger, None).pull()
    assert shadowed(teller) == teller.ledger.state.models[MODEL].shadow, "nobody is answered by it"


def test_a_canary_takes_its_step_as_before(teller: Teller) -> None:
    release = teller.canary(shadowed(teller))
    teller.say("CanaryStepped", release, judgement=judgement())
    assert sample("CanaryStepped")["share"] == teller.ledger.state.models[MODEL].share
