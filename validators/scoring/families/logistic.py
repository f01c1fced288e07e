"""Logistic regression on standardised features: the usual baseline, which scores when the champion cannot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lineage.errors import TamperedError
from validators.scoring.port import Rows

_KEYS = ("intercept", "coefficients", "means", "scales")
_CLIP = 700.0  # log-odds beyond which exp would overflow


@dataclass(frozen=True)
class Logistic:
    """score = 1 / (1 + exp(-(intercept + sum of coefficient * (x - mean) / scale)))."""

    intercept: float
    coefficients: Rows
    means: Rows
    scales: Rows

    @property
    def width(self) -> int:
        return len(self.coefficients)

    @cached_property
    def _terms(self) -> list[tuple[float, float, float]]:
        return list(zip(*(part.tolist() for part in (self.coefficients, self.means, self.scales)), strict=True))

    def score(self, rows: Rows) -> Rows:
        """Probabilities, float64[n].

        The sum runs in feature order (accumulate, not BLAS), so that a row alone and the same row in a batch give
        the same bits and a recorded decision can be replayed. A single row takes the same sums without NumPy, whose
        calls would cost twice as much as the arithmetic.
        """
        if len(rows) == 1:
            return self._score_one(rows[0].tolist())
        log_odds = self.intercept + np.add.accumulate(self.contributions(rows), axis=1)[:, -1]
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -_CLIP, _CLIP))), dtype=np.float64)

    def _score_one(self, row: list[float]) -> Rows:
        terms = [term * ((value - mean) / scale) for value, (term, mean, scale) in zip(row, self._terms, strict=True)]
        total = terms[0]
        for term in terms[1:]:
            total += term
        log_odds = min(max(self.intercept + total, -_CLIP), _CLIP)  # NaN stays NaN in this order
        return np.array([1.0 / (1.0 + float(np.exp(-log_odds)))])  # math.exp may differ in the last bit

    def contributions(self, rows: Rows) -> Rows:
        """coefficient * (x - mean) / scale, float64[n, width], in log-odds."""
        return np.asarray(self.coefficients * ((rows - self.means) / self.scales), dtype=np.float64)


def parse(name: str, content: bytes) -> Logistic:
    """Read the JSON artefact. The caller has verified the digest of these bytes already.

    Raises:
        TamperedError: the bytes are not a logistic model: keys, lengths or numbers are wrong.
    """
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TamperedError(f"{name} is not JSON ({error}); fetch the release again") from error
    return _parse(name, parsed)


def _parse(name: str, content: Any) -> Logistic:
    if not isinstance(content, dict) or set(content) != set(_KEYS):
        raise TamperedError(f"{name} is not a logistic model: expected exactly the keys {', '.join(_KEYS)}")
    try:
        intercept = float(content["intercept"])
        coefficients, means, scales = (np.asarray(content[key], dtype=np.float64) for key in _KEYS[1:])
    except (TypeError, ValueError, OverflowError) as error:
        raise TamperedError(f"{name} is not a logistic model: {error}") from error
    shapes = {coefficients.shape, means.shape, scales.shape}
    if len(shapes) != 1 or coefficients.ndim != 1 or not len(coefficients):
        raise TamperedError(
            f"{name} is not a logistic model: coefficients, means and scales need one value per feature"
        )
    finite = np.isfinite(intercept) and all(np.isfinite(part).all() for part in (coefficients, means, scales))
    if not finite or not (scales > 0).all():
        raise TamperedError(f"{name} is not a logistic model: every number must be finite and every scale above 0")
    return Logistic(intercept, coefficients, means, scales)
