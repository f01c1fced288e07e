"""The circuit breaker: what opens and closes it, that it is never stuck, and its events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lineage.policy import BreakerLimits
from serve.decision.circuit_breaker import Breaker, Change, Failure

LIMITS = BreakerLimits(
    window=40,
    minimum=10,
    failure_share=0.5,
    in_a_row=4,
    same_scores=8,
    favourable_low=0.1,
    favourable_high=0.9,
    rest_seconds=5,
    rest_most_seconds=60,
    trial_share=0.25,
    trials=6,
    trial_seconds=30,
)
CAUSES: tuple[Failure, ...] = ("errors", "slow", "not_a_probability", "explanation", "stale_features")


class Bench:
    """A breaker, its clock, and what it changes."""

    def __init__(self, limits: BreakerLimits = LIMITS, spread: float = 0.0) -> None:
        self.now, self.changes, self.count = 0.0, list[Change](), 0
        self.breaker = Breaker(limits, self.changes.append, lambda: self.now, salt="r1", spread=spread)

    def good(self, times: int = 1, score: float | None = None, *, favourable: bool | None = None) -> None:
        for _ in range(times):
            self.count += 1
            value = score if score is not None else (self.count * 37 % 101) / 101
            said = self.count % 2 == 0 if favourable is None else favourable
            self.breaker.record_answer(b"row %d" % self.count, value, favourable=said)

    def bad(self, times: int = 1, cause: Failure = "errors") -> None:
        for _ in range(times):
            self.breaker.record_failure(cause)

    def trial(self) -> str:
        """A key that the trial's sample takes in."""
        return next(f"k{number}" for number in range(1000) if self.breaker.allows(f"k{number}"))

    def opened(self) -> Bench:
        self.bad(LIMITS.in_a_row)
        assert self.breaker.state == "open"
        return self


@pytest.mark.parametrize("cause", CAUSES)
def test_failures_in_a_row_open_it_below_the_minimum_too(cause: Failure) -> None:
    bench = Bench()
    bench.bad(LIMITS.in_a_row - 1, cause)
    assert bench.breaker.allows("anybody")
    bench.bad(1, cause)
    assert not bench.breaker.allows("anybody")
    assert (bench.changes[0].opened, bench.changes[0].cause) == (True, cause)
    assert bench.changes[0].evidence == {"in_a_row": LIMITS.in_a_row}


def test_half_of_the_last_answers_failing_opens_it_and_less_does_not() -> None:
    bench = Bench()
    for _ in range(30):
        bench.good(2)
        bench.bad(1)
    assert bench.breaker.state == "closed"
    for _ in range(30):
        bench.good(1)
        bench.bad(1)
    assert bench.breaker.state == "open"
    assert bench.changes[0].evidence["causes"] == {"errors": bench.changes[0].evidence["failures"]}


def test_one_score_for_many_different_rows_opens_it() -> None:
    bench = Bench()
    bench.good(LIMITS.same_scores - 1, score=0.25)
    assert bench.breaker.state == "closed"
    bench.good(1, score=0.25)
    assert (bench.breaker.state, bench.breaker.cause) == ("open", "constant_scores")


def test_one_row_asked_for_again_and_again_is_no_constant_score() -> None:
    bench = Bench()
    for number in range(100):
        bench.breaker.record_answer(b"the same row", 0.25, favourable=number % 2 == 0)
    assert bench.breaker.state == "closed"


def test_scores_that_hardly_differ_have_collapsed_and_others_have_not() -> None:
    bench = Bench(spread=0.01)
    for number in range(LIMITS.same_scores):
        bench.good(1, score=0.25 + number * 0.001)
    assert bench.breaker.cause == "constant_scores"
    other = Bench(spread=0.01)
    for number in range(40):
        other.good(1, score=0.25 + (number % 3) * 0.02)
    assert other.breaker.state == "closed"


@pytest.mark.parametrize("favourable", [True, False])
def test_an_impossible_share_of_approvals_opens_it_once_the_window_is_full(favourable: bool) -> None:
    bench = Bench()
    bench.good(LIMITS.window - 1, favourable=favourable)
    assert bench.breaker.state == "closed"
    bench.good(1, favourable=favourable)
    assert bench.breaker.cause == "approval_rate"


def test_without_limits_every_share_of_approvals_is_possible() -> None:
    bench = Bench(BreakerLimits(window=40, minimum=10))
    bench.good(200, favourable=False)
    assert bench.breaker.state == "closed"


def test_after_the_rest_a_keyed_sample_is_answered_and_good_answers_close_it() -> None:
    bench = Bench().opened()
    assert not any(bench.breaker.allows(f"k{number}") for number in range(50))
    bench.now += LIMITS.rest_seconds
    let_in = {f"k{number}" for number in range(400) if bench.breaker.allows(f"k{number}")}
    assert 60 < len(let_in) < 140  # a quarter of 400
    assert {key for key in let_in if bench.breaker.allows(key)} == let_in  # the same customers again
    bench.good(LIMITS.trials)
    assert bench.breaker.state == "closed"
    closed = bench.changes[-1]
    assert (closed.opened, closed.cause, closed.seconds) == (False, "trial passed", LIMITS.rest_seconds)
    assert closed.answers > 300


