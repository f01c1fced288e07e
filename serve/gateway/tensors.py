"""Parser and writer of tensors of the Open Inference Protocol: in the JSON, or as bytes behind it (binary tensor data).

Bytes are little-endian, row-major, without gaps; a string is preceded by its length in four bytes. Both forms give the
same Python numbers and strings. Values of FP32 and FP16 are rounded as the sender's own would be; a whole number that
is not exact is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from lineage.errors import InvalidError
from serve.gateway.messages import RequestError
from serve.gateway.schemas import DATATYPES, ROWS_MOST, TEXT_MOST, InputParameters, names_in
from serve.gateway.strict_json import EXACT_MOST

BYTES = "BYTES"
_LENGTH = 4  # bytes of a string's length


@dataclass(frozen=True)
class Number:
    """A numeric datatype: NumPy dtype of its bytes, and the range in which it holds every whole number exactly."""

    stored: str
    low: int
    high: int
    whole: bool


def _whole(bits: int, *, signed: bool) -> Number:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    stored = f"<{'i' if signed else 'u'}{bits // 8}"
    return Number(stored, max(low, -EXACT_MOST), min(high, EXACT_MOST), whole=True)  # models compute in FP64


NUMBERS = {
    "FP64": Number("<f8", -EXACT_MOST, EXACT_MOST, whole=False),
    "FP32": Number("<f4", -(2**24), 2**24, whole=False),
    "FP16": Number("<f2", -(2**11), 2**11, whole=False),
    **{f"INT{bits}": _whole(bits, signed=True) for bits in (64, 32, 16, 8)},
    **{f"UINT{bits}": _whole(bits, signed=False) for bits in (64, 32, 16, 8)},
}
_PARAMETERS = names_in(InputParameters)


class Tensor(NamedTuple):
    """A parsed input tensor: `values` are its cells row by row, numbers or strings.

    inexact: some value is so large that its literal has to be checked (`serve.gateway.strict_json.refuse_inexact`).
    """

    name: str
    shape: list[int]
    values: list[Any]
    inexact: bool = False


class Blob:
    """The bytes behind the JSON, consumed in the order of the tensors."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._at = content, 0

    def take(self, size: int, name: str) -> bytes:
        """The next `size` bytes.

        Raises:
            InvalidError: fewer bytes are left.
        """
        left = len(self._content) - self._at
        if size > left:
            raise InvalidError(f"{name}.binary_data_size is {size}; only {left} bytes are left", field=name)
        self._at += size
        return bytes(self._content[self._at - size : self._at])

    def finish(self) -> None:
        """Check that every byte was consumed.

        Raises:
            RequestError: bytes are left that belong to no tensor (400).
        """
        left = len(self._content) - self._at
        if left:
            message = f"{left} bytes behind the JSON belong to no tensor; expected the sum of all binary_data_size"
            raise RequestError(message, 400, "malformed", "body")


def read_tensor(content: Any, where: str, blob: Blob | None) -> Tensor:
    """Parse one tensor of a request.

    Args:
        where: its position, for errors, until its name is known.
        blob: the bytes behind the JSON; None where the request has none.

    Raises:
        InvalidError: names the tensor, what it is and what was expected.
        RequestError: more rows than one request may have (413).
    """
    if not isinstance(content, dict):
        raise InvalidError(f"{where} is not an object; expected a tensor", field=where)
    name, datatype = content.get("name"), content.get("datatype")
    if not isinstance(name, str) or not name:
        raise InvalidError(f"{where}.name is {name!r:.60}; expected the name of a feature", field=f"{where}.name")
    name = name[:60] if len(name) > TEXT_MOST else name  # no feature has such a name; errors should stay short
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise InvalidError(f"{name}.datatype is {datatype!r:.60}; expected one of {', '.join(DATATYPES)}", field=name)
    shape = _shape(name, content.get("shape"))
    size = _binary_size(name, content)
    if size is None:
        values = _flat(name, shape, content.get("data"))
        read, inexact = _from_json(name, datatype, values)
        return Tensor(name, shape, read, inexact)
    if blob is None:
        message = f"{name} has binary_data_size; expected the header Inference-Header-Content-Length with it"
        raise InvalidError(message, field=name)
    return Tensor(name, shape, _from_bytes(name, datatype, shape, blob.take(size, name)))


def to_bytes(datatype: str, values: Sequence[Any]) -> bytes:
    """Encode values as binary tensor data."""
    if datatype != BYTES:
        return np.asarray(values, dtype=NUMBERS[datatype].stored).tobytes()
    texts = [value.encode() for value in values]
    return b"".join(part for text in texts for part in (len(text).to_bytes(_LENGTH, "little"), text))


