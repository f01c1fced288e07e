"""Offered actions equal permitted ones: every action of the dry run is then tried on a copy of the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lineage.errors import PlimsollError
from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.rules import actions, available
from lineage.rules.available import Action
from lineage.rules.draft import Draft, check_right
from lineage.rules.proposal import Actor
from lineage.state.fold import LedgerState
from tests.support.accounts import begin_era_3, in_era
from tests.support.sample_facts import AUTHOR, MODEL, OPERATOR, VALIDATOR, FactWriter, ManualClock

PEOPLE = [
    AUTHOR,
    VALIDATOR,
    OPERATOR,
    Actor("auditor", "auditor"),
    Actor("scientist", "validator"),
    Actor("scientist", "operator"),
    Actor("second", "operator"),
]
Make = Callable[[LedgerState], Draft]


def makes_of_release(release: str, who: Actor) -> dict[str, tuple[str, Make]]:
    return {
        "canary": ("CanaryStarted", lambda state: actions.start_canary(state, release, who, "why")),
        "approve": ("ReviewDecided", lambda state: actions.decide_review(state, release, who, "why", "approve")),
        "reject": ("ReviewDecided", lambda state: actions.decide_review(state, release, who, "why", "reject")),
        "promote": ("RolloutStepped", lambda state: actions.promote(state, release, who, "why")),
        "abort": ("CanaryAborted", lambda state: actions.abort(state, release, who, "why")),
        "shadow-start": ("ShadowStarted", lambda s: actions.shadow(s, release, who, "why", "ShadowStarted")),
        "shadow-stop": ("ShadowStopped", lambda s: actions.shadow(s, release, who, "why", "ShadowStopped")),
    }


def makes_of_model(model: str | None, who: Actor, to: str | None) -> dict[str, tuple[str, Make]]:
    switch: dict[str, tuple[str, Make]] = {
        "kill": ("KillSwitchPulled", lambda state: actions.kill(state, model, who, "why", "baseline")),
        "silence": ("KillSwitchPulled", lambda state: actions.kill(state, model, who, "why", "nothing")),
        "ask-release": ("KillReleaseRequested", lambda state: actions.ask_kill_release(state, model, who, "why")),
        "confirm-release": ("KillSwitchReleased", lambda state: actions.release_kill(state, model, who, "why")),
    }
    if model is None:
        return switch
    return switch | {
        "rollback": ("RollbackOrdered", lambda state: actions.roll_back(state, model, who, "why", to)),
        "retrain": ("RetrainRequested", lambda _: actions.retrain(model, who, "why", "folder", {})),
    }


class Bench:
    """A ledger in some situation, and copies of it to try things on."""

    def __init__(self, folder: Path, situation: str, kill: str) -> None:
        self.folder, self.copies = folder, 0
        ledger = Ledger(folder / "log", clock=ManualClock())
        writer = FactWriter(ledger)
        if situation in OF_EARLIER_ERAS:
            release = SITUATIONS[situation](writer)
            begin_era_3(ledger, PEOPLE)
        else:
            begin_era_3(ledger, PEOPLE)
            release = SITUATIONS[situation](writer)
        self.release = killed(writer, release, kill)
        ledger.close()
        self.ledger = self._copy()

    def _copy(self) -> Ledger:
        self.copies += 1
        place = self.folder / str(self.copies)
        shutil.copytree(self.folder / "log", place)
        return Ledger(place, clock=ManualClock())

    def outcome(self, who: Actor, kind: str, make: Make, release: str) -> str | None:
        """The ledger's refusal, or None where it recorded the fact; a ledger that changed is thrown away."""

        def allowed(state: LedgerState) -> Draft:
            check_right(kind, who, release, state)
            return make(state)

        try:
            self.ledger.act(who, None, allowed)
        except PlimsollError as error:
            return error.message
        self.ledger.close()
        self.ledger = self._copy()
        return None


def killed(writer: FactWriter, release: str, kill: str) -> str:
    if kill != "none":
        name = None if kill == "all" else MODEL
        who = in_era(writer.ledger.state, "KillSwitchPulled", OPERATOR)
        pulled = writer.ledger.append(Draft("KillSwitchPulled", who, {"answer": "baseline"}, name, None, "why"))
        if kill == "release asked":
            data = {"pulled": pulled["seq"]}
            writer.ledger.append(Draft("KillReleaseRequested", who, data, name, None, "why"))
    return release


