"""Anytime-valid sequential tests: the pure mathematics of the judge.

An e-value is the gain of a bet against a hypothesis. Under the hypothesis the probability that the gain ever reaches
1/alpha is at most alpha (Ville), at any look and any stopping time. All functions return the logarithm of an
e-value and take arrays as well as numbers.

- Counts of events between two arms: given an event, it fell on the challenger with probability
  theta = exposure * ratio / (exposure * ratio + 1 - exposure), whatever the intensity (Lindon & Malek, NeurIPS 2022).
  Bets are mixtures over theta with a Beta prior of `strength` pseudo-events, cut to one side for one-sided claims.
- A rate in one arm: bets are mixtures over odds ratios, half of the mass below a limit on "this never happens", so
  that 0 events in n say as much as they can.
"""

from __future__ import annotations

from functools import lru_cache
from math import lgamma, log
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_POINTS = 256  # points of a mixture; any number is exact, more is closer to the continuous prior
_ODDS = np.geomspace(1.05, 200.0, 48)
_TINY = 1e-12


def log_e_multinomial(counts: list[int], probabilities: list[float], strength: float) -> float:
    """Against "events fall in these cells with these probabilities": Dirichlet mixture, two-sided.

    Args:
        counts: events in each cell.
        probabilities: of each cell under the hypothesis, summing to 1.
        strength: the Dirichlet prior is `strength * probabilities`.
    """
    total = log_null = 0.0
    for count, p in zip(counts, probabilities, strict=True):
        if p <= 0.0:
            if count:
                return float("inf")
            continue
        total += lgamma(strength * p + count) - lgamma(strength * p)
        log_null += count * log(p)
    return total + lgamma(strength) - lgamma(strength + sum(counts)) - log_null


def theta_of(exposure: float, ratio: float) -> float:
    """Probability that an event falls on the challenger, given its share of the exposure and the rate ratio."""
    return exposure * ratio / (exposure * ratio + 1.0 - exposure)


def log_e_ratio_above(challenger: Any, control: Any, exposure: float, limit: float, strength: float) -> Any:
    """Against "the challenger's rate is at most `limit` times the control's": large when it is higher."""
    return _one_sided(challenger, control, exposure, limit, strength, above=True)


def log_e_ratio_below(challenger: Any, control: Any, exposure: float, limit: float, strength: float) -> Any:
    """Against "the challenger's rate is at least `limit` times the control's": large when it is lower."""
    return _one_sided(challenger, control, exposure, limit, strength, above=False)


def log_e_rate_above(events: Any, n: Any, limit: float) -> Any:
    """Against "the rate is at most `limit`"; `events` of `n` subjects had the event."""
    if limit >= 1.0:
        return np.zeros_like(np.asarray(events, dtype=np.float64))[()]
    odds = limit / (1.0 - limit) if limit > 0.0 else _TINY
    rates = odds * _ODDS / (1.0 + odds * _ODDS)
    return _mixture(events, n, rates, np.full(len(rates), -log(len(rates))), max(limit, _TINY))


def log_e_rate_below(events: Any, n: Any, limit: float) -> Any:
    """Against "the rate is at least `limit`"; half of the prior says that the event never happens."""
    if limit <= 0.0:
        return np.zeros_like(np.asarray(events, dtype=np.float64))[()]
    capped = min(limit, 1.0 - _TINY)
    odds = capped / (1.0 - capped) / _ODDS
    rates = np.concatenate([[0.0], odds / (1.0 + odds)])
    weights = np.concatenate([[log(0.5)], np.full(len(_ODDS), log(0.5) - log(len(_ODDS)))])
    return _mixture(events, n, rates, weights, capped)


def rate_interval(events: int, n: int, alpha: float) -> list[float]:
    """Bounds [lower, upper] on a rate, each wrong at any time with probability at most `alpha`.

    They invert the same bets: a limit lies outside exactly if its e-value has reached 1/alpha.
    """
    if n <= 0:
        return [0.0, 1.0]
    need, rate = -log(alpha), events / n
    lower = _bisect(0.0, rate, lambda limit: bool(log_e_rate_above(events, n, limit) >= need))
    upper = _bisect(1.0, rate, lambda limit: bool(log_e_rate_below(events, n, limit) >= need))
    return [round(lower, 6), round(upper, 6)]


def _bisect(outside: float, inside: float, excluded: Any) -> float:
    """The last excluded limit between one end of the unit interval and the observed rate."""
    if not excluded(outside):
        return outside
    for _ in range(40):
        middle = (outside + inside) / 2.0
        if excluded(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _one_sided(challenger: Any, control: Any, exposure: float, limit: float, strength: float, *, above: bool) -> Any:
    ours, others = np.asarray(challenger, dtype=np.float64), np.asarray(control, dtype=np.float64)
    if not 0.0 < exposure < 1.0:  # one arm only: there is nothing to compare, so the bet is not placed
        return np.zeros_like(ours)[()]
    edge = theta_of(exposure, limit)
    theta, weight = _beta_points(edge, exposure, strength, above)
    gain = (
        weight
        + ours[..., None] * (np.log(theta) - log(edge))
        + others[..., None] * (np.log1p(-theta) - np.log1p(-edge))
    )
    return _log_sum(gain)[()]


@lru_cache(maxsize=512)
def _beta_points(edge: float, centre: float, strength: float, above: bool) -> tuple[Floats, Floats]:
    """Points on one side of `edge` and the logarithms of their weights under Beta(strength * (centre, 1 - centre))."""
    low, high = (edge, 1.0) if above else (0.0, edge)
    theta = low + (np.arange(_POINTS) + 0.5) / _POINTS * (high - low)
    density = (strength * centre - 1.0) * np.log(theta) + (strength * (1.0 - centre) - 1.0) * np.log1p(-theta)
    return theta, density - _log_sum(density)


def _mixture(events: Any, n: Any, rates: Floats, weights: Floats, limit: float) -> Any:
    hits = np.asarray(events, dtype=np.float64)[..., None]
    misses = np.asarray(n, dtype=np.float64)[..., None] - hits
    with np.errstate(divide="ignore", invalid="ignore"):
        up = np.where(hits == 0.0, 0.0, hits * (np.log(rates) - log(limit)))
    down = misses * (np.log1p(-np.minimum(rates, 1.0 - _TINY)) - np.log1p(-limit))
    return _log_sum(weights + up + down)[()]


def _log_sum(values: Floats) -> Floats:
    most = values.max(axis=-1, keepdims=True)
    most = np.where(np.isfinite(most), most, 0.0)
    return np.asarray(np.log(np.exp(values - most).sum(axis=-1)) + most[..., 0])
