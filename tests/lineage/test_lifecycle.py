"""Every transition that is not in the table is refused and leaves no record."""

from __future__ import annotations

from itertools import product

import pytest

from lineage.errors import PlimsollError, RefusedError
from lineage.facts.eras import LATEST
from lineage.facts.registry import FACTS, subject_of
from lineage.ledger import Ledger
from lineage.lifecycle import BARRED, IN_FLIGHT, JOURNEY, TRANSITIONS, State, after, allowed
from lineage.rules.draft import Draft
from tests.support.sample_facts import CONTROLLER, MODEL, VALIDATOR, FactWriter, sample

ABOUT_RELEASES = [kind for kind in FACTS if subject_of(kind) == "release"]
ILLEGAL = [pair for pair in product(State, ABOUT_RELEASES) if pair not in TRANSITIONS]


@pytest.mark.parametrize("state", list(State))
def test_every_illegal_order(state: State, writer: FactWriter, ledger: Ledger) -> None:
    release = writer.bring(state)
    assert ledger.state.releases[release].state is state
    for _, kind in (pair for pair in ILLEGAL if pair[0] is state):
        before, fold = len(ledger.records), ledger.state.to_dict()
        actor = VALIDATOR if kind == "ReviewDecided" else CONTROLLER
        with pytest.raises(RefusedError) as caught:
            writer.record(kind, release, actor)
        assert caught.value.code == "order"
        assert str(state) in caught.value.message, "the message says where the release stands"
        for possible in allowed(state):
            assert possible in caught.value.message, "the message says what can follow"
        assert len(ledger.records) == before
        assert ledger.state.to_dict() == fold


@pytest.mark.parametrize("state", list(State))
def test_no_state_but_the_last_ones_is_without_a_way_out(state: State) -> None:
    leads = {after(state, kind) for (origin, kind) in TRANSITIONS if origin is state} - {state}
    assert bool(leads) is (state not in BARRED - {State.ROLLING_BACK})


def test_traffic_can_be_taken_from_every_state_that_carries_it() -> None:
    for state in IN_FLIGHT:
        assert after(state, "CanaryAborted") is State.QUARANTINED
    assert after(State.CHAMPION, "RollbackOrdered") is State.ROLLING_BACK
    assert after(State.REVIEW, "ReviewDecided", "reject") is State.REJECTED


def test_kinds_about_releases_are_those_of_the_table() -> None:
    assert set(ABOUT_RELEASES) == {kind for _, kind in TRANSITIONS}
    told = {fact for verb in JOURNEY for fact in verb.facts}
    assert set(ABOUT_RELEASES) <= told | {"ShadowStarted", "ShadowStopped"}


@pytest.mark.parametrize("kind", sorted(FACTS))
def test_a_fact_about_nobody_known_changes_nothing(kind: str, writer: FactWriter, ledger: Ledger) -> None:
    ledger.state.era = LATEST  # as after its activation
    before = len(ledger.records)
    release = f"{MODEL}@99" if subject_of(kind) == "release" else None
    try:
        ledger.append(Draft(kind, VALIDATOR, sample(kind), MODEL, release, "because"))
    except PlimsollError:
        assert len(ledger.records) == before
    else:
        pytest.fail("a validator may not state this about a release that does not exist")
