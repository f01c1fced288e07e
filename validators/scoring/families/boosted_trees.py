"""Gradient-boosted trees: an XGBoost model in UBJ or JSON, explained by XGBoost's own exact TreeSHAP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lineage.errors import TamperedError, UnavailableError
from validators.scoring.port import Rows
from validators.scoring.xgboost_alone import import_xgboost

xgb = import_xgboost()


class BoostedTrees:
    """A binary:logistic booster that answers on one thread, so that replicas do not fight over cores."""

    def __init__(self, booster: Any) -> None:
        booster.set_param({"nthread": 1})
        self._booster = booster
        self.width: int = booster.num_features()

    def score(self, rows: Rows) -> Rows:
        """Probabilities, float64[n]. Predicting in place costs a fifth less than building a DMatrix for one row."""
        scores = self._booster.inplace_predict(rows, validate_features=False)
        return np.asarray(scores, dtype=np.float64)

    def contributions(self, rows: Rows) -> Rows:
        """Exact TreeSHAP in log-odds, float64[n, width]; the last column XGBoost returns is the bias and is cut off."""
        matrix = xgb.DMatrix(rows, nthread=1)
        pushed = self._booster.predict(matrix, pred_contribs=True, validate_features=False)
        return np.asarray(pushed[:, :-1], dtype=np.float64)


def load(path: Path) -> BoostedTrees:
    """Load a booster. The caller has verified the digest of these bytes already.

    Raises:
        UnavailableError: the file cannot be read.
        TamperedError: the bytes are not an XGBoost model.
    """
    try:
        content = bytearray(path.read_bytes())
    except OSError as error:
        raise UnavailableError(f"cannot read model artefact {path}: {error.strerror}") from error
    booster = xgb.Booster()
    try:
        booster.load_model(content)
    except xgb.core.XGBoostError as error:
        reason = str(error).strip().splitlines()[-1]
        raise TamperedError(f"{path.name} is not an XGBoost model ({reason}); fetch the release again") from error
    return BoostedTrees(booster)
