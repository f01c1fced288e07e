"""Every path of the gateway: method, types of request and reply, headers and refusals.

The router serves this table and `serve.gateway.openapi` documents it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple

from starlette.responses import Response

from serve.gateway.messages import BINARY, JSON, Caller, Headers
from serve.routes import Route, RouteTable

#: Clients of the protocol send tensors as octets, JSON without any type, and JSON as octets.
_TENSORS = (JSON, BINARY, "")
_ALWAYS = (400, 405, 421, 431)
_REPLICA = ("X-Replica",)
_ONE_DECISION = ("X-Decision-Id", "X-Model-Release", "X-Model-Digest", "X-Model-Role", "Cache-Status")
_SOMETIMES = ("X-Explanation", "X-Model-Fallback", "Idempotent-Replayed")


class Call(NamedTuple):
    """One request of an authenticated caller. `model` and `version` are "" where the path names none.

    started: `time.perf_counter` when the request arrived, in seconds.
    """

    headers: Headers
    table: RouteTable
    caller: Caller
    model: str
    version: str
    body: bytes
    started: float

    @property
    def route(self) -> Route:
        """The route of the model that the path names."""
        return self.table.route_of(self.model)


Handler = Callable[[Call], Awaitable[Response]]
OpenHandler = Callable[[], Awaitable[Response]]


class Endpoint(NamedTuple):
    """One path.

    request, reply: names in `serve.gateway.schemas`.
    content_types: of the request's body; "" stands for none.
    authentication: whether a bearer token is needed; "optional" where the reply says more with one.
    checks_role: whether the caller's role or the named version can be refused (403).
    headers, sometimes: headers of the reply, always there and not always.
    """

    operation: str
    summary: str
    reply: str
    method: Literal["GET", "POST"] = "GET"
    request: str = ""
    content_types: tuple[str, ...] = ()
    status: int = 200
    authentication: Literal["required", "optional", "none"] = "required"
    checks_role: bool = False
    headers: tuple[str, ...] = _REPLICA
    sometimes: tuple[str, ...] = ()

    @property
    def refusals(self) -> tuple[int, ...]:
        """HTTP statuses with which a request is refused."""
        if self.authentication == "none":
            return _ALWAYS
        known = (*_ALWAYS, 401, 503) if self.authentication == "optional" else (*_ALWAYS, 401, 404, 503)
        body = (408, 409, 413, 415, 422) if self.content_types else ()
        return known + body + ((403,) if self.checks_role else ())


def _open(operation: str, summary: str, reply: str) -> Endpoint:
    return Endpoint(operation, summary, reply, authentication="none", headers=())


def _decide(operation: str, summary: str) -> Endpoint:
    return Endpoint(
        operation,
        summary,
        "Decision",
        "POST",
        "Decide",
        (JSON,),
        checks_role=True,
        headers=_ONE_DECISION + _REPLICA,
        sometimes=_SOMETIMES,
    )


def _infer(operation: str, *, checks_role: bool) -> Endpoint:
    """Rows may be answered by several releases; then the outputs say so row by row and the headers are left out."""
    return Endpoint(
        operation,
        "Decisions by tensors: all rows are decided, or none",
        "Inferred",
        "POST",
        "Infer",
        _TENSORS,
        checks_role=checks_role,
        sometimes=_ONE_DECISION + _SOMETIMES,
    )


_OUTCOME = Endpoint(
    "outcome",
    "Report what became of a decision",
    "Recorded",
    "POST",
    "Outcome",
    (JSON,),
    status=202,
    sometimes=("Idempotent-Replayed",),
)
_DOCUMENT = Endpoint("document", "This document", "Document", authentication="optional", headers=(), sometimes=_REPLICA)

#: Endpoints by path, without the leading slash. HEAD is served where GET is.
ENDPOINTS: Mapping[str, Endpoint] = {
    "v2": _open("server", "What this server is", "Server"),
    "v2/health/live": _open("live", "Whether the server runs", "Live"),
    "v2/health/ready": _open("ready_server", "Whether this server has routes", "Ready"),
    "decide/{model}": _decide("decide", "One decision by named features"),
    "outcome/{model}": _OUTCOME,
    "openapi.json": _DOCUMENT,
    "route": Endpoint("route", "The route table, for services", "RouteTable", checks_role=True),
    "v2/models/{model}/explain": _decide("explain", "One decision, always with its reasons"),
    "v2/models/{model}": Endpoint("metadata", "Inputs and outputs", "ModelMetadata"),
    "v2/models/{model}/ready": Endpoint("ready", "Whether the model can answer", "ModelReady"),
    "v2/models/{model}/infer": _infer("infer", checks_role=False),
    "v2/models/{model}/versions/{version}": Endpoint(
        "metadata_version", "Inputs and outputs of a release", "ModelMetadata", checks_role=True
    ),
    "v2/models/{model}/versions/{version}/ready": Endpoint(
        "ready_version", "Whether the release can answer", "ModelReady", checks_role=True
    ),
    "v2/models/{model}/versions/{version}/infer": _infer("infer_version", checks_role=True),
}
