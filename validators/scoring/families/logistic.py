"""Logistic regression on standardised features: the simple, approved model that answers when the champion cannot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lineage.errors import TamperedError, UnavailableError
from validators.scoring.port import Rows

_KEYS = ("intercept", "coefficients", "means", "scales")


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

    def score(self, rows: Rows) -> Rows:
        """Probabilities, float64[n].

        The sum runs in feature order (accumulate, not BLAS), so that a row alone and the same row in a batch give
        the same bits and a recorded decision can be replayed.
        """
        log_odds = self.intercept + np.add.accumulate(self.contributions(rows), axis=1)[:, -1]
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -700.0, 700.0))), dtype=np.float64)

    def contributions(self, rows: Rows) -> Rows:
        """coefficient * (x - mean) / scale, float64[n, width], in log-odds."""
        return np.asarray(self.coefficients * ((rows - self.means) / self.scales), dtype=np.float64)


def load(path: Path) -> Logistic:
    """Load the JSON artefact. The caller has verified the digest of these bytes already.

    Raises:
        UnavailableError: the file cannot be read.
        TamperedError: the bytes are not a logistic model: keys, lengths or numbers are wrong.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UnavailableError(f"cannot read model artefact {path}: {error.strerror}") from error
    except ValueError as error:
        raise TamperedError(f"{path.name} is not JSON ({error}); fetch the release again") from error
    return _parse(path.name, content)


def _parse(name: str, content: Any) -> Logistic:
    if not isinstance(content, dict) or set(content) != set(_KEYS):
        raise TamperedError(f"{name} is not a logistic model: expected exactly the keys {', '.join(_KEYS)}")
    try:
        intercept = float(content["intercept"])
        coefficients, means, scales = (np.asarray(content[key], dtype=np.float64) for key in _KEYS[1:])
    except (TypeError, ValueError) as error:
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
