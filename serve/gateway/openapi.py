"""The gateway's OpenAPI 3.1 document, generated from its endpoints and from the types of their bodies.

It is assembled when it is first asked for, away from the event loop. Without models it is the same for every caller
and names no model; `openapi(specs)` adds the named models: their features with types, ranges and categories.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from serve.gateway.endpoints import ENDPOINTS, Endpoint
from serve.gateway.messages import BINARY, ENCODINGS, JSON, REFUSALS
from serve.gateway.open_inference import KEY, MATRIX, SERVER, datatype_of
from serve.gateway.schemas import REPLIES, REQUESTS, Name
from serve.gateway.strict_json import EXACT_MOST
from serve.gateway.tensors import BYTES, NUMBERS
from validators.scoring.bundle import ReleaseSpec
from validators.scoring.features import Feature

Json = dict[str, Any]
_TOKEN, _LENGTH = "token", "Inference-Header-Content-Length"
_LENGTH_SCHEMA: Json = {"type": "integer", "minimum": 0}
_LENGTH_DESCRIPTION = "How many bytes of the body are JSON; without the header all of it is."
_PATH_PARAMETERS = {"model": "A model's name.", "version": "A release: `credit-default@7` or `7`."}
_HEADERS = {
    "X-Explanation": "The reasons as a list of strings with parameters (RFC 9651).",
    "X-Model-Fallback": "Why another than the first choice answered.",
    "Idempotent-Replayed": "`true` where the answer was given before.",
}
_NUMBER: Json = {"type": "number", "minimum": -EXACT_MOST, "maximum": EXACT_MOST}


class _BodySchemas(GenerateJsonSchema):
    """Schemas without titles; every field of a dataclass is in its JSON form."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  pydantic calls it so
        """No member gets a title made from its name."""
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Members with defaults are always written, so a reply has them."""
        written = self.mode == "serialization" and field["type"] == "dataclass-field"
        return written or super().field_is_required(field, total)


@cache
def document() -> bytes:
    """The document that names no model, as JSON."""
    return orjson.dumps(_general())


def openapi(specs: Iterable[ReleaseSpec] = ()) -> Json:
    """The document.

    Args:
        specs: releases whose models are to be named, one a model; only callers with a token may see them.
    """
    general = _general()
    paths, schemas = dict(general["paths"]), dict(general["components"]["schemas"])
    for spec in specs:
        narrowed = _model_schemas(spec, general["components"]["schemas"])
        schemas |= narrowed
        for pattern, endpoint in ENDPOINTS.items():
            if "{version}" not in pattern and f"{endpoint.request}.{spec.model}" in narrowed:
                paths |= _path(pattern, endpoint, spec.model, narrowed)
    return general | {"paths": paths, "components": general["components"] | {"schemas": schemas}}


@cache
def _general() -> Json:
    paths: Json = {}
    for pattern, endpoint in ENDPOINTS.items():
        paths |= _path(pattern, endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Plimsoll gateway",
            "version": SERVER["version"],
            "description": "Governed decisions, each recorded before it is given. HEAD is served where GET is.",
        },
        "paths": paths,
        "components": {
            "schemas": _body_schemas(),
            "responses": {str(status): _refusal(status) for status in REFUSALS},
            "securitySchemes": {_TOKEN: {"type": "http", "scheme": "bearer"}},
        },
    }


def _body_schemas() -> dict[str, Json]:
    """Every body by its name, and the types that bodies are made of."""
    modes: tuple[tuple[Literal["validation", "serialization"], Any], ...] = (
        ("validation", REQUESTS),
        ("serialization", REPLIES),
    )
    inputs = [(name, mode, TypeAdapter(body)) for mode, bodies in modes for name, body in bodies.items()]
    named, shared = TypeAdapter.json_schemas(
        inputs, ref_template="#/components/schemas/{model}", schema_generator=_BodySchemas
    )
    parts: dict[str, Json] = shared["$defs"]
    return parts | {name: schema for (name, _), schema in named.items() if schema != _ref(name)}


@cache
def _name() -> Json:
    return TypeAdapter(Name).json_schema()


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _path(pattern: str, endpoint: Endpoint, model: str = "", narrowed: Iterable[str] = ()) -> Json:
    """One path with its operation; of one model where `model` is given, with that model's own schemas."""

    def body(name: str) -> Json:
        return {"schema": _ref(f"{name}.{model}" if f"{name}.{model}" in narrowed else name)}

    operation: Json = {
        "operationId": f"{endpoint.operation} {model}".strip(),
        "summary": endpoint.summary,
        "security": {"required": [{_TOKEN: []}], "optional": [{}, {_TOKEN: []}], "none": []}[endpoint.authentication],
        "parameters": [] if model else [_in_path(name) for name in _PATH_PARAMETERS if f"{{{name}}}" in pattern],
    }
    binary: Json = {"schema": {"type": "string", "format": "binary", "description": "JSON, and tensors behind it."}}
    more = {BINARY: binary} if BINARY in endpoint.content_types else {}
    headers = {name: _header(name, required=True) for name in endpoint.headers}
    headers |= {name: _header(name, required=False) for name in endpoint.sometimes}
    if endpoint.content_types:
        operation["parameters"] += _body_parameters(endpoint)
        operation["requestBody"] = {"required": True, "content": {JSON: body(endpoint.request)} | more}
    if more:
        headers[_LENGTH] = {"schema": _LENGTH_SCHEMA, "description": _LENGTH_DESCRIPTION}
    answer = {"description": endpoint.summary, "headers": headers, "content": {JSON: body(endpoint.reply)} | more}
    refusals = {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(endpoint.refusals)}
    operation["responses"] = {str(endpoint.status): answer} | refusals
    if endpoint.reply == "Ready":
        operation["responses"]["503"] = answer | {"description": "There is no route table yet"}
    return {"/" + pattern.replace("{model}", model or "{model}"): {endpoint.method.lower(): operation}}


