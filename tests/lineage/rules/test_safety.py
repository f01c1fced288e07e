"""Kill switch, breakers and shadow: one person stops, two release, and nothing else does."""

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
    FactWriter,
    ManualClock,
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

    def record(self, kind: str, actor: Actor, **data: Any) -> dict[str, Any]:
        return self.ledger.append(Draft(kind, actor, data, self.model, None, "scores look wrong"))

    def pull(self, actor: Actor = OPERATOR, answer: str = "baseline") -> dict[str, Any]:
        return self.record("KillSwitchPulled", actor, answer=answer)

    def ask(self, actor: Actor = OPERATOR, **wrong: int) -> dict[str, Any]:
        seq = self.kill.seq if self.kill else 1
        return self.record("KillReleaseRequested", actor, **{"pulled": seq} | wrong)

    def confirm(self, actor: Actor = VALIDATOR, **wrong: int) -> dict[str, Any]:
        kill = self.kill
        known = {"pulled": kill.seq if kill else 1, "requested": (kill and kill.asked_seq) or 1}
        return self.record("KillSwitchReleased", actor, **known | wrong)

    def refuses(self, code: str, act: Any, *words: Any, **more: Any) -> RefusedError:
        before, fold = len(self.ledger.records), self.ledger.state.to_dict()
        with pytest.raises(RefusedError) as caught:
            act(*words, **more)
        assert caught.value.code == code, caught.value.message
        assert (len(self.ledger.records), self.ledger.state.to_dict()) == (before, fold)
        return caught.value


@pytest.fixture
def switch(writer: FactWriter, model: str | None) -> Switch:
    writer.champion()
    return Switch(writer.ledger, model)


@each_scope
def test_one_person_stops_and_two_let_go(switch: Switch, clock: ManualClock) -> None:
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
        "asked_by_id": None,
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
def test_stopping_more_is_allowed_at_once_and_stopping_less_never(switch: Switch, clock: ManualClock) -> None:
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
        assert switch.refuses("role", switch.record, kind, actor, **data).status == 403
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
def test_no_release_takes_traffic_while_it_is_stopped(writer: FactWriter, model: str | None) -> None:
    switch = Switch(writer.ledger, model)
    champion = writer.champion()
    canary = writer.register()
    switch.pull()
    error = switch.refuses("killed", writer.record, "CanaryStarted", canary, OPERATOR, control=champion)
    assert "operator" in error.message
    assert "Rolling back" in error.message
    switch.ask()
    switch.refuses("killed", writer.record, "CanaryStarted", canary, OPERATOR, control=champion)
    switch.confirm()
    writer.canary(canary)
    switch.pull()
    switch.refuses("killed", writer.record, "CanaryStepped", canary)
    switch.ask()
    switch.confirm()
    writer.to_review(canary)
    switch.pull()
    writer.approve(canary)
    switch.refuses("killed", writer.record, "RolloutStepped", canary, OPERATOR)
    switch.ask()
    switch.confirm()
    writer.rollout(canary)
    writer.record("RolloutStepped", canary, share=1.0)
    switch.pull()
    switch.refuses("killed", writer.record, "ReleasePromoted", canary, digest=writer.digest(canary), replaced=champion)


@each_scope
def test_what_makes_it_safer_stays_possible(writer: FactWriter, model: str | None) -> None:
    champion = writer.champion()
    release = writer.bring(State.REVIEW)
    Switch(writer.ledger, model).pull()
    writer.approve(release)
    writer.record("CanaryHeld", release)
    writer.record("CanaryAborted", release, OPERATOR)
    writer.record("RollbackOrdered", champion, OPERATOR, to="baseline")
    writer.record("ReleaseRolledBack", champion)
    writer.record("RetrainRequested", None, AUTHOR)
    writer.register()


def test_a_model_without_a_champion_can_be_stopped_and_an_unknown_one_cannot(writer: FactWriter) -> None:
    writer.train()
    Switch(writer.ledger, MODEL).pull()
    assert writer.ledger.state.models[MODEL].kill
    for name in ("credit-defualt", ""):
        with pytest.raises(PlimsollError) as caught:
            Switch(writer.ledger, name).pull()
        assert isinstance(caught.value, UnknownError if name else InvalidError)
        assert caught.value.field == "model"
    assert writer.ledger.state.kill is None, "a name that is left empty does not stop all"


def test_a_model_and_all_of_them_are_stopped_and_let_go_each_for_itself(writer: FactWriter) -> None:
    writer.champion()
    one, everybody = Switch(writer.ledger, MODEL), Switch(writer.ledger, None)
    everybody.pull()
    one.pull(answer="nothing")
    everybody.ask()
    everybody.confirm()
    assert (one.kill.answer, everybody.kill) == ("nothing", None)
    everybody.refuses("killed", writer.record, "CanaryStarted", writer.register(), OPERATOR, control=f"{MODEL}@1")
    assert stricter([one.kill, None]) == "nothing"
    assert stricter([replace(one.kill, answer="baseline"), None]) == "baseline"
    assert stricter([None, None]) == ""


def test_a_model_that_is_new_is_stopped_with_all_the_others(ledger: Ledger) -> None:
    Switch(ledger, None).pull()
    writer = FactWriter(ledger, "new")
    with pytest.raises(RefusedError, match="all models: killed by operator"):
        writer.canary(writer.register())


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


