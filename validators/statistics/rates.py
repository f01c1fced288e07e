"""Rates of groups: a Wilson interval for one rate, a log (Katz) interval for the ratio of two."""

from __future__ import annotations

from math import exp, log, sqrt
from statistics import NormalDist


def wilson(events: int, rows: int, confidence: float) -> tuple[float, float]:
    """Two-sided interval of events / rows; (0, 1) without rows."""
    if rows == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = events / rows
    centre = (rate + z * z / (2 * rows)) / (1 + z * z / rows)
    reach = z / (1 + z * z / rows) * sqrt(rate * (1 - rate) / rows + z * z / (4 * rows * rows))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def ratio_interval(
    events: int, rows: int, other_events: int, other_rows: int, confidence: float
) -> tuple[float, float] | None:
    """Two-sided interval of (events / rows) / (other_events / other_rows), by the delta method on its logarithm.

    None when a group has no event: the logarithm does not exist, so there is no interval.
    """
    if not events or not other_events:
        return None
    spread = sqrt(1 / events - 1 / rows + 1 / other_events - 1 / other_rows)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = log((events / rows) / (other_events / other_rows))
    return exp(middle - z * spread), exp(middle + z * spread)