def _in_path(name: str) -> Json:
    schema = {"type": "string"}
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": _PATH_PARAMETERS[name]}


def _body_parameters(endpoint: Endpoint) -> list[Json]:
    parameters: list[Json] = [
        {"name": "Idempotency-Key", "in": "header", "schema": _name() | {"pattern": "^[!-~]([ -~]*[!-~])?$"}},
        {"name": "Content-Encoding", "in": "header", "schema": {"enum": [*ENCODINGS, "identity"]}},
    ]
    length: Json = {"name": _LENGTH, "in": "header", "schema": _LENGTH_SCHEMA, "description": _LENGTH_DESCRIPTION}
    return [*parameters, length] if BINARY in endpoint.content_types else parameters


def _header(name: str, *, required: bool) -> Json:
    description = {"description": _HEADERS[name]} if name in _HEADERS else {}
    return {"required": required, "schema": {"type": "string", "minLength": 1}} | description


def _refusal(status: int) -> Json:
    why, name = REFUSALS[status]
    # Retry-After is left out where trying again does not help: the kill switch is pulled.
    headers = {name: _header(name, required=status != 503)} if name else {}
    return {"description": why, "headers": headers, "content": {JSON: {"schema": _ref("Problem")}}}


def _model_schemas(spec: ReleaseSpec, general: dict[str, Json]) -> dict[str, Json]:
    """The bodies of one model: the general ones, narrowed to the features and decisions of its release."""
    name = spec.model
    features: Json = {
        "type": "object",
        "properties": {feature.name: _cell(feature) for feature in spec.features},
        "required": [feature.name for feature in spec.features],
        "additionalProperties": False,
    }
    by_features = _narrow(general["DecideByFeatures"], features=_ref(f"Features.{name}"))
    return {
        f"Features.{name}": features,
        f"Decide.{name}": {"anyOf": [by_features, _ref("DecideByEntity")]},
        f"Decision.{name}": _narrow(general["Answer"], decision={"enum": [spec.favourable, spec.adverse]}),
        f"Infer.{name}": _narrow(general["Infer"], inputs=_inputs(spec.features, general["InputTensor"])),
    }


def _narrow(schema: Json, **members: Json) -> Json:
    return schema | {"properties": schema["properties"] | members}


def _cell(feature: Feature) -> Json:
    """One value of a feature. A number is taken however it is written; 1e20 is no whole number."""
    described: Json = {"description": feature.expected}
    if feature.type == "category":
        return described | {"enum": list(feature.categories or ())}
    low, high = feature.minimum, feature.maximum
    return described | {
        "type": "integer" if feature.type == "integer" else "number",
        "minimum": max(-EXACT_MOST, low) if low is not None else -EXACT_MOST,
        "maximum": min(EXACT_MOST, high) if high is not None else EXACT_MOST,
    }


def _inputs(features: Sequence[Feature], tensor: Json) -> Json:
    """One tensor a feature in any order, and the keys; or all features in one matrix, where all are numbers."""
    numbers: Json = {"enum": list(NUMBERS)}

    def named(name: str, datatype: Json, cell: Json) -> Json:
        data = {"type": "array", "items": {"anyOf": [cell, {"type": "array", "items": cell}]}}
        return _narrow(tensor, name={"const": name}, datatype=datatype, data=data)

    numeric = [datatype_of(feature) != BYTES for feature in features]
    kinds = [
        named(feature.name, numbers if is_number else {"const": BYTES}, _cell(feature))
        for feature, is_number in zip(features, numeric, strict=True)
    ]
    names = {feature.name for feature in features}
    if KEY not in names:
        kinds.append(named(KEY, {"const": BYTES}, _name()))
    each: Json = {"type": "array", "minItems": len(features), "maxItems": len(kinds), "items": {"anyOf": kinds}}
    if MATRIX in names or not all(numeric):
        return each
    matrix = named(MATRIX, numbers, _NUMBER)
    return {"anyOf": [each, {"type": "array", "prefixItems": [matrix], "minItems": 1, "maxItems": len(kinds)}]}
