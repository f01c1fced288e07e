"""Drift of one window: the distance of every column from the release's reference, judged by the policy's limits.

The statistic is the policy's choice. Evidently's own choice is never used, because it changes with the number of rows
(at 1,001 rows it moves from a test to a distance).
"""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from lineage.digest import digest_of
from lineage.errors import InvalidError, UnavailableError
from lineage.policy import DriftLimits, Policy
from validators.drift.port import DriftStatistic
from validators.plugins import DRIFT_STATISTICS

CATEGORY_VALUES = 20  # whole-numbered columns with at most this many values are compared value by value


def measure_drift(
    reference: pl.DataFrame, window: pl.DataFrame, policy: Policy, release: str | None = None
) -> dict[str, Any]:
    """The data of a DriftMeasured fact.

    Args:
        reference: the release's reference.parquet: feature columns and `score`, numbers as the model took them.
        window: the same columns of live decisions, and `at` (any sortable text or time) where the fact is to hold the
            time of the first and last.

    Raises:
        InvalidError: a column of the reference is missing in the window, or is not a number.
        UnavailableError: the statistic cannot be loaded, or its distance is not a number.
    """
    limits = policy.monitor.drift
    columns = list(reference.columns)
    for name in columns:
        if name not in window.columns:
            raise InvalidError(f"the window has no column {name!r}; expected those of the reference", field=name)
    reference, times = _numbers(reference, "reference"), window["at"] if "at" in window.columns else None
    rows: dict[str, Any] = {"rows": window.height, "from": None, "to": None, "reference_rows": reference.height}
    if times is not None and window.height:
        rows |= {"from": str(times.min()), "to": str(times.max())}
    if min(window.height, reference.height) < limits.minimum_rows:
        return _fact(release, rows, [], None, limits, "not_enough_data")
    scores = _distances(limits.method, reference, _numbers(window.select(columns), "window"))
    features = [
        {
            "feature": name,
            "score": scores[name],
            "method": limits.method,
            "limit": limits.feature_limit,
            "drifted": scores[name] >= limits.feature_limit,
        }
        for name in sorted(columns, key=lambda name: (-scores[name], name))
    ]
    share = sum(scores[name] >= limits.feature_limit for name in columns) / len(columns)
    return _fact(release, rows, features, share, limits, "drift" if share >= limits.limit_share else "ok")


def is_category(column: pl.Series) -> bool:
    """Whether a reference column is compared value by value rather than by bins."""
    return bool((column == column.floor()).all()) and column.n_unique() <= CATEGORY_VALUES


def distance(statistic: DriftStatistic, reference: pl.Series, window: pl.Series, *, category: bool) -> float:
    """The statistic's distance of one column, with its promises enforced: numbers in, a finite distance out.

    Args:
        reference: n numbers, n at least 1.
        window: m numbers, m at least 1.

    Raises:
        InvalidError: a column is empty, or holds something else than finite numbers.
        UnavailableError: the distance is negative or not finite; it could be taken for "not drifted".
    """
    for column, what in ((reference, "reference"), (window, "window")):
        if not len(column):
            raise InvalidError(f"column {column.name!r} of the {what} is empty; expected rows", field=column.name)
        _numbers(column.to_frame(), what)
    found = statistic.distance(
        reference.cast(pl.Float64).to_numpy(), window.cast(pl.Float64).to_numpy(), category=category
    )
    if not math.isfinite(found) or found < 0:
        raise UnavailableError(
            f"{statistic.title} is {found!r} for column {reference.name!r}; expected a finite distance of at least 0: "
            "use another method, or repair the statistic",
            field=reference.name,
        )
    return float(found)


def _distances(method: str, reference: pl.DataFrame, window: pl.DataFrame) -> dict[str, float]:
    """The drift score of each column."""
    statistic: DriftStatistic = DRIFT_STATISTICS.load(method)
    return {
        name: distance(statistic, reference[name], window[name], category=is_category(reference[name]))
        for name in reference.columns
    }


def _fact(
    release: str | None,
    window: dict[str, Any],
    features: list[dict[str, Any]],
    share: float | None,
    limits: DriftLimits,
    verdict: str,
) -> dict[str, Any]:
    fact = {"release": release, "window": window, "features": features, "share_drifted": share}
    fact |= {"limit": limits.limit_share, "verdict": verdict}
    return fact | {"report_digest": digest_of(fact)}


def _numbers(frame: pl.DataFrame, what: str) -> pl.DataFrame:
    """The frame as float64, or the first column that holds something else than finite numbers refused."""
    for name, kind in frame.schema.items():
        if not kind.is_numeric():
            raise InvalidError(f"column {name!r} of the {what} holds {kind}; expected numbers", field=name)
        if frame[name].null_count() or not frame[name].cast(pl.Float64).is_finite().all():
            raise InvalidError(f"column {name!r} of the {what} has empty or infinite cells", field=name)
    return frame.cast(pl.Float64)
