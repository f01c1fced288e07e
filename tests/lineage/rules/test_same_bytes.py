"""A digest belongs to one release for ever, and barring one release takes no other out of traffic."""

from __future__ import annotations

import pytest

from lineage.errors import RefusedError
from lineage.ledger import Ledger
from lineage.lifecycle import State
from tests.support.accounts import begin_era_3
from tests.support.sample_facts import MODEL, OPERATOR, FactWriter

STATES = [
    State.TRAINED,
    State.REGISTERED,
    State.CANARY,
    State.REJECTED,
    State.QUARANTINED,
    State.CHAMPION,
    State.RETIRED,
    State.ROLLED_BACK,
]


def activate(writer: FactWriter) -> None:
    begin_era_3(writer.ledger)


def twin_of(writer: FactWriter, release: str) -> str:
    twin = writer.train(digest=writer.digest(release))
    writer.check(twin)
    return twin


@pytest.mark.parametrize("model", [MODEL, "another-model"])
@pytest.mark.parametrize("state", STATES)
def test_bytes_of_a_release_in_any_state_are_refused_as_another_one(
    writer: FactWriter, state: State, model: str
) -> None:
    activate(writer)
    release = writer.bring(state)
    with pytest.raises(RefusedError, match=f"release {release} already.*nothing new was trained") as caught:
        FactWriter(writer.ledger, model).train(digest=writer.digest(release))
    assert caught.value.code == "same_bytes"
    assert writer.ledger.state.digests[writer.digest(release)] == (release,)


def test_an_earlier_twin_that_is_rejected_now_leaves_the_champion(writer: FactWriter) -> None:
    champion = writer.champion()
    twin = twin_of(writer, champion)
    activate(writer)
    writer.record("CandidateRejected", twin)
    state = writer.ledger.state
    assert state.releases[twin].state is State.REJECTED
    assert (state.models[MODEL].champion, state.models[MODEL].mode) == (champion, "normal")
    assert state.barred == set()
    # and the champion of other bytes that is promoted later can be rolled back to it
    later = writer.champion()
    writer.record("RollbackOrdered", later, OPERATOR, to=champion)
    assert writer.ledger.state.models[MODEL].champion == champion


def test_in_an_earlier_era_such_a_rejection_took_the_champion_down_and_is_read_so_for_ever(writer: FactWriter) -> None:
    champion = writer.champion()
    twin = twin_of(writer, champion)
    writer.record("CandidateRejected", twin)
    activate(writer)
    assert writer.ledger.state.models[MODEL].champion is None
    assert writer.digest(champion) in writer.ledger.state.barred


def test_a_twin_of_another_model_leaves_the_champion(writer: FactWriter) -> None:
    champion = writer.champion()
    other = FactWriter(writer.ledger, "another-model")
    twin = other.train(digest=writer.digest(champion))
    other.check(twin)
    activate(writer)
    other.record("CandidateRejected", twin)
    writer.bring(State.CANARY)
    assert writer.ledger.state.models[MODEL].champion == champion


def test_a_third_release_with_rejected_bytes_never_begins_though_the_champion_stays(writer: FactWriter) -> None:
    champion = writer.champion()
    twin, third = twin_of(writer, champion), twin_of(writer, champion)
    writer.record("CandidateValidated", third)
    activate(writer)
    writer.record("CandidateRejected", twin)
    with pytest.raises(RefusedError, match=f"the bytes of {twin}") as caught:
        writer.record("ReleaseRegistered", third, digest=writer.digest(third))
    assert caught.value.code == "barred"


def test_a_rollback_bars_the_bytes_of_the_champion_for_its_twins_too(writer: FactWriter) -> None:
    champion = writer.champion()
    twin = twin_of(writer, champion)
    activate(writer)
    writer.record("RollbackOrdered", champion, OPERATOR, to="baseline")
    assert writer.digest(twin) in writer.ledger.state.barred


def test_a_failed_group_leaves_no_digest_behind(ledger: Ledger) -> None:
    writer = FactWriter(ledger)
    first = writer.train()
    state, before = ledger.state, dict(ledger.state.digests)
    record = dict(next(r for r in ledger.records if r["kind"] == "ModelTrained"))
    state.begin()
    state.apply(record | {"seq": 2, "release": f"{MODEL}@2"})
    assert state.digests[writer.digest(first)] == (first, f"{MODEL}@2")
    state.apply(record | {"seq": 3, "release": f"{MODEL}@3", "data": record["data"] | {"digest": "sha256:" + "9" * 64}})
    state.roll_back()
    assert state.digests == before
