"""Promote: an approved release takes all traffic in judged steps, and the former champion is retired."""

from __future__ import annotations

import pytest

from plimsoll import Refused
from serve import promote
from serve.controller.effects import golden_here
from tests.support.bank import FIRST, SECOND, Bank, facts_of


def test_an_approved_release_ramps_up_and_the_former_champion_stands_by(approved: Bank) -> None:
    bank = approved

    # Given an approved release beside the champion
    # When an operator begins the rollout, then it takes the policy's first step
    bank.operator.promote(SECOND, "approved, go")
    assert bank.release(SECOND).share == 0.75

    # and may not be made the champion before it has carried everything
    golden = golden_here(bank.settings, bank.release(SECOND).digest)
    with pytest.raises(Refused) as refused:
        bank.state(promote.promotion(bank.model, bank.release(SECOND), golden))
    assert refused.value.code == "share"

    # When customers come and the judge has nothing against it
    bank.run_until("RolloutStepped")
    assert bank.release(SECOND).share == 1.0
    assert {answer.release for answer in bank.serve_customers(100)} == {SECOND}
    bank.run_until("ReleasePromoted")

    # Then it became the champion with every golden row come out as it was when it was made
    promoted = bank.fact("ReleasePromoted")["data"]
    assert (promoted["digest"], promoted["replaced"]) == (bank.release(SECOND).digest, FIRST)
    assert promoted["golden"]["matched"] == promoted["golden"]["count"] == 32

    # and the former champion stands by, ready in every replica
    bank.retire_former()
    assert bank.recorded("promote", SECOND) == [*["RolloutStepped"] * 2, "ReleasePromoted"]
    assert bank.recorded("promote", FIRST) == ["ChampionRetired"]
    assert set(bank.recorded("promote")) == facts_of("promote")
    states = {name: bank.release(name).state for name in (FIRST, SECOND)}
    assert states == {FIRST: "retired", SECOND: "champion"}
    assert (bank.model.champion, bank.model.previous, bank.model.challenger) == (SECOND, FIRST, None)
    route = bank.routes().routes[bank.model.model]
    assert [target.release for target in route.resident] == [SECOND, FIRST]
    assert {answer.role for answer in bank.serve_customers(20)} == {"champion"}


def test_golden_rows_that_come_out_otherwise_end_the_release(approved: Bank) -> None:
    bank = approved

    # Given a release at the end of its rollout
    bank.operator.promote(SECOND, "approved, go")
    bank.run_until("RolloutStepped")

    # When one of its golden rows is answered otherwise than when it was made
    golden = golden_here(bank.settings, bank.release(SECOND).digest)
    one_off = golden | {"matched": golden["count"] - 1}
    data = {"digest": bank.release(SECOND).digest, "replaced": FIRST, "golden": one_off}
    with pytest.raises(Refused) as refused:  # the ledger would not take the promotion
        bank.controller.append("ReleasePromoted", release=SECOND, data=data)
    assert refused.value.code == "golden"
    bank.state(promote.promotion(bank.model, bank.release(SECOND), one_off))  # and the verb does not ask for it

    # Then it is quarantined and the champion is kept
    assert bank.release(SECOND).state == "quarantined"
    assert bank.recorded("promote") == ["RolloutStepped"] * 2
    assert bank.model.champion == FIRST
    assert {answer.release for answer in bank.serve_customers(20)} == {FIRST}
