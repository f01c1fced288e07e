"""Canary: the challenger answers a share of customers, and the judge decides whether it advances."""

from __future__ import annotations

import pytest

from plimsoll import Refused
from serve.decision.traffic_split import falls_on_challenger, position_of
from tests.support.bank import FIRST, SECOND, Bank, facts_of


def test_the_first_release_is_judged_against_the_baseline(registered: Bank) -> None:
    bank = registered

    # Given no champion: the simple baseline would answer.  When an operator starts the canary
    bank.start_canary(FIRST)

    # Then the baseline is what it has to beat, and customers are told apart by a keyed hash anybody can do again
    started = bank.fact("CanaryStarted")["data"]
    assert (started["control"], started["share"]) == ("baseline", 0.25)
    answers = bank.serve_customers(200)
    arms = {falls_on_challenger(position_of(f"{bank.crowds}-{n}", started["salt"]), 0.25) for n in range(1, 201)}
    assert arms == {True, False}
    for number, answer in enumerate(answers, start=1):
        ours = falls_on_challenger(position_of(f"{bank.crowds}-{number}", started["salt"]), 0.25)
        assert answer.role == ("challenger" if ours else "baseline")

    # When enough customers were met, then it takes its steps one by one and asks for a second person
    bank.run_until("CanaryStepped")
    assert bank.release(FIRST).share == 0.5
    bank.run_until("ReviewRequested")
    told = [kind for kind in bank.recorded("canary", FIRST) if kind != "CanaryHeld"]
    assert told == ["CanaryStarted", "CanaryStepped"]
    assert bank.fact("CanaryStepped")["data"]["judgement"]["verdict"] == "ADVANCE"
    assert bank.release(FIRST).state == "review"
    assert bank.model.champion is None  # the judge opens the door to review, never to promotion


def test_without_customers_the_judge_holds_and_the_champion_is_kept_at_the_deadline(champion: Bank) -> None:
    bank = champion

    # Given a canary that has taken a step on good evidence
    bank.start_canary(SECOND)
    bank.run_until("CanaryStepped")

    # When customers stay away, then the judge holds and says why, once
    bank.clock.later(minutes=1)
    assert bank.tick() == "CanaryHeld"
    assert "silent" in bank.release(SECOND).hold.why
    assert bank.tick() is None

    # When the policy's deadline has passed, then the canary ends and the champion is kept
    bank.clock.later(minutes=60)
    assert bank.tick() == "CanaryAborted"
    aborted = bank.fact("CanaryAborted")
    assert "60 minutes" in aborted["data"]["why"]
    assert aborted["data"]["judgement"]["verdict"] == "HOLD"  # no data is not a pass
    assert (bank.model.champion, bank.model.challenger, bank.model.share) == (FIRST, None, 0.0)
    assert {answer.release for answer in bank.serve_customers(50)} == {FIRST}

    # and what the journey promises for this verb is what is on record
    told = bank.recorded("canary")
    assert told[0] == "CanaryStarted"
    assert told[-2:] == ["CanaryHeld", "CanaryAborted"]
    assert set(told) == facts_of("canary")

    # and quarantined bytes never meet a customer again
    assert bank.release(SECOND).state == "quarantined"
    with pytest.raises(Refused) as refused:
        bank.operator.canary(SECOND, "once more")
    assert refused.value.code == "order"
