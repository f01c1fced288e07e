"""What the gateway answers, as an OpenAPI 3.1 document: every path, body, reply and error.

The document without models is the same for everybody and tells nothing about anybody's models. `openapi(specs)` adds
the models that are named: their features with types, ranges and categories.

Where one may GET, one may ask for the HEAD; an answer to that has no body, and the document does not repeat it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import orjson

from serve.gateway.messages import BINARY, ENCODINGS, HEADER_BYTES_MOST, HEADERS_MOST, JSON
from serve.gateway.open_inference import SERVER
from serve.gateway.openapi_schemas import NAME, Json, model_schemas, ref, schemas
from validators.scoring.bundle import ReleaseSpec

_TOKEN, _LENGTH = "token", "Inference-Header-Content-Length"
#: Why a request is refused, by status; a door lists those that it can give.
WHY = {
    400: "The request or its body cannot be read: no JSON, a name or header twice, cut short, a path with `//`.",
    401: "No token, or one that is not known.",
    403: "Not for the caller's role, or not the release that would answer.",
    404: "There is no such model, version or path.",
    405: "Another method is right; the header Allow says which.",
    408: "The body did not arrive in time.",
    409: "The Idempotency-Key came with another body before.",
    413: "The body is too large, also after decompression, or has too many rows.",
    415: "Another content type or encoding is expected.",
    421: "The name in Host is not one of this server.",
    422: "A value is not what is expected; `field` names it.",
    431: f"More than {HEADERS_MOST} headers, or {HEADER_BYTES_MOST} bytes of them.",
    503: "Nothing that was verified may or can answer, it could not be recorded, or there is too much to do.",
}
_ALWAYS = (400, 405, 421, 431)
_KNOWN = (*_ALWAYS, 401, 404, 503)
_BODY = (*_KNOWN, 408, 409, 413, 415, 422)


@cache
def document() -> bytes:
    """The document that names no model, as JSON."""
    return orjson.dumps(openapi())


def openapi(specs: Iterable[ReleaseSpec] = ()) -> Json:
    """The document.

    Args:
        specs: releases whose models are to be named, one a model; what they say is for those who hold a token.
    """
    known = {spec.model: spec for spec in specs}
    paths, parts = _paths(), schemas()
    for spec in known.values():
        parts |= model_schemas(spec)
        paths |= _model_paths(spec.model)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Plimsoll gateway",
            "version": SERVER["version"],
            "description": "Governed decisions, each on record before it is given. Where one may GET, one may HEAD.",
        },
        "paths": paths,
        "components": {
            "schemas": parts,
            "responses": {str(status): _refusal(status, why) for status, why in WHY.items()},
            "securitySchemes": {_TOKEN: {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> dict[str, Json]:
    model, version = [_in_path("model")], [_in_path("model"), _in_path("version")]
    paths = {
        "/v2": {"get": _open("server", "What this server is", "Server")},
        "/v2/health/live": {"get": _open("live", "Whether the server runs", "Live")},
        "/v2/health/ready": {"get": _ready()},
        "/decide/{model}": {"post": _decide("decide", model, "Decide", "Decision")},
        "/outcome/{model}": {"post": _outcome(model)},
        "/openapi.json": {"get": _document()},
        "/route": {"get": _get("route", "The route table, for services", [], "RouteTable", (*_KNOWN, 403))},
        "/v2/models/{model}/explain": {"post": _decide("explain", model, "Decide", "Decision")},
    }
    for parameters, tail, named, more in ((model, "", "", ()), (version, "/versions/{version}", "_version", (403,))):
        place, statuses = f"/v2/models/{{model}}{tail}", (*_KNOWN, *more)
        paths |= {
            place: {"get": _get(f"metadata{named}", "Inputs and outputs", parameters, "ModelMetadata", statuses)},
            f"{place}/ready": {"get": _get(f"ready{named}", "Whether it answers", parameters, "ModelReady", statuses)},
            f"{place}/infer": {"post": _infer(f"infer{named}", parameters, "Infer", (*_BODY, *more))},
        }
    return paths


def _model_paths(model: str) -> dict[str, Json]:
    asked, given = f"Decide.{model}", f"Decision.{model}"
    return {
        f"/decide/{model}": {"post": _decide(f"decide {model}", [], asked, given)},
        f"/v2/models/{model}/explain": {"post": _decide(f"explain {model}", [], asked, given)},
        f"/v2/models/{model}/infer": {"post": _infer(f"infer {model}", [], f"Infer.{model}", _BODY)},
    }


def _decide(name: str, parameters: list[Json], asked: str, given: str) -> Json:
    explain = name.startswith("explain")
    summary = "One decision with its reasons, whatever it is" if explain else "One decision by named features"
    answer = _answer("The decision, which is on record", {JSON: {"schema": ref(given)}}, _who(always=True))
    statuses = (*_BODY, 403)
    return _post(name, summary, parameters, {JSON: {"schema": ref(asked)}}, {"200": answer}, statuses)


def _outcome(parameters: list[Json]) -> Json:
    body: Json = {JSON: {"schema": ref("Outcome")}}
    answer = _answer("It is on record", {JSON: {"schema": ref("Recorded")}}, _replica() | _replayed())
    return _post("outcome", "What became of a decision", parameters, body, {"202": answer}, _BODY)


def _infer(name: str, parameters: list[Json], asked: str, statuses: tuple[int, ...]) -> Json:
    behind = "JSON, and the bytes of tensors behind it; without the header it is all JSON"
    octets: Json = {"schema": {"type": "string", "format": "binary", "description": behind}}
    body = {JSON: {"schema": ref(asked)}, BINARY: octets}
    length: Json = {"type": "integer", "minimum": 0}
    told = {"schema": length, "description": "How many bytes of the body are JSON"}
    headers = _who(always=False) | {_LENGTH: told}
    answer = _answer("A decision a row", {JSON: {"schema": ref("Inferred")}, BINARY: octets}, headers)
    header: Json = {"name": _LENGTH, "in": "header", "schema": length, "description": told["description"]}
    operation = _post(name, "Decisions by tensors", [*parameters, header], body, {"200": answer}, statuses)
    return operation | {"description": "All rows are decided, or none."}


def _post(
    name: str, summary: str, parameters: list[Json], body: Json, answers: Json, statuses: tuple[int, ...]
) -> Json:
    key = {"name": "Idempotency-Key", "in": "header", "schema": NAME | {"pattern": "^[!-~]([ -~]*[!-~])?$"}}
    encoding = {"name": "Content-Encoding", "in": "header", "schema": {"enum": [*ENCODINGS, "identity"]}}
    return {
        "operationId": name,
        "summary": summary,
        "security": [{_TOKEN: []}],
        "parameters": [*parameters, key, encoding],
        "requestBody": {"required": True, "content": body},
        "responses": answers | _refusals(statuses),
    }


def _get(name: str, summary: str, parameters: list[Json], given: str, statuses: tuple[int, ...]) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "security": [{_TOKEN: []}],
        "parameters": parameters,
        "responses": {"200": _answer(summary, {JSON: {"schema": ref(given)}}, _replica())} | _refusals(statuses),
    }


def _open(name: str, summary: str, given: str) -> Json:
    answer = _answer(summary, {JSON: {"schema": ref(given)}}, {})
    return {
        "operationId": name,
        "summary": summary,
        "security": [],
        "responses": {"200": answer} | _refusals(_ALWAYS),
    }


def _ready() -> Json:
    operation = _open("ready_server", "Whether this server has routes", "Ready")
    operation["responses"]["503"] = _answer("It has none yet", {JSON: {"schema": ref("Ready")}}, {})
    return operation


def _document() -> Json:
    given = {JSON: {"schema": {"type": "object", "required": ["openapi", "paths"]}}}
    told = "Without a token it names no model; with one, the models that are served and their features."
    return {
        "operationId": "document",
        "summary": "This document",
        "description": told,
        "security": [{}, {_TOKEN: []}],
        "responses": {"200": _answer(told, given, {})} | _refusals((*_ALWAYS, 401, 503)),
    }


def _in_path(name: str) -> Json:
    told = {"model": "A model's name", "version": "A release: `credit-default@7` or `7`"}[name]
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": told}


def _answer(description: str, content: Json, headers: Json) -> Json:
    return {"description": description, "content": content} | ({"headers": headers} if headers else {})


def _who(*, always: bool) -> Json:
    """Who answered. Where rows were answered differently, the outputs tell it and the headers do not."""
    names = ("X-Decision-Id", "X-Model-Release", "X-Model-Digest", "X-Model-Role", "Cache-Status")
    told = {
        "X-Explanation": "Codes of the reasons (RFC 9651).",
        "X-Model-Fallback": "Why the baseline did.",
    }
    sometimes = {name: _header(required=False) | {"description": what} for name, what in told.items()}
    return {name: _header(required=always) for name in names} | sometimes | _replica() | _replayed()


def _replica() -> Json:
    return {"X-Replica": _header(required=True)}


def _replayed() -> Json:
    return {"Idempotent-Replayed": _header(required=False) | {"description": "The answer was given before."}}


def _header(*, required: bool) -> Json:
    return {"required": required, "schema": {"type": "string", "minLength": 1}}


def _refusals(statuses: Iterable[int]) -> Json:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}


def _refusal(status: int, why: str) -> Json:
    needed = {401: "WWW-Authenticate", 405: "Allow", 415: "Accept-Encoding"}.get(status)
    headers: dict[str, Any] = {needed: _header(required=True)} if needed else {}
    if status == 503:
        headers["Retry-After"] = {"required": True, "schema": {"type": "integer", "minimum": 0}}
    return _answer(why, {JSON: {"schema": ref("Problem")}}, headers)
