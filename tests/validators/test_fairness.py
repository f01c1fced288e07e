from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.errors import InvalidError
from validators.fairness import Disparity, band, group_column, measure_disparity, measure_fairness
from validators.statistics.auc import auc, auc_difference
from validators.statistics.rates import ratio_interval, wilson


def measured(groups: dict[str, tuple[int, int]], minimum: int = 10) -> Disparity:
    """Groups by name: rows and how many of them favourable."""
    names = [name for name, (rows, _) in groups.items() for _ in range(rows)]
    good = [place < chosen for rows, chosen in groups.values() for place in range(rows)]
    frame = pl.DataFrame({"group": names, "favourable": good}, schema={"group": pl.String, "favourable": pl.Boolean})
    return measure_fairness(frame, "SEX", ratio_limit=0.8, minimum_group=minimum, confidence=0.95)


def test_the_ratio_is_the_lowest_rate_over_the_highest() -> None:
    told = measured({"a": (100, 80), "b": (100, 60), "c": (100, 70)})
    assert told.ratio == pytest.approx(0.75)
    assert told.verdict == "breach"
    assert told.ratio_interval is not None
    assert told.ratio_interval[0] < 0.75 < told.ratio_interval[1]


@pytest.mark.parametrize(
    "groups",
    [{}, {"a": (100, 80)}, {"a": (100, 80), "b": (9, 1)}, {"a": (100, 0), "b": (100, 0)}],
    ids=["no rows", "one group", "one large group", "nobody approved"],
)
def test_what_cannot_be_judged_is_not_enough_data(groups: dict[str, tuple[int, int]]) -> None:
    told = measured(groups)
    assert told.verdict == "not_enough_data"
    assert told.ratio is None
    assert {group.group for group in told.groups} == set(groups)  # nobody is dropped


def test_a_group_nobody_of_which_is_approved_is_a_breach() -> None:
    told = measured({"a": (100, 80), "b": (100, 0)})
    assert (told.ratio, told.ratio_interval, told.verdict) == (0.0, None, "breach")


def test_rows_without_a_group_are_refused() -> None:
    for wrong in (pl.DataFrame({"group": ["a", None], "favourable": [True, True]}), pl.DataFrame({"group": ["a"]})):
        with pytest.raises(InvalidError):
            measure_fairness(wrong, "SEX", ratio_limit=0.8, minimum_group=10, confidence=0.95)
    with pytest.raises(InvalidError):
        measure_disparity(
            "SEX", pl.Series(["a"]), np.array([True, False]), ratio_limit=1, minimum_group=1, confidence=0.9
        )


def test_the_fact_lists_every_group() -> None:
    fact = measured({"a": (100, 80), "b": (5, 5)}).to_dict("m@1", "live")
    assert [(one["group"], one["n"], one["enough"]) for one in fact["groups"]] == [("a", 100, True), ("b", 5, False)]
    assert fact["stage"] == "live"


def test_ages_are_banded_and_values_named() -> None:
    assert band(pl.Series("AGE", [18, 29, 30, 39, 40, 99]), [30, 40]).to_list() == [
        "under 30",
        "under 30",
        "30 to 39",
        "30 to 39",
        "40 and over",
        "40 and over",
    ]
    assert group_column(pl.Series("SEX", [1, 2, 3]), None, {"1": "men", "2": "women"}).to_list() == [
        "men",
        "women",
        "3",
    ]


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_holds_the_rate_and_stays_in_bounds(events: int, others: int) -> None:
    low, high = wilson(events, events + others, 0.95)
    assert 0 <= low <= high <= 1
    if events + others:
        assert low <= events / (events + others) + 1e-12
        assert high >= events / (events + others) - 1e-12


def test_intervals_against_published_values() -> None:
    assert wilson(15, 50, 0.95) == pytest.approx((0.19103, 0.43751), abs=1e-4)
    assert ratio_interval(0, 10, 5, 10, 0.95) is None
    low, high = ratio_interval(15, 100, 30, 100, 0.95) or (0, 0)
    assert (low, high) == pytest.approx((0.2872, 0.8704), abs=1e-4)  # 0.5 * exp(-+1.96 * sqrt(0.08))


def test_auc_is_the_chance_that_a_bad_row_scores_higher() -> None:
    source = np.random.default_rng(1)
    outcomes = source.random(400) < 0.3
    scores = np.round(source.normal(size=400) + outcomes, 1)  # ties included
    above = scores[outcomes][:, None] - scores[~outcomes][None]
    told = auc(scores, outcomes, 0.95)
    assert told.value == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean())
    assert told.interval[0] < told.value < told.interval[1]
    same = auc_difference(scores, scores, outcomes, 0.95)
    assert (same.value, same.interval) == (0.0, (0.0, 0.0))
    with pytest.raises(InvalidError):
        auc(scores, np.zeros(400, dtype=bool), 0.95)


def test_the_interval_of_a_difference_covers_the_truth() -> None:
    """95 % intervals of two models that are equally good miss zero in about 5 % of 300 draws."""
    source, missed = np.random.default_rng(7), 0
    for _ in range(300):
        outcomes = source.random(300) < 0.4
        shared = source.normal(size=300) + outcomes
        first, second = (shared + source.normal(size=300) for _ in range(2))
        low, high = auc_difference(first, second, outcomes, 0.95).interval
        missed += not low <= 0 <= high
    assert 4 <= missed <= 30
