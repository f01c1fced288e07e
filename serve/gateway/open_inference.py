"""Open Inference Protocol, version 2: parses tensors into rows of named features and writes answers as tensors.

Inputs are one tensor per feature, shaped [n] or [n, 1], or a single tensor `features` of numbers shaped [n, f] in the
order of the model's features. Customers' keys come as the tensor `key` (BYTES, one a row) or as the request parameter
`keys`, a list of n strings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import orjson
from starlette.responses import Response

from lineage.errors import InvalidError
from serve.decision.answers import Answer
from serve.gateway.messages import BINARY, JSON, RequestError
from serve.gateway.schemas import (
    TEXT_MOST,
    Datatype,
    Infer,
    InferParameters,
    Inferred,
    InputMetadata,
    ModelMetadata,
    OutputName,
    OutputParameters,
    OutputTensor,
    Server,
    TensorMetadata,
    names_in,
)
from serve.gateway.strict_json import check_names, read_object, refuse_inexact
from serve.gateway.tensors import Blob, Tensor, read_tensor, to_bytes
from validators.scoring.features import Feature

MATRIX, KEY = "features", "key"
#: Extensions of the protocol: tensors as bytes, by Triton's name, and `/explain`.
SERVER: Server = {"name": "plimsoll", "version": version("plimsoll"), "extensions": ["binary_tensor_data", "explain"]}
_CONTENT = names_in(Infer)
_PARAMETERS = names_in(InferParameters)
_OUTPUT_PARAMETERS = names_in(OutputParameters)


@dataclass(frozen=True)
class Output:
    """One output tensor: name, datatype, and how its cell is taken from an answer."""

    name: OutputName
    datatype: Literal["FP64", "BYTES"]
    cell: Callable[[Answer], Any]


OUTPUTS: dict[str, Output] = {
    output.name: output
    for output in (
        Output("score", "FP64", lambda answer: answer.score),
        Output("decision", "BYTES", lambda answer: answer.decision),
        Output("decision_id", "BYTES", lambda answer: answer.decision_id),
        Output("role", "BYTES", lambda answer: answer.role),
        Output("release", "BYTES", lambda answer: answer.release),
        Output("fallback", "BYTES", lambda answer: answer.fallback or ""),
        Output("reasons", "BYTES", lambda answer: orjson.dumps(answer.reasons).decode()),
    )
}


@dataclass(frozen=True)
class Inference:
    """A parsed inference request: features and customer's key of each row, and the requested outputs.

    wanted: name of an output -> whether it is to be sent as bytes.
    """

    rows: list[dict[str, Any]]
    keys: list[str | None]
    wanted: dict[str, bool]
    id: str | None


def read_inference(body: bytes, header_length: bytes | None, features: Sequence[Feature], model: str) -> Inference:
    """Parse a request; the features' values are checked when they are scored.

    Args:
        body: the JSON, followed by the bytes of tensors.
        header_length: the header Inference-Header-Content-Length: bytes of the JSON; None where all is JSON.

    Raises:
        RequestError: the body is malformed (400) or has too many rows (413).
        InvalidError: names the tensor or parameter, its value and what was expected.
    """
    text, blob = _split(body, header_length)
    content = read_object(text)
    check_names(content, _CONTENT)
    if content.get("model_name", model) != model:
        given = content["model_name"]
        raise InvalidError(f"model_name is {given!r:.60}; the path says {model}", field="model_name")
    tensors = _tensors(content.get("inputs"), blob)
    if any(tensor.inexact for tensor in tensors.values()):
        refuse_inexact(text)
    parameters = _parameters(content)
    names = [feature.name for feature in features]
    keyed = tensors.pop(KEY, None) if KEY not in names else None
    rows = _rows(tensors, names)
    keys = _keys(keyed, parameters.get("keys"), len(rows))
    wanted = _wanted(content.get("outputs"), as_bytes=_flag(parameters, "binary_data_output", "parameters") is True)
    request_id = content.get("id")
    return Inference(rows, keys, wanted, None if request_id is None else check_text(request_id, "id"))


def check_text(value: Any, field: str = KEY) -> str:
    """Check a customer's key or another name that a caller chooses, and return it.

    Raises:
        InvalidError: it is not a string of 1 to 200 printable characters.
    """
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_MOST or not value.isprintable():
        shown = f"{type(value).__name__} {str(value)[:40]!r}"
        raise InvalidError(f"{field} is {shown}; expected a text of 1 to {TEXT_MOST} printable characters", field=field)
    return value


def answer_inference(model: str, answers: Sequence[Answer], asked: Inference, headers: dict[str, str]) -> Response:
    """The reply to an inference request.

    `model_version` is given where one release answered every row; otherwise the output `release` has it row by row.
    """
    releases = {answer.release for answer in answers}
    content: Inferred = {"model_name": model, "outputs": []}
    if len(releases) == 1:
        content["model_version"] = releases.pop()
    if asked.id is not None:
        content["id"] = asked.id
    pieces: list[bytes] = []
    for name, as_bytes in asked.wanted.items():
        output = OUTPUTS[name]
        cells = [output.cell(answer) for answer in answers]
        tensor: OutputTensor = {"name": output.name, "datatype": output.datatype, "shape": [len(cells)]}
        if as_bytes:
            pieces.append(to_bytes(output.datatype, cells))
            tensor["parameters"] = {"binary_data_size": len(pieces[-1])}
        else:
            tensor["data"] = cells
        content["outputs"].append(tensor)
    text = orjson.dumps(content)
    if not pieces:
        return Response(text, 200, headers, JSON)
    headers["Inference-Header-Content-Length"] = str(len(text))
    return Response(b"".join((text, *pieces)), 200, headers, BINARY)


def model_metadata(model: str, versions: list[str], features: Sequence[Feature]) -> ModelMetadata:
    """Inputs and outputs of a model.

    Args:
        versions: names of the releases that this caller may name in the path.
    """
    inputs: list[InputMetadata] = [
        {
            "name": feature.name,
            "datatype": datatype_of(feature),
            "shape": [-1],
            "parameters": {"expected": feature.expected},
        }
        for feature in features
    ]
    outputs: list[TensorMetadata] = [
        {"name": output.name, "datatype": output.datatype, "shape": [-1]} for output in OUTPUTS.values()
    ]
    return {"name": model, "versions": versions, "platform": "plimsoll", "inputs": inputs, "outputs": outputs}


def datatype_of(feature: Feature) -> Datatype:
    """The datatype in which the metadata lists a feature; a category of whole numbers is a number."""
    if feature.type == "number":
        return "FP64"
    is_whole = feature.type == "integer" or all(isinstance(category, int) for category in feature.categories or ())
    return "INT64" if is_whole else "BYTES"


def _split(body: bytes, header_length: bytes | None) -> tuple[bytes, Blob | None]:
    if header_length is None:
        return body, None
    if not header_length.isdigit() or int(header_length[:20]) > len(body):
        shown = header_length[:40].decode("latin-1")
        message = f"the JSON is said to have {shown!r} bytes; the body has {len(body)}"
        raise RequestError(message, 400, "malformed", "Inference-Header-Content-Length")
    size = int(header_length)
    return body[:size], Blob(memoryview(body)[size:])


def _tensors(inputs: Any, blob: Blob | None) -> dict[str, Tensor]:
    if not isinstance(inputs, list) or not inputs:
        raise InvalidError("inputs is missing or empty; expected a list of tensors", field="inputs")
    tensors: dict[str, Tensor] = {}
    for position, content in enumerate(inputs):
        tensor = read_tensor(content, f"inputs[{position}]", blob)
        if tensor.name in tensors:
            raise InvalidError(f"tensor {tensor.name!r} is given twice; expected each once", field=tensor.name)
        tensors[tensor.name] = tensor
    if blob is not None:
        blob.finish()
    return tensors


def _rows(tensors: Mapping[str, Tensor], names: list[str]) -> list[dict[str, Any]]:
    if list(tensors) == [MATRIX] and MATRIX not in names:
        return _matrix_rows(tensors[MATRIX], names)
    if tensors.keys() != set(names):
        raise _odd_tensor(tensors, names)
    rows = next(iter(tensors.values())).shape[0]
    for tensor in tensors.values():
        _check_column(tensor, rows)
    columns = [tensor.values for tensor in tensors.values()]
    return [dict(zip(tensors, row, strict=True)) for row in zip(*columns, strict=True)]


def _odd_tensor(tensors: Mapping[str, Tensor], names: list[str]) -> InvalidError:
    odd = next(name for name in (*tensors, *names) if name not in tensors or name not in names)
    what = "missing" if odd in names else "not known to this model"
    return InvalidError(f"tensor {odd!r:.80} is {what}; expected {', '.join(names)}", field=odd)


def _matrix_rows(matrix: Tensor, names: list[str]) -> list[dict[str, Any]]:
    width = matrix.shape[1] if len(matrix.shape) == 2 else -1
    if width != len(names):
        raise InvalidError(f"{MATRIX}.shape is {matrix.shape}; expected [n, {len(names)}]", field=MATRIX)
    cells = matrix.values
    return [dict(zip(names, cells[start : start + width], strict=True)) for start in range(0, len(cells), width)]


def _check_column(tensor: Tensor, rows: int) -> None:
    shape = tensor.shape
    if shape[0] != rows or (len(shape) == 2 and shape[1] != 1):
        message = f"{tensor.name}.shape is {shape}; expected [{rows}] like the first tensor"
        raise InvalidError(message, field=tensor.name)


def _keys(keyed: Tensor | None, listed: Any, rows: int) -> list[str | None]:
    """The customers' keys, one a row; None where the request gives none."""
    if keyed is None and listed is None:
        return [None] * rows
    if keyed is not None and listed is not None:
        raise InvalidError(f"keys come as tensor {KEY!r} and as parameters.keys; expected one of them", field=KEY)
    if keyed is not None:
        _check_column(keyed, rows)
        return [check_text(key) for key in keyed.values]
    if not isinstance(listed, list) or len(listed) != rows:
        raise InvalidError(f"parameters.keys has to be a list of {rows} texts, one a row", field="parameters.keys")
    return [check_text(key, "parameters.keys") for key in listed]


