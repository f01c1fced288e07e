"""Sequential statistics: constants from the literature, and anytime validity by seeded simulation."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.judge.sequential import (
    log_e_multinomial,
    log_e_rate_above,
    log_e_rate_below,
    log_e_ratio_above,
    log_e_ratio_below,
    rate_interval,
)

ALPHA = 0.05


@pytest.mark.parametrize(("strength", "p"), [(100, 0.0749), (10, 0.0969), (1, 0.3339)])
def test_the_published_count_test_is_reproduced(strength: float, p: float) -> None:
    assert exp(-log_e_multinomial([156, 212], [0.5, 0.5], strength)) == pytest.approx(p, abs=5e-5)


def test_no_event_in_150_subjects_proves_a_rate_below_three_percent() -> None:
    assert rate_interval(0, 150, ALPHA / 3)[1] < 0.03
    assert rate_interval(0, 120, ALPHA / 3)[1] > 0.03


def test_no_data_says_nothing() -> None:
    assert rate_interval(0, 0, ALPHA) == [0.0, 1.0]
    assert log_e_ratio_above(0, 0, 0.25, 1.0, 100) == pytest.approx(0.0)
    assert log_e_rate_below(0, 0, 0.03) == pytest.approx(0.0)


def _peek(theta: float, runs: int = 400, events: int = 600) -> tuple[np.ndarray, np.ndarray]:
    hits = np.random.default_rng(7).random((runs, events)) < theta
    ours = hits.cumsum(axis=1)
    return ours, np.arange(1, events + 1) - ours


def test_looking_after_every_event_aborts_a_harmless_challenger_at_most_alpha_of_the_time() -> None:
    ours, others = _peek(0.25)
    log_e = np.concatenate([log_e_ratio_above(*pair, 0.25, 1.0, 100) for pair in _chunks(ours, others)])
    assert (log_e.max(axis=1) >= log(1 / ALPHA)).mean() <= ALPHA + 0.01


def test_looking_after_every_event_passes_a_challenger_at_the_limit_at_most_alpha_of_the_time() -> None:
    theta = 0.25 * 1.5 / (0.25 * 1.5 + 0.75)
    log_e = np.concatenate([log_e_ratio_below(*pair, 0.25, 1.5, 100) for pair in _chunks(*_peek(theta))])
    assert (log_e.max(axis=1) >= log(1 / ALPHA)).mean() <= ALPHA + 0.01


def test_a_rate_at_the_limit_is_excluded_at_most_alpha_of_the_time() -> None:
    events = (np.random.default_rng(3).random((400, 2000)) < 0.03).cumsum(axis=1)[:, ::5]
    n = np.broadcast_to(np.arange(1, 2001)[::5], events.shape)
    for bet in (log_e_rate_below, log_e_rate_above):
        log_e = np.concatenate([bet(a, b, 0.03) for a, b in _chunks(events, n)])
        assert (log_e.max(axis=1) >= log(1 / ALPHA)).mean() <= ALPHA + 0.01


def test_a_challenger_with_two_and_a_half_times_the_rate_is_found() -> None:
    theta = 0.25 * 2.5 / (0.25 * 2.5 + 0.75)
    log_e = np.concatenate([log_e_ratio_above(*pair, 0.25, 1.0, 100) for pair in _chunks(*_peek(theta))])
    found = log_e >= log(3 / ALPHA)
    assert found.any(axis=1).mean() > 0.95
    assert np.median(found.argmax(axis=1)) < 150  # events, not subjects


def _chunks(first: np.ndarray, second: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(np.array_split(first, 40), np.array_split(second, 40), strict=True))


@settings(max_examples=60)
@given(n=st.integers(1, 3000), data=st.data())
def test_intervals_hold_the_observed_rate_and_stay_in_the_unit_interval(n: int, data: st.DataObject) -> None:
    events = data.draw(st.integers(0, n))
    lower, upper = rate_interval(events, n, ALPHA)
    assert 0.0 <= lower <= events / n + 1e-6
    assert events / n - 1e-6 <= upper <= 1.0


@settings(max_examples=60)
@given(ours=st.integers(0, 500), others=st.integers(0, 500), share=st.floats(0.01, 0.99), limit=st.floats(1.0, 5.0))
def test_both_sides_are_never_proven_at_once(ours: int, others: int, share: float, limit: float) -> None:
    above = log_e_ratio_above(ours, others, share, limit, 100.0)
    below = log_e_ratio_below(ours, others, share, limit, 100.0)
    assert min(above, below) <= log(2)
