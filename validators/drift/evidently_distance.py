"""Distances as Evidently computes them, without the figures that its reports draw.

A report of 23 columns takes some seconds; the statistic alone gives the same number in milliseconds. Importing
Evidently takes seconds, so it happens when the first distance is computed.
"""

from __future__ import annotations

import os
import warnings

import polars as pl

from validators.drift.port import Values

_TELEMETRY_OFF = {"EVIDENTLY_DISABLE_TELEMETRY": "1", "ITERATIVE_DO_NOT_TRACK": "do-not-track", "DO_NOT_TRACK": "1"}
_THRESHOLD = 0.1  # Evidently wants one; it does not move the distance


def evidently_distance(method: str, reference: Values, window: Values, *, category: bool) -> float:
    """The drift score of Evidently's method for one column.

    Args:
        method: Evidently's name of the statistic.
        reference: float64[n].
        window: float64[m].
        category: compare value by value rather than by bins.
    """
    os.environ.update(_TELEMETRY_OFF)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn about its own code
        from evidently.legacy.calculations.stattests.registry import get_registered_stattest
        from evidently.legacy.core import ColumnType

        kind = ColumnType.Categorical if category else ColumnType.Numerical
        compare = get_registered_stattest(method, kind)
        samples = (pl.Series(sample).to_pandas() for sample in (reference, window))
        return float(compare(*samples, kind, _THRESHOLD).drift_score)
