"""Types of every request and reply body of the gateway.

They are declared once: parsers take the known names and the bounds from here, functions that form replies return these
types, and `serve.gateway.openapi` generates the document from them. Nothing is validated through pydantic: a
hand-written parser is faster, so these annotations are evaluated only when the document is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, get_args

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from serve.decision.answers import Answer, Purpose
from serve.routes import Route

ROWS_MOST = 256
TEXT_MOST = 200  # characters
DECISION_ID_MOST = 64  # characters

Datatype = Literal[
    "FP64", "FP32", "FP16", "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8", "BYTES"
]
OutputName = Literal["score", "decision", "decision_id", "role", "release", "fallback", "reasons"]
DATATYPES: tuple[str, ...] = get_args(Datatype)

Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(min_length=1, max_length=TEXT_MOST, description="Printable characters only.")]
DecisionId = Annotated[str, Field(min_length=1, max_length=DECISION_ID_MOST)]
Cell = str | float
_Size = Annotated[int, Field(ge=0, description="Bytes of this tensor behind the JSON.")]
_Rows = Annotated[int, Field(ge=1, le=ROWS_MOST)]
_Width = Annotated[int, Field(ge=0)]
_Hint = Annotated[Any, Field(description="Sent by some clients; ignored.")]

_open = with_config(ConfigDict(extra="ignore"))
_closed = with_config(ConfigDict(extra="forbid"))


def names_in(body: type) -> frozenset[str]:
    """The member names of a body type."""
    return frozenset(body.__annotations__)


class _DecideOptions(TypedDict):
    key: NotRequired[Annotated[Name | None, Field(description="Customer key; where absent, the features are hashed.")]]
    purpose: NotRequired[Annotated[Purpose, Field(description="`verification` needs role service.")]]


@_closed
class DecideByFeatures(_DecideOptions):
    """Asks for one decision by named features."""

    features: dict[str, Cell]
    entity: NotRequired[None]


@_closed
class DecideByEntity(_DecideOptions):
    """Asks for one decision by an entity whose features are looked up."""

    entity: Annotated[dict[str, Any], Field(min_length=1, description="The entity's key, by name.")]
    features: NotRequired[None]


@_closed
class Outcome(TypedDict):
    """What became of a decision; 1: the adverse event came."""

    decision_id: DecisionId
    outcome: Literal[0, 1]


@_closed
class Recorded(TypedDict):
    """The outcome is on record."""

    decision_id: DecisionId
    recorded: Literal[True]


@_closed
class InputParameters(TypedDict):
    """Parameters of an input tensor."""

    binary_data_size: NotRequired[_Size | None]
    content_type: NotRequired[_Hint]


@_open
class InputTensor(TypedDict):
    """A tensor: its values are in `data`, row by row, or behind the JSON where `binary_data_size` is given."""

    name: Text
    datatype: Datatype
    shape: tuple[_Rows] | tuple[_Rows, _Width]
    data: NotRequired[list[Cell | list[Cell]]]
    parameters: NotRequired[InputParameters | None]


@_closed
class OutputParameters(TypedDict):
    """Parameters of a requested output."""

    binary_data: NotRequired[bool | None]
    content_type: NotRequired[_Hint]


@_closed
class RequestedOutput(TypedDict):
    """An output that the caller wants."""

    name: OutputName
    parameters: NotRequired[OutputParameters | None]


@_closed
class InferParameters(TypedDict):
    """Parameters of an inference request."""

    keys: NotRequired[
        Annotated[list[Name], Field(max_length=ROWS_MOST, description="Customer keys, one a row.")] | None
    ]
    binary_data_output: NotRequired[bool | None]
    content_type: NotRequired[_Hint]


@_closed
class Infer(TypedDict):
    """The JSON of an inference request; all outputs are given where `outputs` is absent."""

    inputs: Annotated[list[InputTensor], Field(min_length=1)]
    outputs: NotRequired[list[RequestedOutput] | None]
    parameters: NotRequired[InferParameters | None]
    id: NotRequired[Name | None]
    model_name: NotRequired[str]


class BinarySize(TypedDict):
    """Parameters of an output tensor whose values are behind the JSON."""

    binary_data_size: _Size


@_closed
class OutputTensor(TypedDict):
    """One output, a value per row."""

    name: OutputName
    datatype: Literal["FP64", "BYTES"]
    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=1)]
    data: NotRequired[Annotated[list[Any], Field(min_length=1)]]
    parameters: NotRequired[BinarySize]


@_closed
class Inferred(TypedDict):
    """Decisions of all rows; `model_version` is given where one release answered every row."""

    model_name: Text
    model_version: NotRequired[Text]
    id: NotRequired[Name]
    outputs: list[OutputTensor]


class TensorMetadata(TypedDict):
    """Name, datatype and shape of an input or output."""

    name: Text
    datatype: Datatype
    shape: list[int]


class InputMetadata(TensorMetadata):
    """An input; `parameters.expected` says what values it takes."""

    parameters: dict[str, str]


@_closed
class ModelMetadata(TypedDict):
    """Inputs and outputs of a model, and the releases that this caller may name."""

    name: Text
    versions: list[Text]
    platform: Text
    inputs: list[InputMetadata]
    outputs: list[TensorMetadata]


@_closed
class ModelReady(TypedDict):
    """The model can answer."""

    name: Text
    ready: Literal[True]


@_closed
class Server(TypedDict):
    """Name, version and protocol extensions of the server."""

    name: Literal["plimsoll"]
    version: Text
    extensions: list[Text]


@_closed
class Live(TypedDict):
    """Whether the server runs."""

    live: bool


@_closed
class Ready(TypedDict):
    """Whether the server has a route table."""

    ready: bool


@_closed
class RouteTableReply(TypedDict):
    """The route table of this replica, and why it refuses bundles, by digest."""

    epoch: Annotated[int, Field(ge=0)]
    version: Annotated[int, Field(ge=0)]
    routes: Mapping[str, Route]
    replica: Text
    refused: Mapping[str, str]


class Problem(TypedDict):
    """An error; `field` names what is wrong, `row` the row where there are several."""

    error: Annotated[str, Field(min_length=1, description="What happened, which value, what was expected.")]
    code: Text
    field: NotRequired[str]
    row: NotRequired[Annotated[int, Field(ge=0, lt=ROWS_MOST)]]
    expected: NotRequired[str]
    allowed: NotRequired[str]


class Document(TypedDict):
    """An OpenAPI 3.1 document."""

    openapi: str
    paths: dict[str, Any]


#: Bodies by their name in the document.
REQUESTS: Mapping[str, Any] = {"Decide": DecideByFeatures | DecideByEntity, "Outcome": Outcome, "Infer": Infer}
REPLIES: Mapping[str, Any] = {
    "Decision": Answer,
    "RouteTable": RouteTableReply,
    **{
        body.__name__: body
        for body in (Recorded, Inferred, Server, Live, Ready, ModelReady, ModelMetadata, Problem, Document)
    },
}
