"""Tensors as JSON and as bytes: equal values either way, and near misses refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.errors import InvalidError
from serve.gateway.messages import RequestError
from serve.gateway.tensors import BYTES, NUMBERS, Blob, read_tensor, to_bytes


def _json(datatype: str, data: Any, shape: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": shape or [len(data)], "data": data, **more}


def _binary(datatype: str, content: bytes, shape: list[int]) -> list[Any]:
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(content)}}
    blob = Blob(memoryview(content))
    values = read_tensor(tensor, "inputs[0]", blob).values
    blob.finish()
    return values


@pytest.mark.parametrize("datatype", list(NUMBERS))
def test_numbers_come_alike_as_json_and_as_bytes(datatype: str) -> None:
    cells = np.array([0, 1, 7, 100], dtype=NUMBERS[datatype].stored)
    read = read_tensor(_json(datatype, cells.tolist()), "inputs[0]", None)
    assert read.values == _binary(datatype, cells.tobytes(), [4]) == cells.tolist()
    assert to_bytes(datatype, read.values) == cells.tobytes()


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "FP16"])
def test_a_fraction_is_rounded_as_the_senders_own_datatype_would_have_been(datatype: str) -> None:
    cells = np.array([0.1, -2.7, 1e-3], dtype=NUMBERS[datatype].stored)
    read = read_tensor(_json(datatype, [0.1, -2.7, 1e-3]), "inputs[0]", None).values
    assert read == _binary(datatype, cells.tobytes(), [3]) == cells.tolist()


@given(st.lists(st.floats(width=64, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_fp64_keeps_every_bit(cells: list[float]) -> None:
    content = struct.pack(f"<{len(cells)}d", *cells)
    assert [cell.hex() for cell in _binary("FP64", content, [len(cells)])] == [cell.hex() for cell in cells]
    assert to_bytes("FP64", cells) == content


@given(st.lists(st.text(max_size=20).filter(lambda text: text.isprintable()), min_size=1, max_size=20))
def test_texts_lie_behind_their_length(cells: list[str]) -> None:
    content = to_bytes(BYTES, cells)
    assert content == b"".join(struct.pack("<I", len(cell.encode())) + cell.encode() for cell in cells)
    assert _binary(BYTES, content, [len(cells)]) == cells


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("INT8", 128),
        ("INT8", -129),
        ("UINT8", -1),
        ("UINT64", -1),
        ("INT64", 2**53 + 1),
        ("UINT64", 2**64 - 1),
        ("INT32", 1.5),
        ("INT32", True),
        ("INT32", "1"),
        ("FP64", None),
        ("FP64", False),
        ("FP64", "1"),
        ("FP64", [1]),
        ("FP64", 2**53 + 1),
        ("FP32", 2**24 + 1),
        ("FP16", 2**11 + 1),
        (BYTES, 1),
        (BYTES, None),
    ],
)
def test_a_value_that_its_datatype_does_not_hold_is_named(datatype: str, value: Any) -> None:
    with pytest.raises(InvalidError, match=r"^x\[1\] is .*; expected ") as told:
        read_tensor(_json(datatype, ["a" if datatype == BYTES else 1, value]), "inputs[0]", None)
    assert told.value.field == "x"


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert read_tensor(_json("INT64", [1.0]), "inputs[0]", None).values == [1.0]


def test_a_number_so_large_that_digits_may_be_lost_is_marked() -> None:
    assert read_tensor(_json("FP64", [1e20]), "inputs[0]", None).inexact
    assert not read_tensor(_json("FP64", [float(2**53)]), "inputs[0]", None).inexact


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, r"inputs\[0\]\.name is None"),
        ({"name": 7}, r"inputs\[0\]\.name is 7"),
        ({"datatype": "BOOL"}, "datatype is 'BOOL'; expected one of FP64"),
        ({"datatype": ["FP64"]}, "datatype is"),
        ({"shape": []}, "shape is"),
        ({"shape": [1, 1, 2]}, "shape is"),
        ({"shape": [-2]}, "shape is"),
        ({"shape": [True]}, "shape is"),
        ({"shape": [2.0]}, "shape is"),
        ({"shape": [0]}, "0 rows"),
        ({"shape": [2, 2**62]}, "has 2 values; its shape"),
        ({"data": None}, "data is missing"),
        ({"data": [1]}, "has 1 values; its shape"),
        ({"shape": [2, 2], "data": [[1, 2], [3]]}, r"data\[1\] is no row"),
        ({"shape": [2, 2], "data": [[1, 2], 3]}, r"data\[1\] is no row"),
        ({"shape": [2, 2], "data": [[1, 2, 3], [4]]}, r"data\[0\] is no row"),
        ({"parameters": []}, "parameters is"),
        ({"parameters": {"binary_data_sise": 16}}, "binary_data_sise is not known here; expected binary_data_size"),
        ({"parameters": {"binary_data_size": -1}}, "binary_data_size is -1"),
        ({"parameters": {"binary_data_size": True}}, "binary_data_size is True"),
        ({"parameters": {"binary_data_size": 16}}, "data and binary_data_size"),
    ],
)
def test_a_tensor_that_is_none_is_told_why(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        read_tensor(_json("FP64", [1, 2]) | changes, "inputs[0]", None)


def test_rows_may_be_lists_of_their_own_and_hints_are_passed_over() -> None:
    content = _json("FP64", [[1, 2], [3, 4]], [2, 2], parameters={"content_type": "np"})
    assert read_tensor(content, "inputs[0]", None).values == [1, 2, 3, 4]
    assert read_tensor(_json("FP64", [1], parameters=None), "inputs[0]", None).values == [1]


def test_too_many_rows_are_too_large_whatever_else_they_are() -> None:
    with pytest.raises(RequestError, match="257 rows; expected 1 to 256") as told:
        read_tensor(_json("FP64", [1], [257]), "inputs[0]", None)
    assert told.value.status == 413


def test_bytes_without_the_header_are_told_so() -> None:
    content = {"name": "x", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}
    with pytest.raises(InvalidError, match="Inference-Header-Content-Length"):
        read_tensor(content, "inputs[0]", None)


@pytest.mark.parametrize(
    ("datatype", "content", "shape", "message"),
    [
        ("FP64", b"1234567", [1], "has 7 bytes; FP64 of shape"),
        ("FP64", b"", [1], "has 0 bytes"),
        ("INT64", struct.pack("<q", 2**60), [1], r"x\[0\] is 1152921504606846976; expected a whole number"),
        ("UINT64", struct.pack("<Q", 2**64 - 1), [1], r"x\[0\] is 18446744073709551615"),
        (BYTES, b"\x01\x00\x00", [1], "says 1 bytes"),
        (BYTES, b"\xff\xff\xff\xffabc", [1], "says 4294967295 bytes"),
        (BYTES, b"\x01\x00\x00\x00\xff", [1], "is no text"),
        (BYTES, b"\x01\x00\x00\x00a", [2], "1 texts in 5 of 5 bytes; its shape wants 2"),
        (BYTES, b"\x01\x00\x00\x00ab", [1], "1 texts in 5 of 6 bytes; its shape wants 1"),
        (BYTES, b"", [1], "0 texts in 0 of 0 bytes"),
    ],
)
def test_bytes_that_do_not_fit_are_told_why(datatype: str, content: bytes, shape: list[int], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        _binary(datatype, content, shape)


def test_bytes_are_taken_in_order_and_none_may_be_left() -> None:
    blob = Blob(memoryview(b"abcdef"))
    assert [blob.take(2, "x"), blob.take(3, "y")] == [b"ab", b"cde"]
    with pytest.raises(RequestError, match="1 bytes behind the JSON belong to no tensor"):
        blob.finish()
    with pytest.raises(InvalidError, match="binary_data_size is 2; only 1 bytes are left"):
        blob.take(2, "z")
