"""Rollback: the champion is replaced at once; then its predecessor's golden rows are checked."""

from __future__ import annotations

from datetime import timedelta

import pytest

from plimsoll import Refused
from serve import rollback
from serve.controller.effects import golden_rows
from serve.rollback import Replay
from tests.support.bank import FIRST, MODEL, SECOND, THIRD, Bank, facts_of


def replay_through_the_door(bank: Bank, release: str) -> Replay:
    """The golden rows, asked as customers ask, answered by the replicas in turn."""
    rows = golden_rows(bank.settings, bank.release(release).digest)
    replay, door = Replay(len(rows), release), bank.gateway_client("controller")
    for number, row in enumerate(rows):
        answer = door.decide(MODEL, row["features"], key=f"golden-{number}", purpose="verification")
        reply = {"release": answer.release, "score": answer.score, "decision": answer.decision}
        replay.note(number, row, reply | {"fallback": answer.fallback}, str(answer.replica))
    return replay


def test_a_harmful_champion_steps_down_and_the_former_one_is_proven_to_be_back(successor: Bank) -> None:
    bank = successor

    # Given the second release as champion, the first standing by, and a third in its canary
    bank.start_canary(THIRD)
    bank.serve_customers(100)
    bank.begin()

    # When an operator rolls back
    bank.operator.rollback(MODEL, "complaints from branch 12")

    # Then the fold changes hands with that one fact, and nobody is sent to the challenger any more
    assert bank.recorded("rollback") == ["RollbackOrdered"]
    assert (bank.model.champion, bank.model.share) == (FIRST, 0.0)
    table = bank.routes()
    assert table.routes[MODEL].challenger is None
    assert {answer.release for answer in bank.serve_customers(50)} == {FIRST}

    # When every replica has acknowledged, then the release that stepped down answers nowhere
    assert bank.registry.has_acked(table.order)
    bank.clock.later(seconds=0.02)
    view, releases = bank.model, bank.view.releases
    done = rollback.rolled_back(view, releases, bank.clock(), len(bank.registry.replicas()))
    assert done is not None
    bank.state(done)
    gone = bank.fact("ReleaseRolledBack")["data"]
    assert gone == {"to": FIRST, "milliseconds": 20.0, "replicas": 2}

    # and the golden rows of the former champion come back through the door, bit for bit, from every replica
    replay = replay_through_the_door(bank, FIRST)
    assert replay.replicas == {"r1", "r2"}
    back = rollback.reinstated(view, releases, replay, bank.clock() + timedelta(seconds=0.06))
    assert back is not None
    bank.state(back)
    golden = bank.fact("ChampionReinstated")["data"]["golden"]
    assert golden["matched"] == golden["count"] == 32

    # and the release in flight, which was compared with a champion that has left, is ended
    assert bank.tick() == "CanaryAborted"
    assert SECOND in bank.fact("CanaryAborted", THIRD)["data"]["why"]

    # Then everything the journey promises is on record, and the fold says who stands where
    assert bank.recorded("rollback") == ["RollbackOrdered", "ReleaseRolledBack", "ChampionReinstated"]
    assert set(bank.recorded("rollback")) == facts_of("rollback")
    states = {name: bank.release(name).state for name in (FIRST, SECOND, THIRD)}
    assert states == {FIRST: "champion", SECOND: "rolled_back", THIRD: "quarantined"}
    assert (bank.model.rollback, bank.model.challenger) == (None, None)
    with pytest.raises(Refused) as refused:
        bank.operator.canary(SECOND, "it was not so bad")
    assert refused.value.code == "order"
    assert bank.auditor.verify()["ok"]


def test_without_a_former_champion_the_baseline_answers(champion: Bank) -> None:
    bank = champion

    # Given a first champion, with nobody to return to
    with pytest.raises(Refused) as refused:
        bank.operator.rollback(MODEL, "it declines everybody")
    assert refused.value.code == "no_previous"

    # When the operator names the baseline
    bank.operator.rollback(MODEL, "it declines everybody", to="baseline")

    # Then the simple model answers everybody, and once every replica says so the rollback is over
    table = bank.routes()
    assert {answer.role for answer in bank.serve_customers(50)} == {"baseline"}
    assert bank.registry.has_acked(table.order)
    view, releases = bank.model, bank.view.releases
    done = rollback.rolled_back(view, releases, bank.clock(), len(bank.registry.replicas()))
    assert done is not None
    bank.state(done)
    assert bank.recorded("rollback") == ["RollbackOrdered", "ReleaseRolledBack"]
    assert (bank.model.champion, bank.model.mode, bank.model.rollback) == (None, "baseline", None)
    assert bank.release(FIRST).state == "rolled_back"
