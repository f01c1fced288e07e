"""Encodes a polars frame as the matrix that a scorer takes, exactly as a single request is encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from lineage.errors import InvalidError
from validators.scoring.features import Feature
from validators.scoring.port import Rows


def matrix(features: Sequence[Feature], frame: pl.DataFrame) -> Rows:
    """The feature columns of `frame` as float64[n, f], in the order of `features`.

    Raises:
        InvalidError: a column is missing, or a value is not what its feature takes.
    """
    rows = np.empty((frame.height, len(features)), dtype=np.float64)
    for position, feature in enumerate(features):
        if feature.name not in frame.columns:
            raise InvalidError(f"column {feature.name!r} is missing; expected {feature.expected}", field=feature.name)
        rows[:, position] = _column(feature, frame[feature.name])
    return rows


def records(features: Sequence[Feature], frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The feature columns as named values, one dict a row, in the form a request sends."""
    return frame.select([feature.name for feature in features]).to_dicts()


def _column(feature: Feature, column: pl.Series) -> Rows:
    """Encode a column: every distinct value passes the parser of requests, so that both encode alike."""
    if not len(column):
        return np.empty(0, dtype=np.float64)
    distinct = column.unique().to_list()
    if feature.type != "category":
        for value in (column.min(), column.max(), *(distinct if feature.type == "integer" else ())):
            feature.parse(value)
        if column.null_count() or (column.dtype.is_float() and not column.is_finite().all()):
            feature.parse(None if column.null_count() else float("nan"))
        return column.cast(pl.Float64).to_numpy()
    encoded = {value: feature.parse(value) for value in distinct}
    return np.array([encoded[value] for value in column.to_list()], dtype=np.float64)