def _parameters(content: Mapping[str, Any]) -> dict[str, Any]:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidError(f"parameters is {parameters!r:.60}; expected an object", field="parameters")
    for name in sorted(parameters.keys() - _PARAMETERS):
        message = f"parameters.{name[:60]} is not known here; expected keys or binary_data_output"
        raise InvalidError(message, field=f"parameters.{name[:60]}")
    return parameters


def _wanted(outputs: Any, *, as_bytes: bool) -> dict[str, bool]:
    """Requested outputs, and whether as bytes; `binary_data` of an output overrides that of the request."""
    if outputs is None or outputs == []:
        return dict.fromkeys(OUTPUTS, as_bytes)
    if not isinstance(outputs, list):
        raise InvalidError(f"outputs is a {type(outputs).__name__}; expected a list of outputs", field="outputs")
    wanted: dict[str, bool] = {}
    for place, output in enumerate(outputs):
        where = f"outputs[{place}]"
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str) or name not in OUTPUTS or name in wanted:
            known = ", ".join(OUTPUTS)
            raise InvalidError(
                f"{where}.name is {name!r:.60}; expected one of {known}, each once", field=f"{where}.name"
            )
        parameters = {} if output.get("parameters") is None else output["parameters"]
        if not isinstance(parameters, dict) or parameters.keys() - _OUTPUT_PARAMETERS:
            message = f"{where}.parameters is {parameters!r:.60}; expected binary_data or nothing"
            raise InvalidError(message, field=f"{where}.parameters")
        own = _flag(parameters, "binary_data", f"{where}.parameters")
        wanted[name] = as_bytes if own is None else own
    return wanted


def _flag(parameters: Mapping[str, Any], name: str, where: str) -> bool | None:
    value = parameters.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise InvalidError(f"{where}.{name} is {value!r:.60}; expected true or false", field=f"{where}.{name}")
