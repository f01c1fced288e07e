"""The model of every contender: 200 trees of depth 6 over 30 numbers, the same in every run.

`varied` makes as many different ones of the same size and shape as are wanted, without training each from nothing.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from validators.scoring.xgboost_without_sklearn import import_xgboost

xgb = import_xgboost()

TREES, DEPTH, WIDTH = 200, 6, 30
NAMES = tuple(f"feature_{number:02d}" for number in range(WIDTH))
ADVERSE_SHARE = 0.2
_ROWS, _SAMPLE, _BASES = 20_000, 2_000, 4
_LEARN = {"objective": "binary:logistic", "max_depth": DEPTH, "eta": 0.05, "tree_method": "hist"}
_LEARN |= {"verbosity": 0, "nthread": 1}  # several threads are slow on a busy machine
_REFRESH = {"process_type": "update", "updater": "refresh", "refresh_leaf": True}
_ONCE = threading.Lock()
Rows = npt.NDArray[np.float64]


def rows(count: int, seed: int) -> Rows:
    """Inputs float64[count, 30], with four decimals as data in a request has."""
    drawn: Rows = np.random.default_rng(seed).normal(size=(count, WIDTH)).round(4)
    return drawn


def trained(seed: int = 7) -> Any:
    """A booster trained on 20,000 rows with interactions in them, so that its trees are full."""
    inputs, outcomes = _sample(_ROWS, seed)
    return xgb.train(_LEARN | {"seed": seed}, xgb.DMatrix(inputs, outcomes, nthread=1), TREES)


def varied(number: int) -> Any:
    """Booster `number` of an endless family: the trees of one of four, their leaves fitted to another sample."""
    base = _bases()[number % _BASES]
    inputs, outcomes = _sample(_SAMPLE, 1_000 + number)
    options = _LEARN | _REFRESH
    options.pop("tree_method")
    return xgb.train(options, xgb.DMatrix(inputs, outcomes, nthread=1), TREES, xgb_model=base)


def threshold_of(booster: Any) -> float:
    """The score that a fifth of all rows reach; at or above it a decision is adverse."""
    scores = booster.inplace_predict(rows(2_000, seed=3), validate_features=False)
    return float(np.quantile(scores, 1.0 - ADVERSE_SHARE))


def _bases() -> list[Any]:
    with _ONCE:
        return _train_bases()


@cache
def _train_bases() -> list[Any]:
    with ThreadPoolExecutor(_BASES) as pool:
        return list(pool.map(lambda number: trained(seed=7 + number), range(_BASES)))


def _sample(count: int, seed: int) -> tuple[Rows, npt.NDArray[np.int64]]:
    inputs, draw = rows(count, seed), np.random.default_rng(seed + 1)
    weights = np.random.default_rng(7).normal(size=WIDTH) * 0.5
    together = inputs[:, 0] * inputs[:, 1] + np.sin(2 * inputs[:, 2]) * inputs[:, 3]
    return inputs, (inputs @ weights + together + draw.normal(size=count) > 1).astype(np.int64)