def test_breakers_stand_by_replica_until_they_are_closed(writer: FactWriter) -> None:
    writer.champion()
    view = writer.ledger.state.models[MODEL]
    etag = view.etag
    opened = writer.record("BreakerOpened")
    writer.record("BreakerOpened", replica="other", cause="slow")
    told = {"release": f"{MODEL}@1", "cause": "constant_scores", "since": opened["data"]["since"], "times": 1}
    assert asdict(view.breakers["a1b2c3"]) == told | {"seq": opened["seq"]}
    writer.record("BreakerOpened", times=2)
    assert (len(view.breakers), view.breakers["a1b2c3"].times) == (2, 2)
    for cause in ("replica gone", "champion changed"):
        writer.record("BreakerClosed", replica="other", cause=cause)
        writer.record("BreakerOpened", replica="other", cause="slow")
    writer.record("BreakerClosed")
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
    kind: str, changes: dict[str, Any], error: type[PlimsollError], writer: FactWriter
) -> None:
    writer.champion()
    FactWriter(writer.ledger, "other").train()
    with pytest.raises(error):
        writer.record(kind, **changes)
    assert writer.ledger.state.models[MODEL].breakers == {}


def test_a_breaker_is_closed_for_the_release_it_was_opened_for(writer: FactWriter) -> None:
    writer.champion()
    writer.champion()
    writer.record("BreakerOpened")
    with pytest.raises(RefusedError, match="nothing to close"):
        writer.record("BreakerClosed", release=f"{MODEL}@2")


def test_people_state_nothing_about_breakers(writer: FactWriter) -> None:
    writer.champion()
    for kind in ("BreakerOpened", "BreakerClosed"):
        with pytest.raises(RefusedError) as caught:
            writer.record(kind, None, OPERATOR)
        assert caught.value.code == "role"


# The shadow


def test_a_shadow_runs_beside_the_champion_and_moves_no_state(writer: FactWriter) -> None:
    writer.champion()
    release = writer.register()
    view = writer.ledger.state.models[MODEL]
    for actor in (OPERATOR, CONTROLLER):
        writer.record("ShadowStarted", release, actor)
        assert (view.shadow, view.challenger, view.share) == (release, None, 0.0)
        assert writer.ledger.state.releases[release].state is State.REGISTERED
        writer.record("ShadowStopped", release, actor)
        assert view.shadow is None


def shadowed(writer: FactWriter) -> str:
    release = writer.register()
    writer.record("ShadowStarted", release, OPERATOR)
    return release


def test_its_own_canary_ends_it_and_that_of_another_has_to_wait(writer: FactWriter) -> None:
    release, other = shadowed(writer), writer.register()
    with pytest.raises(RefusedError, match="stop that first"):
        writer.canary(other)
    writer.canary(release)
    view = writer.ledger.state.models[MODEL]
    assert (view.shadow, view.challenger) == (None, release)


@pytest.mark.parametrize("beside", ["shadow", "canary"])
def test_one_release_is_scored_beside_the_champion(beside: str, writer: FactWriter) -> None:
    first = shadowed(writer) if beside == "shadow" else writer.bring(State.CANARY)
    second = writer.register()
    for release in {second, first} if beside == "shadow" else {second}:
        with pytest.raises(RefusedError, match=first) as caught:
            writer.record("ShadowStarted", release, OPERATOR)
        assert caught.value.code == ("order" if release == first else "in_flight")


def test_bytes_that_are_barred_or_answer_already_are_not_shadowed(writer: FactWriter) -> None:
    champion = writer.champion()
    digest = writer.digest(champion)

    def again() -> str:
        release = writer.train(digest=digest)
        writer.check(release)
        writer.record("CandidateValidated", release)
        writer.record("ReleaseRegistered", release, digest=digest)
        return release

    same = again()
    with pytest.raises(RefusedError) as caught:
        writer.record("ShadowStarted", same, OPERATOR)
    assert caught.value.code == "same_bytes"
    writer.record("RollbackOrdered", champion, OPERATOR, to="baseline")
    with pytest.raises(RefusedError) as caught:
        writer.record("ShadowStarted", same, OPERATOR)
    assert caught.value.code == "barred"


def test_a_shadow_whose_bytes_fail_elsewhere_ends(writer: FactWriter) -> None:
    release = shadowed(writer)
    twin = writer.train(digest=writer.digest(release))
    writer.record("CheckCompleted", twin, status="fail")
    writer.record("CandidateRejected", twin)
    assert writer.ledger.state.models[MODEL].shadow is None


def test_a_shadow_that_does_not_run_is_not_stopped(writer: FactWriter) -> None:
    with pytest.raises(RefusedError, match="nothing to stop"):
        writer.record("ShadowStopped", writer.register(), OPERATOR)
    with pytest.raises(InvalidError):
        writer.record("ShadowStopped", f"{MODEL}@1", CONTROLLER, code="Because I say so")


def test_a_shadow_may_run_while_all_is_stopped(writer: FactWriter) -> None:
    writer.champion()
    Switch(writer.ledger, None).pull()
    assert shadowed(writer) == writer.ledger.state.models[MODEL].shadow, "nobody is answered by it"


def test_a_canary_takes_its_step_as_before(writer: FactWriter) -> None:
    release = writer.canary(shadowed(writer))
    writer.record("CanaryStepped", release, judgement=judgement())
    assert sample("CanaryStepped")["share"] == writer.ledger.state.models[MODEL].share
