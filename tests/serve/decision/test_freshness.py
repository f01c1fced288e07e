from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.decision.freshness import SKEW_SECONDS, ViewReading, sort_by_freshness, usable_features
from validators.scoring.features import Feature

NOW = 1_800_000_000.0
DAY = 86_400.0


def reading(age: float | None, ttl: float = DAY, view: str = "v", **values: object) -> ViewReading:
    return ViewReading(view, ttl, None if age is None else NOW - age, values or {"a": 1, "b": 2.5})


def test_young_values_are_fresh() -> None:
    served = sort_by_freshness([reading(10.0)], NOW, "s")
    assert served.fresh
    assert served.values == {"a": 1, "b": 2.5}
    assert served.ages == {"v": 10.0}
    assert (served.oldest_seconds, served.service) == (10.0, "s")


def test_an_expired_value_is_never_among_the_values() -> None:
    served = sort_by_freshness([reading(DAY + 0.001), reading(5.0, view="w", c=3)], NOW, "s")
    assert served.values == {"c": 3}
    assert served.stale == ("a", "b")
    assert not served.fresh
    assert served.oldest_seconds == pytest.approx(DAY, abs=0.01)


def test_the_last_moment_of_the_limit_counts() -> None:
    assert sort_by_freshness([reading(DAY)], NOW, "s").fresh


def test_a_limit_of_zero_is_none() -> None:
    assert sort_by_freshness([reading(1000 * DAY, ttl=0.0)], NOW, "s").fresh


@pytest.mark.parametrize("ttl", [0.0, DAY])
def test_values_from_the_future_are_not_usable(ttl: float) -> None:
    assert sort_by_freshness([reading(-SKEW_SECONDS, ttl)], NOW, "s").fresh
    ahead = sort_by_freshness([reading(-SKEW_SECONDS - 0.01, ttl)], NOW, "s")
    assert (ahead.values, ahead.stale) == ({}, ("a", "b"))


def test_a_time_that_is_no_number_is_not_usable() -> None:
    for ttl in (0.0, DAY):
        assert sort_by_freshness([ViewReading("v", ttl, math.nan, {"a": 1})], NOW, "s").stale == ("a",)


def test_what_is_not_there_is_missing() -> None:
    served = sort_by_freshness([reading(1.0, a=None, b=0), reading(None, view="w", c=None, d=None)], NOW, "s")
    assert (served.values, served.missing, served.stale) == ({"b": 0}, ("a", "c", "d"), ())
    assert served.known
    nobody = sort_by_freshness([reading(None, a=None)], NOW, "s")
    assert not nobody.known
    assert nobody.oldest_seconds is None


def test_a_value_without_a_time_is_missing_whatever_it_is() -> None:
    served = sort_by_freshness([ViewReading("v", 0.0, None, {"a": 1})], NOW, "s")
    assert (served.values, served.missing) == ({}, ("a",))


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(-1e6, 1e9)),
            st.sampled_from([0.0, 1.0, DAY, 45 * DAY]),
            st.one_of(st.none(), st.integers(), st.floats(allow_nan=False)),
        ),
        max_size=6,
    )
)
def test_each_feature_is_in_one_place_and_no_used_one_is_too_old(
    rows: list[tuple[float | None, float, object]],
) -> None:
    readings = [
        ViewReading(f"v{n}", ttl, None if age is None else NOW - age, {f"f{n}": value})
        for n, (age, ttl, value) in enumerate(rows)
    ]
    served = sort_by_freshness(readings, NOW, "s")
    places = [*served.values, *served.stale, *served.missing]
    assert sorted(places) == sorted(f"f{n}" for n in range(len(rows)))
    for name in served.values:
        age, ttl, value = rows[int(name[1:])]
        assert age is not None
        assert value is not None
        assert NOW - (NOW - age) >= -SKEW_SECONDS
        assert not ttl or NOW - (NOW - age) <= ttl


def test_a_value_that_the_model_does_not_take_is_missing_not_the_callers_fault() -> None:
    features = [Feature("a", "integer", 0, 9), Feature("b", "number"), Feature("c", "category", categories=(1, 2))]
    served = usable_features(sort_by_freshness([reading(1.0, a=12, b=1.5, c=2, d=7)], NOW, "s"), features)
    assert served.values == {"b": 1.5, "c": 2}
    assert served.missing == ("a",)
    short = usable_features(sort_by_freshness([reading(1.0, a=1)], NOW, "s"), features)
    assert (short.values, short.missing) == ({"a": 1}, ("b", "c"))
    assert usable_features(sort_by_freshness([reading(2 * DAY, a=1, b=1, c=1)], NOW, "s"), features).missing == ()
