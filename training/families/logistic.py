"""Logistic regression by Newton's method on standardised features, with an L2 penalty: small and exactly repeatable."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from lineage.errors import InvalidError
from training.family import Examples, Params, Range, check_params


class Logistic:
    """Intercept and one coefficient a feature, stored as JSON."""

    artefact = "model.json"

    def defaults(self) -> dict[str, Any]:
        """A light penalty and more Newton steps than are needed in practice."""
        return {"l2": 1.0, "steps": 25}

    def space(self) -> dict[str, Range]:
        """Only the penalty."""
        return {"l2": Range(0.01, 100, log=True)}

    def fit(self, params: Params, train: Examples, seed: int) -> bytes:  # noqa: ARG002 - nothing here is random
        """JSON bytes with intercept, coefficients, means and scales.

        Raises:
            UnknownError: a parameter other than l2 and steps.
            InvalidError: only one outcome among the examples, or the fit does not converge.
        """
        chosen = check_params(params, self.defaults(), "logistic")
        if train.outcomes.all() or not train.outcomes.any():
            raise InvalidError("all examples have the same outcome; nothing can be learned", field="data.label")
        means, scales = train.rows.mean(axis=0), train.rows.std(axis=0)
        scales = np.where(scales > 0, scales, 1.0)
        standard = (train.rows - means) / scales
        weights = _newton(standard, train.outcomes.astype(np.float64), float(chosen["l2"]), int(chosen["steps"]))
        model = {
            "intercept": float(weights[0]),
            "coefficients": weights[1:].tolist(),
            "means": means.tolist(),
            "scales": scales.tolist(),
        }
        return (json.dumps(model, indent=1) + "\n").encode()


def _newton(rows: np.ndarray, outcomes: np.ndarray, l2: float, steps: int) -> np.ndarray:
    """Weights, intercept first and without penalty."""
    design = np.column_stack([np.ones(len(rows)), rows])
    penalty = np.full(design.shape[1], l2)
    penalty[0] = 0.0
    weights = np.zeros(design.shape[1])
    for _ in range(steps):
        chance = 1.0 / (1.0 + np.exp(-(design @ weights)))
        gradient = design.T @ (chance - outcomes) + penalty * weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    if not np.isfinite(weights).all():
        raise InvalidError("the logistic fit does not converge; raise training l2", field="l2")
    return weights


family = Logistic()
