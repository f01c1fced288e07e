"""The judge: what makes it advance, what makes it abort, and everything that must not make it advance."""

from __future__ import annotations

import json
import random
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.policy import Canary
from serve.judge.evidence import Evidence
from serve.judge.verdict import Judgement, judge
from tests.support.decision_records import NOW, SALT, decision, outcome

POLICY = Canary()


def _evidence(subjects: int, wrong_ours: float, wrong_others: float, seed: int = 1, **changes: object) -> Evidence:
    """A canary at 25 % in which each arm's decisions turn out wrong at the given rate."""
    draw = random.Random(seed)
    evidence = Evidence(SALT, 0.25, 75.0)
    for number in range(subjects):
        arm = "challenger" if draw.random() < 0.25 else "champion"
        rate = wrong_ours if arm == "challenger" else wrong_others
        evidence.observe(decision(number, arm, **changes))
        evidence.observe(outcome(number, int(draw.random() < rate)))
    return evidence


def _judge(evidence: Evidence) -> Judgement:
    return judge(evidence, POLICY, NOW + timedelta(seconds=1), started=NOW - timedelta(minutes=1))


def test_an_equal_challenger_advances() -> None:
    result = _judge(_evidence(2500, 0.2, 0.2))
    assert result.verdict == "ADVANCE", result.reasons
    assert result.seconds == 61


def test_a_challenger_that_decides_wrongly_aborts_and_says_so() -> None:
    result = _judge(_evidence(1500, 0.5, 0.2))
    assert result.verdict == "ABORT"
    assert "wrong decisions" in result.reasons[0]


def test_failures_abort_before_the_minimum_of_subjects() -> None:
    result = _judge(_evidence(60, 0.2, 0.2, error="timeout"))
    assert result.verdict == "ABORT"
    assert "errors" in result.reasons[0]


def test_no_data_holds() -> None:
    result = _judge(Evidence(SALT, 0.25, 75.0))
    assert result.verdict == "HOLD"
    assert any("no decision" in why for why in result.reasons)


def test_stale_data_holds() -> None:
    result = judge(_evidence(2500, 0.2, 0.2), POLICY, NOW + timedelta(seconds=16))
    assert result.verdict == "HOLD"
    assert any("silent" in why for why in result.reasons)


def test_too_few_subjects_hold() -> None:
    result = judge(_evidence(2500, 0.2, 0.2), POLICY, NOW, minimum=5000)
    assert result.verdict == "HOLD"
    assert any("fewer than 5000" in why for why in result.reasons)


def test_a_skewed_split_holds_an_otherwise_good_challenger() -> None:
    evidence = _evidence(2500, 0.2, 0.2)
    for number in range(10_000, 10_400):
        evidence.observe(decision(number, "challenger"))
    result = _judge(evidence)
    assert result.verdict == "HOLD"
    assert not result.sample_ratio["ok"]
    assert any("skewed" in why for why in result.reasons)


def test_nan_never_advances() -> None:
    evidence = _evidence(2500, 0.2, 0.2)
    for arms in evidence.tallies.values():
        arms["challenger"].errors = float("nan")  # type: ignore[assignment]
    assert _judge(evidence).verdict == "HOLD"


def test_decisions_without_outcomes_hold() -> None:
    evidence = Evidence(SALT, 0.25, 75.0)
    for number in range(2000):
        evidence.observe(decision(number, "challenger" if number % 4 == 0 else "champion"))
    result = _judge(evidence)
    assert result.verdict == "HOLD"
    assert any("wrong decisions: nothing is known" in why for why in result.reasons)


def test_verification_and_other_rollouts_are_not_evidence() -> None:
    evidence = Evidence(SALT, 0.25, 75.0)
    evidence.observe(decision(1, purpose="verification"))
    evidence.observe(decision(2, rollout="another-salt"))
    evidence.observe(decision(3, arm=None))
    assert evidence.subjects("challenger") == 0


def test_a_subject_counts_once_and_its_outcome_may_come_first() -> None:
    evidence = Evidence(SALT, 0.25, 75.0)
    evidence.observe(outcome(1, 1))
    evidence.observe(decision(1))
    evidence.observe(decision(2, key="customer-1"))
    evidence.observe(outcome(1, 0))
    evidence.observe(outcome(2, 1))
    tally = evidence.tallies[0.25]["challenger"]
    assert (tally.subjects, tally.outcomes, tally.wrong_decisions) == (1, 1, 1)


def test_at_full_share_only_the_challenger_has_to_be_met() -> None:
    evidence = _evidence(2500, 0.2, 0.2)
    evidence.share = 1.0
    for number in range(5000, 5060):
        evidence.observe(decision(number, share=1.0))
    assert judge(evidence, POLICY, NOW, minimum=50).verdict == "ADVANCE"


def test_the_judgement_is_json_and_names_its_constants() -> None:
    content = json.loads(json.dumps(_judge(_evidence(300, 0.2, 0.2)).to_dict(), allow_nan=False))
    assert content["policy"]["alpha_of_each_gate"] == pytest.approx(0.05 / 3)
    assert {metric["metric"] for metric in content["metrics"]} == {"errors", "slow", "wrong_decisions"}
    assert content["metrics"][0]["challenger"]["interval"][0] >= 0


def test_false_aborts_stay_below_alpha_when_watched_all_the_time() -> None:
    aborted = 0
    for seed in range(60):
        draw, evidence = random.Random(seed), Evidence(SALT, 0.25, 75.0)
        for number in range(600):
            evidence.observe(decision(number, "challenger" if draw.random() < 0.25 else "champion"))
            evidence.observe(outcome(number, int(draw.random() < 0.2)))
            if number % 30 == 0 and _judge(evidence).verdict == "ABORT":
                aborted += 1
                break
    assert aborted <= 3


@settings(max_examples=40)
@given(errors=st.integers(0, 400), wrong=st.integers(0, 400), n=st.integers(1, 400))
def test_more_harm_never_turns_a_verdict_better(errors: int, wrong: int, n: int) -> None:
    def verdict(bad: int, mistaken: int) -> int:
        evidence = _evidence(300, 0.2, 0.2)
        tally = evidence.tallies[0.25]["challenger"]
        tally.subjects = tally.outcomes = n
        tally.errors, tally.wrong_decisions = min(bad, n), min(mistaken, n)
        return ["ABORT", "HOLD", "ADVANCE"].index(_judge(evidence).verdict)

    assert verdict(errors + 5, wrong + 5) <= verdict(errors, wrong)


def test_what_was_proven_stays_proven_but_harm_still_aborts() -> None:
    unsure, harmful = _evidence(300, 0.2, 0.2), _evidence(1500, 0.5, 0.2)
    later = NOW + timedelta(seconds=1)
    assert judge(unsure, POLICY, later).verdict == "HOLD"
    assert judge(unsure, POLICY, later, minimum=30, proven=True).verdict == "ADVANCE"
    assert judge(harmful, POLICY, later, minimum=30, proven=True).verdict == "ABORT"


def test_what_was_proven_does_not_stand_in_for_fresh_data() -> None:
    evidence = _evidence(300, 0.2, 0.2)
    assert judge(evidence, POLICY, NOW + timedelta(minutes=5), minimum=30, proven=True).verdict == "HOLD"
    assert judge(Evidence(SALT, 0.25, 75.0), POLICY, NOW, minimum=30, proven=True).verdict == "HOLD"