def _shape(name: str, shape: Any) -> list[int]:
    if type(shape) is not list or not 1 <= len(shape) <= 2 or not _is_size(shape[0]) or not _is_size(shape[-1]):
        raise InvalidError(f"{name}.shape is {shape!r:.60}; expected [n], [n, 1] or [n, features]", field=name)
    rows = shape[0]
    if rows == 0:
        raise InvalidError(f"{name}.shape has 0 rows; expected 1 to {ROWS_MOST}", field=name)
    if rows > ROWS_MOST:
        message = f"{name}.shape has {rows} rows; expected 1 to {ROWS_MOST}, send several requests"
        raise RequestError(message, 413, "too_large", name)
    return shape


def _is_size(size: Any) -> bool:
    return type(size) is int and size >= 0


def _binary_size(name: str, content: dict[str, Any]) -> int | None:
    """Number of bytes of the tensor behind the JSON; None where its values are in `data`."""
    parameters = content.get("parameters")
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        raise InvalidError(f"{name}.parameters is {parameters!r:.60}; expected an object", field=name)
    for other in sorted(parameters.keys() - _PARAMETERS):
        message = f"{name}.parameters.{other[:60]} is not known here; expected binary_data_size or nothing"
        raise InvalidError(message, field=name)
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise InvalidError(f"{name}.binary_data_size is {size!r:.60}; expected a number of bytes", field=name)
    if "data" in content:
        raise InvalidError(f"{name} has data and binary_data_size; expected one of them", field=name)
    return size


def _flat(name: str, shape: list[int], data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidError(f"{name}.data is missing; expected a list of values (JSON, row by row)", field=name)
    if data and len(shape) == 2 and isinstance(data[0], list):
        for row, part in enumerate(data):
            if not isinstance(part, list) or len(part) != shape[1]:
                raise InvalidError(f"{name}.data[{row}] is no row; its shape {shape} wants {shape[1]} each", field=name)
        data = [value for part in data for value in part]
    wanted = shape[0] if len(shape) == 1 else prod(shape)
    if len(data) != wanted:
        raise InvalidError(f"{name}.data has {len(data)} values; its shape {shape} wants {wanted}", field=name)
    return data


def _from_json(name: str, datatype: str, data: list[Any]) -> tuple[list[Any], bool]:
    """The checked values, and whether some are so large that their literal has to be checked."""
    number = NUMBERS.get(datatype)
    if number is None:
        for place, value in enumerate(data):
            if type(value) is not str:
                raise _wrong(name, place, value, "a text, as the datatype BYTES says")
        return data, False
    low, high, whole, inexact = number.low, number.high, number.whole, False
    for place, value in enumerate(data):
        kind = type(value)
        if kind is not int and kind is not float:
            raise _wrong(name, place, value, f"a number, as the datatype {datatype} says")
        if low <= value <= high and (kind is int or not whole or value.is_integer()):
            continue
        if kind is int or whole:
            raise _wrong(name, place, value, f"a whole number from {low} to {high}, as {datatype} holds")
        inexact = True
    if datatype in ("FP32", "FP16"):
        with np.errstate(over="ignore"):  # infinity is refused with the feature's own words
            return np.asarray(data, dtype=np.float64).astype(number.stored).tolist(), inexact
    return data, inexact


def _from_bytes(name: str, datatype: str, shape: list[int], content: bytes) -> list[Any]:
    count, number = prod(shape), NUMBERS.get(datatype)
    if number is None:
        return _texts(name, content, count)
    wanted = count * np.dtype(number.stored).itemsize
    if len(content) != wanted:
        message = f"{name} has {len(content)} bytes; {datatype} of shape {shape} wants {wanted}"
        raise InvalidError(message, field=name)
    values: list[Any] = np.frombuffer(content, dtype=number.stored).tolist()
    if number.whole:
        for place, value in enumerate(values):
            if not number.low <= value <= number.high:
                raise _wrong(name, place, value, f"a whole number from {number.low} to {number.high}")
    return values


def _texts(name: str, content: bytes, count: int) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(content) and len(texts) < count:
        size = int.from_bytes(content[at : at + _LENGTH], "little")
        at += _LENGTH + size
        if at > len(content):
            raise InvalidError(f"{name}[{len(texts)}] says {size} bytes; there are not so many left", field=name)
        try:
            texts.append(content[at - size : at].decode())
        except UnicodeDecodeError as error:
            raise InvalidError(
                f"{name}[{len(texts)}] is no text: {error.reason}; expected UTF-8", field=name
            ) from error
    if len(texts) != count or at != len(content):
        what = f"{len(texts)} texts in {at} of {len(content)} bytes"
        raise InvalidError(f"{name} has {what}; its shape wants {count}, each behind its length", field=name)
    return texts


def _wrong(name: str, place: int, value: Any, expected: str) -> InvalidError:
    kind = type(value)
    shown = repr(value) if kind in (int, float, bool) or value is None else f"a {kind.__name__}"
    if kind is str and len(value) <= 60:
        shown = repr(value)
    return InvalidError(f"{name}[{place}] is {shown}; expected {expected}", field=name)
