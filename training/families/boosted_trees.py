"""Gradient-boosted trees with XGBoost: histograms, one thread, a given seed: a refit gives the same bytes."""

from __future__ import annotations

from typing import Any

from lineage.errors import InvalidError
from training.family import Examples, Params, Range, check_params
from validators.scoring.xgboost_without_sklearn import import_xgboost


class BoostedTrees:
    """XGBoost, binary:logistic, stored as UBJ."""

    artefact = "model.ubj"

    def defaults(self) -> dict[str, Any]:
        """Shallow trees with a small step: on tabular credit data they lose little accuracy and explain quickly."""
        return {
            "trees": 120,
            "max_depth": 4,
            "learning_rate": 0.1,
            "subsample": 0.8,
            "colsample_bytree": 0.8,
            "min_child_weight": 20.0,
            "reg_lambda": 5.0,
        }

    def space(self) -> dict[str, Range]:
        """Around the defaults; depth stays small because the cost of an explanation grows with its square."""
        return {
            "trees": Range(60, 200, whole=True),
            "max_depth": Range(3, 6, whole=True),
            "learning_rate": Range(0.04, 0.2, log=True),
            "min_child_weight": Range(5, 80, log=True),
            "reg_lambda": Range(1, 20, log=True),
        }

    def fit(self, params: Params, train: Examples, seed: int) -> bytes:
        """UBJ bytes of the booster.

        Raises:
            UnknownError: a parameter that is not one of the defaults.
            InvalidError: only one outcome among the examples.
        """
        chosen = check_params(params, self.defaults(), "boosted_trees")
        if train.outcomes.all() or not train.outcomes.any():
            raise InvalidError("all examples have the same outcome; nothing can be learned", field="data.label")
        xgb = import_xgboost()
        rounds = int(chosen.pop("trees"))
        fixed = {"objective": "binary:logistic", "tree_method": "hist", "nthread": 1, "seed": seed, "verbosity": 0}
        matrix = xgb.DMatrix(train.rows, label=train.outcomes, nthread=1)
        booster = xgb.train(chosen | fixed, matrix, num_boost_round=rounds)
        return bytes(booster.save_raw("ubj"))


family = BoostedTrees()