def test_one_failure_in_the_trial_opens_it_for_twice_as_long() -> None:
    bench = Bench().opened()
    bench.now += LIMITS.rest_seconds
    bench.trial()
    bench.bad(1, "slow")
    assert (bench.breaker.state, bench.breaker.cause, bench.changes[-1].times) == ("open", "slow", 2)
    bench.now += LIMITS.rest_seconds
    assert not any(bench.breaker.allows(f"k{number}") for number in range(200))
    bench.now += LIMITS.rest_seconds
    assert bench.trial()


def test_constant_scores_in_the_trial_open_it_again() -> None:
    bench = Bench().opened()
    bench.now += LIMITS.rest_seconds
    bench.trial()
    bench.good(LIMITS.trials, score=0.5)
    assert (bench.breaker.state, bench.breaker.cause) == ("open", "constant_scores")


def test_an_impossible_share_in_the_trial_opens_it_again() -> None:
    bench = Bench()
    bench.good(LIMITS.window, favourable=False)
    bench.now += LIMITS.rest_seconds
    bench.trial()
    bench.good(LIMITS.trials, favourable=False)
    assert (bench.breaker.state, bench.breaker.cause) == ("open", "approval_rate")


def test_a_trial_that_nobody_falls_into_draws_another_sample() -> None:
    bench = Bench().opened()
    bench.now += LIMITS.rest_seconds
    tried = 0
    while not bench.breaker.allows("the only customer"):
        bench.now += LIMITS.trial_seconds
        tried += 1
        assert tried < 100
    bench.good(LIMITS.trials)
    assert bench.breaker.state == "closed"


def test_a_trial_goes_on_with_others_where_its_first_customers_went_away() -> None:
    bench = Bench().opened()
    bench.now += LIMITS.rest_seconds
    bench.trial()
    bench.good(LIMITS.trials - 1)
    before = {f"k{number}" for number in range(200) if bench.breaker.allows(f"k{number}")}
    bench.now += LIMITS.trial_seconds
    after = {f"k{number}" for number in range(200) if bench.breaker.allows(f"k{number}")}
    assert before != after
    bench.good()
    assert bench.breaker.state == "closed"


def test_having_been_well_for_long_it_rests_shortly_again() -> None:
    bench = Bench().opened()
    bench.now += LIMITS.rest_seconds
    bench.trial()
    bench.bad()
    bench.now += 2 * LIMITS.rest_seconds
    bench.trial()
    bench.good(LIMITS.trials)
    bench.now += LIMITS.rest_most_seconds
    bench.bad(LIMITS.in_a_row)
    assert bench.changes[-1].times == 1


def test_the_breaker_of_a_champion_that_is_gone_is_closed_on_record() -> None:
    bench = Bench().opened()
    bench.breaker.close("champion changed")
    assert [(change.opened, change.cause) for change in bench.changes] == [
        (True, "errors"),
        (False, "champion changed"),
    ]
    bench.breaker.close("champion changed")
    assert len(bench.changes) == 2


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens: the ledger hears opened and closed by turns, and good answers always bring it back."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.bench.now += seconds

    @rule(key=st.text(min_size=1, max_size=5))
    def ask(self, key: str) -> None:
        state = self.bench.breaker.state
        let = self.bench.breaker.allows(key)
        assert let or state != "closed"
        assert not let or self.bench.breaker.state != "open"

    @rule(cause=st.sampled_from(CAUSES), times=st.integers(1, 5))
    def fail(self, cause: Failure, times: int) -> None:
        for _ in range(times):
            if self.bench.breaker.state != "open":
                self.bench.bad(1, cause)

    @rule(times=st.integers(1, 12), score=st.sampled_from([None, 0.5]))
    def answer(self, times: int, score: float | None) -> None:
        for _ in range(times):
            if self.bench.breaker.state != "open":
                self.bench.good(1, score)

    @precondition(lambda self: self.bench.breaker.state != "closed")
    @rule()
    def recover(self) -> None:
        bench = self.bench
        bench.now += LIMITS.rest_most_seconds
        for number in range(2000):
            if bench.breaker.allows(f"customer {number}"):
                bench.good()
            if bench.breaker.state == "closed":
                return
            bench.now += 1.0
        raise AssertionError("stuck")

    @invariant()
    def is_told_by_turns(self) -> None:
        rounds, is_open = self.bench.changes, False
        for change in rounds:
            assert change.opened or is_open
            is_open = change.opened
        assert is_open == (self.bench.breaker.state != "closed")


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAnyHistory = AnyHistory.TestCase


@given(st.lists(st.sampled_from(["good", "bad"]), max_size=300))
def test_counts_are_those_of_the_last_answers(history: list[str]) -> None:
    limits = BreakerLimits(window=20, minimum=20, failure_share=1.0, in_a_row=10_000, same_scores=100_000)
    bench = Bench(limits)
    for what in history:
        bench.good() if what == "good" else bench.bad()
    last = history[-20:]
    if len(history) >= 20:
        expected = (
            "open" if any(history[end - 20 : end] == ["bad"] * 20 for end in range(20, len(history) + 1)) else "closed"
        )
        assert bench.breaker.state == expected
    assert len(last) <= 20
