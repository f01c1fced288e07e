"""XGBoost's C interface without the Python around it: the same answers in a seventh of the time for one row.

`Booster.inplace_predict` spends 70 of its 80 µs on inspecting its input and on making a new handle for it. Here every
thread has a handle and a row buffer of its own, described once; a call copies the row and predicts. Results are in
XGBoost's memory, separate for each thread, and are copied before the thread's next call.

These are functions of XGBoost's C API as documented, but reached through `xgboost.core._LIB`, which is private.
`validators.scoring.families.boosted_trees` compares them with the public calls before it uses them.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np

from lineage.errors import UnavailableError
from validators.scoring.port import Rows
from validators.scoring.xgboost_without_sklearn import import_xgboost

_ROWS = b'{"data":[%d,true],"shape":[%d,%d],"strides":null,"typestr":"<f8","version":3}'
# All trees, NaN is missing, nothing cached: the parameters of the public calls.
_SCORES = (
    b'{"type":0,"training":false,"iteration_begin":0,"iteration_end":0,"missing":NaN,"strict_shape":false,"cache_id":0}'
)
_CONTRIBUTIONS = b'{"type":2,"training":false,"iteration_begin":0,"iteration_end":0,"strict_shape":false}'
_MATRIX = b'{"missing":NaN,"nthread":1,"data_split_mode":0}'


class _ThreadBuffers:
    """One thread's handle, pointers to results, and a row for each width."""

    def __init__(self) -> None:
        self.library: Any = import_xgboost().core._LIB
        self.library.XGBGetLastError.restype = ctypes.c_char_p
        self.proxy = ctypes.c_void_p()
        self.check(self.library.XGProxyDMatrixCreate(ctypes.byref(self.proxy)))
        self.shape = ctypes.POINTER(ctypes.c_uint64)()
        self.dimensions = ctypes.c_uint64()
        self.result = ctypes.POINTER(ctypes.c_float)()
        self.places = (ctypes.byref(self.shape), ctypes.byref(self.dimensions), ctypes.byref(self.result))
        self.rows: dict[int, tuple[Rows, bytes]] = {}

    def row_of(self, width: int) -> tuple[Rows, bytes]:
        """This thread's row, float64[1, width], and its description."""
        found = self.rows.get(width)
        if found is None:
            row = np.zeros((1, width))
            found = self.rows[width] = (row, _describe(row))
        return found

    def copied(self, *shape: int) -> Rows:
        """A copy of the result as float64; its shape must be this."""
        found = tuple(self.shape[at] for at in range(self.dimensions.value))
        if found != shape:
            raise UnavailableError(f"XGBoost answered in shape {found} where {shape} was expected")
        return np.ctypeslib.as_array(self.result, shape).astype(np.float64)

    def check(self, code: int) -> None:
        """Raise the library's own message where a call failed."""
        if code != 0:
            lines = (self.library.XGBGetLastError() or b"").decode(errors="replace").strip().splitlines()
            raise UnavailableError(f"XGBoost cannot answer: {(lines or ['no message'])[0][:200]}")

    def __del__(self) -> None:
        if self.proxy:
            self.library.XGDMatrixFree(self.proxy)


_of_thread = threading.local()


def score(booster: Any, rows: Rows) -> Rows:
    """Probabilities, float64[n], of rows float64[n, f]: as `booster.inplace_predict(rows)` returns.

    Raises:
        UnavailableError: XGBoost refused the rows.
    """
    buffers, count = _buffers(), len(rows)
    predict = buffers.library.XGBoosterPredictFromDense
    if count == 1:
        row, described = buffers.row_of(rows.shape[1])
        row[:] = rows
        buffers.check(predict(booster.handle, described, _SCORES, buffers.proxy, *buffers.places))
        return np.array([buffers.result[0]])
    if count == 0:
        return np.empty(0)
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    buffers.check(predict(booster.handle, _describe(rows), _SCORES, buffers.proxy, *buffers.places))
    return buffers.copied(count)


def contributions(booster: Any, rows: Rows) -> Rows:
    """TreeSHAP, float64[n, f + 1] with the bias last, of rows float64[n, f]: as `predict(pred_contribs=True)` returns.

    Raises:
        UnavailableError: XGBoost refused the rows.
    """
    buffers, (count, width) = _buffers(), rows.shape
    if count == 0:
        return np.empty((0, width + 1))
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    matrix = ctypes.c_void_p()
    buffers.check(buffers.library.XGDMatrixCreateFromDense(_describe(rows), _MATRIX, ctypes.byref(matrix)))
    try:
        buffers.check(
            buffers.library.XGBoosterPredictFromDMatrix(booster.handle, matrix, _CONTRIBUTIONS, *buffers.places)
        )
        return buffers.copied(count, width + 1)
    finally:
        buffers.library.XGDMatrixFree(matrix)


def _buffers() -> _ThreadBuffers:
    try:
        buffers: _ThreadBuffers = _of_thread.buffers
    except AttributeError:
        buffers = _of_thread.buffers = _ThreadBuffers()
    return buffers


def _describe(rows: Rows) -> bytes:
    return _ROWS % (rows.__array_interface__["data"][0], *rows.shape)