def in_state(state: State) -> Callable[[FactWriter], str]:
    return lambda writer: writer.bring(state)


def beside_a_shadow(writer: FactWriter) -> str:
    writer.record("ShadowStarted", writer.register(), OPERATOR)
    return writer.register()


def the_shadow(writer: FactWriter) -> str:
    release = writer.register()
    writer.record("ShadowStarted", release, OPERATOR)
    return release


def beside_one_in_flight(writer: FactWriter) -> str:
    writer.bring(State.CANARY)
    return writer.register()


def same_bytes_as_the_champion(writer: FactWriter) -> str:
    digest = writer.digest(writer.champion())
    release = writer.train(digest=digest)
    writer.check(release)
    writer.record("CandidateValidated", release)
    writer.record("ReleaseRegistered", release, digest=digest)
    return release


def barred_bytes(writer: FactWriter) -> str:
    release = same_bytes_as_the_champion(writer)
    writer.record("RollbackOrdered", str(writer.ledger.state.models[MODEL].champion), OPERATOR, to="baseline")
    return release


def control_replaced(writer: FactWriter) -> str:
    writer.champion()
    second = writer.champion()
    release = writer.approve(writer.bring(State.REVIEW))
    writer.record("RollbackOrdered", second, OPERATOR, to=f"{MODEL}@1")
    return release


SITUATIONS = {str(state): in_state(state) for state in State} | {
    one.__name__: one
    for one in (
        beside_a_shadow,
        the_shadow,
        beside_one_in_flight,
        same_bytes_as_the_champion,
        barred_bytes,
        control_replaced,
    )
}


#: Two releases with the same bytes: since era 3 there are none.
OF_EARLIER_ERAS = frozenset({"same_bytes_as_the_champion", "barred_bytes"})


def tried(bench: Bench, offered: list[Action], makes: dict[str, tuple[str, Make]], who: Actor) -> Iterator[bool]:
    for action in offered:
        kind, make = makes[action.verb]
        refusal = bench.outcome(who, kind, make, bench.release)
        assert (action.possible, action.why_not) == (refusal is None, refusal), (action, who)
        assert action.kind == kind
        yield True


@pytest.mark.parametrize("kill", ["none", "model", "all", "release asked"])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_offer_is_what_the_ledger_does(situation: str, kill: str, tmp_path: Path, quick: None) -> None:
    bench = Bench(tmp_path, situation, kill)
    count = 0
    for person in PEOPLE:
        who = in_era(bench.ledger.state, "", person)
        state = bench.ledger.state
        offered = available.of_release(state, bench.release, who)
        count += sum(tried(bench, offered, makes_of_release(bench.release, who), who))
        offered = available.of_model(bench.ledger.state, MODEL, who)
        to = next(action.to for action in offered if action.verb == "rollback")
        count += sum(tried(bench, offered, makes_of_model(MODEL, who, to), who))
        offered = available.of_kill_switch(bench.ledger.state, None, who)
        count += sum(tried(bench, offered, makes_of_model(None, who, None), who))
    assert count == len(PEOPLE) * (7 + 6 + 4)
    bench.ledger.close()


def test_there_are_enough_offers_to_believe_it() -> None:
    assert len(SITUATIONS) * 4 * len(PEOPLE) * (7 + 6 + 4) >= 8_892


def test_what_makes_no_sense_in_a_state_does_not_apply(writer: FactWriter) -> None:
    release = writer.bring(State.REVIEW)
    applies = {one.verb for one in available.of_release(writer.ledger.state, release, OPERATOR) if one.applies}
    assert applies == {"approve", "reject", "promote", "abort"}
    promote = next(a for a in available.of_release(writer.ledger.state, release, OPERATOR) if a.verb == "promote")
    assert (promote.possible, promote.code, promote.next_share) == (False, "approval", 0.5)


def test_the_share_that_an_action_would_give_is_the_next_step(writer: FactWriter) -> None:
    release = writer.register()
    canary = available.of_release(writer.ledger.state, release, OPERATOR)[0]
    assert (canary.verb, canary.next_share, canary.possible, canary.needs_etag) == ("canary", 0.1, True, False)
