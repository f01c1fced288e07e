"""The area under the ROC curve and its DeLong interval, alone and as a paired difference.

DeLong, DeLong & Clarke-Pearson (1988), computed from mid-ranks (Sun & Xu, 2014). Closed form: no resampling, so the
same rows give the same interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from lineage.errors import InvalidError

Scores = npt.NDArray[np.float64]
Outcomes = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A value and its two-sided confidence interval."""

    value: float
    interval: tuple[float, float]


def auc(scores: Scores, outcomes: Outcomes, confidence: float) -> Estimate:
    """AUC of one model.

    Raises:
        InvalidError: fewer than two rows of either outcome, or lengths that differ.
    """
    value, positives, negatives = _parts(scores, outcomes)
    variance = positives.var(ddof=1) / len(positives) + negatives.var(ddof=1) / len(negatives)
    return _estimate(value, variance, confidence, lowest=0.0)


def auc_difference(first: Scores, second: Scores, outcomes: Outcomes, confidence: float) -> Estimate:
    """AUC(first) - AUC(second) on the same rows; pairing removes the variance the two share.

    Raises:
        InvalidError: fewer than two rows of either outcome, or lengths that differ.
    """
    value, positives, negatives = _parts(first, outcomes)
    other, other_positives, other_negatives = _parts(second, outcomes)
    positives, negatives = positives - other_positives, negatives - other_negatives
    variance = positives.var(ddof=1) / len(positives) + negatives.var(ddof=1) / len(negatives)
    return _estimate(value - other, variance, confidence, lowest=-1.0)


def _parts(scores: Scores, outcomes: Outcomes) -> tuple[float, Scores, Scores]:
    """AUC and its structural components, one per positive and one per negative row."""
    if scores.shape != outcomes.shape or scores.ndim != 1:
        raise InvalidError(f"scores {scores.shape} and outcomes {outcomes.shape} must be as long as each other")
    positive, negative = scores[outcomes], scores[~outcomes]
    if len(positive) < 2 or len(negative) < 2:
        raise InvalidError(f"AUC needs two rows of each outcome; got {len(positive)} and {len(negative)}")
    ranks = _midranks(scores)
    above = (ranks[outcomes] - _midranks(positive)) / len(negative)
    below = 1.0 - (ranks[~outcomes] - _midranks(negative)) / len(positive)
    return float(above.mean()), above, below


def _midranks(values: Scores) -> Scores:
    """Ranks from 1; ties share the middle of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[inverse], dtype=np.float64)


def _estimate(value: float, variance: float, confidence: float, lowest: float) -> Estimate:
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * float(np.sqrt(variance))
    return Estimate(value, (max(lowest, value - reach), min(1.0, value + reach)))
