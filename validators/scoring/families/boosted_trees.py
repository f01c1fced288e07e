"""Gradient-boosted trees: an XGBoost model in UBJ or JSON, explained by XGBoost's own exact TreeSHAP."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import structlog

from lineage.errors import PlimsollError, TamperedError
from validators.scoring import xgboost_c_api
from validators.scoring.port import Rows
from validators.scoring.xgboost_without_sklearn import import_xgboost

log = structlog.get_logger("plimsoll.scoring")
xgb = import_xgboost()
_PROBES = 3


class BoostedTrees:
    """A binary:logistic booster that scores on one thread, so that replicas do not compete for cores.

    It uses `xgboost_c_api` where that gave the same bits as the public calls on probe rows, and the public calls
    otherwise. Any number of threads may call it at a time.

    Raises:
        TamperedError: the booster does not give one probability a row.
    """

    def __init__(self, booster: Any) -> None:
        booster.set_param({"nthread": 1})
        self._booster = booster
        self.width: int = booster.num_features()
        probes = np.linspace(-3.0, 3.0, _PROBES * self.width).reshape(_PROBES, self.width)
        expected = self._public_score(probes)
        if expected.shape != (_PROBES,):
            raise TamperedError(f"the model answers in shape {expected.shape[1:]} a row; expected one probability")
        self._scores_direct = _agrees(xgboost_c_api.score, booster, probes, expected)
        self._explains_direct = _explains_direct(self, probes[:1])  # one row explained costs a tenth of loading

    def score(self, rows: Rows) -> Rows:
        """Probabilities, float64[n]."""
        return xgboost_c_api.score(self._booster, rows) if self._scores_direct else self._public_score(rows)

    def contributions(self, rows: Rows) -> Rows:
        """Exact TreeSHAP in log-odds, float64[n, width]; the last column XGBoost returns is the bias and is cut off."""
        if self._explains_direct:
            return xgboost_c_api.contributions(self._booster, rows)[:, :-1]
        return self._public_contributions(rows)[:, :-1]

    def _public_score(self, rows: Rows) -> Rows:
        return np.asarray(self._booster.inplace_predict(rows, validate_features=False), dtype=np.float64)

    def _public_contributions(self, rows: Rows) -> Rows:
        matrix = xgb.DMatrix(rows, nthread=1)
        found = self._booster.predict(matrix, pred_contribs=True, validate_features=False)
        return np.asarray(found, dtype=np.float64)


_explaining: list[bool] = []


def _explains_direct(scorer: BoostedTrees, probes: Rows) -> bool:
    """Whether this XGBoost explains alike both ways; decided once per process, with its first model."""
    if not _explaining:
        expected = scorer._public_contributions(probes)
        _explaining.append(_agrees(xgboost_c_api.contributions, scorer._booster, probes, expected))
    return _explaining[0]


def _agrees(call: Any, booster: Any, probes: Rows, expected: Rows) -> bool:
    """Whether a direct call gives the same bits as the public one, for many rows and for one."""
    try:
        answers = [call(booster, probes), np.concatenate([call(booster, probe[None]) for probe in probes])]
    except (AttributeError, ctypes.ArgumentError, PlimsollError) as error:  # an XGBoost with another C interface
        log.warning("XGBoost is called through its public interface, which takes longer", reason=str(error))
        return False
    return all(answer.tobytes() == expected.tobytes() for answer in answers)


def parse(name: str, content: bytes) -> BoostedTrees:
    """Read a booster. The caller has verified the digest of these bytes already.

    Raises:
        TamperedError: the bytes are not an XGBoost model.
    """
    if not (content.startswith(b"{") and content.rstrip().endswith(b"}")):  # XGBoost crashes on bytes that were cut
        raise TamperedError(f"{name} is not an XGBoost model (it is not one whole object); fetch the release again")
    booster = xgb.Booster({"nthread": 1})  # before loading, so that trees are not read by a team of threads
    try:
        booster.load_model(bytearray(content))
        return BoostedTrees(booster)
    except xgb.core.XGBoostError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]  # a stack follows
        raise TamperedError(f"{name} is not an XGBoost model ({reason[:200]}); fetch the release again") from error
