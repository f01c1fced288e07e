"""Frames of pandas or polars as tensors of the Open Inference Protocol; neither library is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plimsoll.errors import Invalid

ROWS_MOST = 256  # in one request


def columns_of(frame: Any) -> dict[str, list[Any]]:
    """The columns of a frame as lists of plain Python values.

    Raises:
        plimsoll.Invalid: it is no frame.
    """
    try:
        # Both kinds of frames name their columns, and both kinds of columns turn into lists.
        return {str(name): _plain(frame[name]) for name in frame.columns}
    except (AttributeError, TypeError) as error:
        kind = type(frame).__name__
        raise Invalid(f"frame is a {kind}; expected a frame of pandas or polars", field="frame") from error


def tensor(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """One column as a tensor.

    Raises:
        plimsoll.Invalid: a value is missing, or the values are neither all numbers nor all texts.
    """
    kinds = {type(value) for value in values}
    # Only NaN differs from itself.
    missing = next((at for at, value in enumerate(values) if value is None or value != value), None)
    if missing is not None:
        raise Invalid(f"{name} is missing in row {missing}; expected a value in every row", field=name)
    if kinds <= {int}:
        datatype = "INT64"
    elif kinds <= {int, float}:
        datatype = "FP64"
    elif kinds <= {str}:
        datatype = "BYTES"
    else:
        types = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise Invalid(f"{name} holds {types}; expected numbers or texts", field=name)
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": list(values)}


def _plain(column: Any) -> list[Any]:
    values: list[Any] = column.to_list()
    return values
