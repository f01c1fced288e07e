"""The Open Inference Protocol, version 2, in JSON: tensors in, rows of named features out, and back.

Inputs are one tensor per feature, shaped [n] or [n, 1], or a single FP64 tensor `features` shaped [n, f] in the order
of the model's features. Customers' keys come as the request parameter `keys`, a list of n texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from lineage.errors import InvalidError
from serve.decide import Answer
from validators.scoring.features import Feature

ROWS_MOST = 256
MATRIX = "features"
_NUMBERS = ("FP64", "FP32", "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")
_DATATYPES = (*_NUMBERS, "BYTES")
SERVER = {"name": "plimsoll", "version": "0.1.0", "extensions": []}


def rows_of(content: Mapping[str, Any], features: Sequence[Feature]) -> list[dict[str, Any]]:
    """The request's rows as named features; their values are checked when they are scored.

    Raises:
        InvalidError: names the tensor or parameter, its value and what was expected.
    """
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise InvalidError("inputs is missing or empty; expected a list of tensors", field="inputs")
    tensors = {}
    for position, tensor in enumerate(inputs):
        name, shape, data = _tensor(tensor, f"inputs[{position}]")
        if name in tensors:
            raise InvalidError(f"tensor {name!r} is given twice; expected each once", field=name)
        tensors[name] = (shape, data)
    names = [feature.name for feature in features]
    if list(tensors) == [MATRIX] and MATRIX not in names:
        return _matrix_rows(*tensors[MATRIX], names)
    return _column_rows(tensors)


def keys_of(content: Mapping[str, Any], rows: int) -> list[str | None]:
    """The customers' keys, one a row; None where the request gives none.

    Raises:
        InvalidError: `parameters.keys` is not a list of `rows` texts.
    """
    parameters = content.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidError("parameters is not an object; expected an object", field="parameters")
    keys = parameters.get("keys")
    if keys is None:
        return [None] * rows
    if not isinstance(keys, list) or len(keys) != rows:
        raise InvalidError(f"parameters.keys has to be a list of {rows} texts, one a row", field="parameters.keys")
    return [check_key(key, "parameters.keys") for key in keys]


def check_key(key: Any, field: str = "key") -> str:
    """A customer's key.

    Raises:
        InvalidError: it is not a text of 1 to 200 characters.
    """
    if not isinstance(key, str) or not 0 < len(key) <= 200:
        shown = f"{type(key).__name__} {str(key)[:40]!r}"
        raise InvalidError(f"{field} is {shown}; expected a text of 1 to 200 characters", field=field)
    return key


def inference(model: str, answers: Sequence[Answer], request_id: str | None) -> dict[str, Any]:
    """The reply to an inference of n rows."""
    n = [len(answers)]
    outputs = [
        {"name": "score", "datatype": "FP64", "shape": n, "data": [answer.score for answer in answers]},
        *(
            {"name": name, "datatype": "BYTES", "shape": n, "data": [getattr(answer, name) for answer in answers]}
            for name in ("decision", "decision_id", "role", "release")
        ),
    ]
    reply: dict[str, Any] = {"model_name": model, "model_version": answers[0].release, "outputs": outputs}
    return reply | ({"id": request_id} if request_id is not None else {})


def model_metadata(model: str, release: str | None, features: Sequence[Feature]) -> dict[str, Any]:
    """What the model takes and gives."""
    inputs = [
        {
            "name": feature.name,
            "datatype": {"number": "FP64", "integer": "INT64"}.get(feature.type, _category_type(feature)),
            "shape": [-1],
            "parameters": {"expected": feature.expected},
        }
        for feature in features
    ]
    outputs = [
        {"name": "score", "datatype": "FP64", "shape": [-1]},
        {"name": "decision", "datatype": "BYTES", "shape": [-1]},
        {"name": "decision_id", "datatype": "BYTES", "shape": [-1]},
    ]
    versions = [release] if release else []
    return {"name": model, "versions": versions, "platform": "plimsoll", "inputs": inputs, "outputs": outputs}


def _category_type(feature: Feature) -> str:
    return "INT64" if all(isinstance(category, int) for category in feature.categories or ()) else "BYTES"


def _tensor(tensor: Any, where: str) -> tuple[str, list[int], list[Any]]:
    if not isinstance(tensor, dict):
        raise InvalidError(f"{where} is not an object; expected a tensor", field=where)
    name, datatype, data = tensor.get("name"), tensor.get("datatype"), tensor.get("data")
    shape: Any = tensor.get("shape")
    if not isinstance(name, str) or not name:
        raise InvalidError(f"{where}.name is {name!r:.60}; expected the name of a feature", field=f"{where}.name")
    if datatype not in _DATATYPES:
        raise InvalidError(f"{name}.datatype is {datatype!r:.60}; expected one of {', '.join(_DATATYPES)}", field=name)
    if not _is_shape(shape):
        raise InvalidError(f"{name}.shape is {shape!r:.60}; expected [n], [n, 1] or [n, features]", field=name)
    if not isinstance(data, list):
        raise InvalidError(f"{name}.data is missing; expected a list of values (JSON, row by row)", field=name)
    flat = [value for part in data for value in (part if isinstance(part, list) else [part])]
    if len(flat) != prod(shape):
        raise InvalidError(f"{name}.data has {len(flat)} values; its shape {shape} wants {prod(shape)}", field=name)
    if not 0 < shape[0] <= ROWS_MOST:
        raise InvalidError(f"{name}.shape has {shape[0]} rows; expected 1 to {ROWS_MOST}", field=name)
    return name, shape, flat


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, list)
        and 1 <= len(shape) <= 2
        and all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape)
    )


def _matrix_rows(shape: list[int], data: list[Any], names: list[str]) -> list[dict[str, Any]]:
    width = shape[1] if len(shape) == 2 else -1
    if width != len(names):
        raise InvalidError(f"{MATRIX}.shape is {shape}; expected [n, {len(names)}]", field=MATRIX)
    return [dict(zip(names, data[start : start + width], strict=True)) for start in range(0, len(data), width)]


def _column_rows(tensors: Mapping[str, tuple[list[int], list[Any]]]) -> list[dict[str, Any]]:
    rows = next(iter(tensors.values()))[0][0]
    for name, (shape, _) in tensors.items():
        if shape[0] != rows or (len(shape) == 2 and shape[1] != 1):
            raise InvalidError(f"{name}.shape is {shape}; expected [{rows}] like the first tensor", field=name)
    return [{name: data[row] for name, (_, data) in tensors.items()} for row in range(rows)]
