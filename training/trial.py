"""One trial of a search: fit a model with one set of parameters and measure how well it ranks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.family import Examples
from training.plugins import family_of
from validators.scoring.model_artefact import parse_scorer
from validators.statistics.auc import auc


@dataclass(frozen=True)
class Trial:
    """One set of parameters and the AUC it reached on the validation rows.

    `model` holds the artefact's bytes where the trial ran in this process; None where it ran on the cluster.
    """

    params: dict[str, Any]
    auc: float
    seconds: float
    model: bytes | None = None


def run_trial(family: str, params: Mapping[str, Any], train: Examples, validation: Examples, seed: int) -> Trial:
    """Fit, then rank the validation rows with the scorer that production uses.

    Raises:
        InvalidError: an unknown parameter, or examples from which nothing can be learned.
    """
    started = time.perf_counter()
    learner = family_of(family)
    content = learner.fit(params, train, seed)
    scores = parse_scorer(family, learner.artefact, content).score(validation.rows)
    value = auc(scores, validation.outcomes, 0.95).value
    return Trial(dict(params), value, time.perf_counter() - started, content)
