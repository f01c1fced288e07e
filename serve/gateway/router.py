"""Router of a replica: checks path, method, caller and body of a request, then calls its endpoint. No Ray in here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lineage.errors import InvalidError, UnavailableError
from serve.gateway import open_inference as protocol
from serve.gateway import openapi
from serve.gateway.admission import Admission
from serve.gateway.body import READ_SECONDS, read_body
from serve.gateway.endpoints import ENDPOINTS, Call, Handler, OpenHandler
from serve.gateway.idempotency import IdempotencyCache
from serve.gateway.messages import JSON, caller_of, check_host, compress_reply, headers_of, reply, require_role
from serve.gateway.paths import check_method, nothing_at, parse_path
from serve.gateway.predictions import Predictions
from serve.gateway.schemas import (
    DECISION_ID_MOST,
    Live,
    ModelReady,
    Outcome,
    Ready,
    Recorded,
    RouteTableReply,
    names_in,
)
from serve.gateway.strict_json import check_names, read_object
from serve.gateway.versions import default_target, find_version, versions_for
from serve.models.bundle_store import BundleStore
from serve.routes import RouteTable
from validators.scoring.bundle import Bundle

_OUTCOME_NAMES = names_in(Outcome)
_DOCUMENT = "openapi.json"
_SERVICE = "service"
_INFLIGHT = 256


class Router:
    """Answers requests by the route table in `table`, which the replica replaces when it changes.

    Args:
        hosts: names that the header Host may have; any where None.
        read_seconds: how long a caller may take to send a body.
        admission: limits the requests that are worked on at a time.
    """

    def __init__(
        self,
        predictions: Predictions,
        store: BundleStore,
        record: Callable[[dict[str, Any]], None],
        replica: str,
        *,
        hosts: Collection[str] | None = None,
        read_seconds: float = READ_SECONDS,
        admission: Admission | None = None,
    ) -> None:
        self.table: RouteTable | None = None
        self._predictions, self._store, self._record, self._replica = predictions, store, record, replica
        self._hosts, self._read_seconds = hosts, read_seconds
        self.repeats = IdempotencyCache()
        self.admission = admission or Admission(_INFLIGHT)
        # These need no token: what they answer says nothing about models.
        self.open_handlers: Mapping[str, OpenHandler] = {
            "v2": self._server,
            "v2/": self._server,
            "v2/health/live": self._live,
            "v2/health/ready": self._ready,
            _DOCUMENT: self._general_document,
        }
        versioned: Mapping[str, Handler] = {
            "": self._metadata,
            "/ready": self._model_ready,
            "/infer": predictions.infer,
        }
        self.handlers: Mapping[str, Handler] = {
            "decide/{model}": predictions.decide,
            "outcome/{model}": self._outcome,
            "route": self._route,
            _DOCUMENT: self._document,
            "v2/models/{model}/explain": predictions.explain,
            **{f"v2/models/{{model}}{what}": handler for what, handler in versioned.items()},
            **{f"v2/models/{{model}}/versions/{{version}}{what}": handler for what, handler in versioned.items()},
        }

    async def answer(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            PlimsollError: what is wrong, as the caller should read it.
        """
        started = time.perf_counter()
        path, method = request.scope["path"], request.scope["method"]
        headers = headers_of(request)
        if self._hosts is not None:
            check_host(headers, self._hosts)
        pattern, model, version = parse_path(path)
        open_handler = self.open_handlers.get(pattern)
        if open_handler is not None and (pattern != _DOCUMENT or b"authorization" not in headers):
            check_method(method, "GET")
            return await open_handler()
        handler = self.handlers.get(pattern)
        if handler is None:
            raise nothing_at(path)
        endpoint = ENDPOINTS[pattern]
        check_method(method, endpoint.method)
        table = self.table
        if table is None:
            raise UnavailableError("this replica has no route table yet; try again in a moment")
        caller = caller_of(headers.get(b"authorization", b"").decode("latin-1"), table.tokens)
        if model:
            table.route_of(model)
        types = endpoint.content_types
        body = await read_body(request, headers, types, self._read_seconds) if types else b""
        call = Call(headers, table, caller, model, version, body, started)
        key = headers.get(b"idempotency-key") if types else None
        self.admission.enter(service=caller.role == _SERVICE)
        try:
            response = await (handler(call) if key is None else self._once(handler, call, path, key))
        finally:
            self.admission.leave()
        compress_reply(response, headers.get(b"accept-encoding"))
        return response

    async def _once(self, handler: Handler, call: Call, path: str, key: bytes) -> Response:
        name = (call.caller.name, path, protocol.check_text(key.decode("latin-1"), "Idempotency-Key"))
        return await self.repeats.once(name, call.body, lambda: handler(call))

    async def _outcome(self, call: Call) -> Response:
        content = read_object(call.body)
        check_names(content, _OUTCOME_NAMES)
        decision_id, outcome = content.get("decision_id"), content.get("outcome")
        if not isinstance(decision_id, str) or not _is_decision_id(decision_id):
            raise InvalidError(
                f"decision_id is {decision_id!r:.60}; expected the id of a decision", field="decision_id"
            )
        if isinstance(outcome, bool) or outcome not in (0, 1):
            raise InvalidError(
                f"outcome is {outcome!r:.60}; expected 0 or 1 (1: the adverse event came)", field="outcome"
            )
        at = datetime.now(UTC).isoformat()
        line = {"type": "outcome", "model": call.model, "decision_id": decision_id, "outcome": outcome, "at": at}
        self._record(line | {"replica": self._replica})
        recorded: Recorded = {"decision_id": decision_id, "recorded": True}
        return self._reply(recorded, 202)

    async def _route(self, call: Call) -> Response:
        require_role(call.caller, "service", "the route table")
        content = call.table.to_dict()
        shown: RouteTableReply = {
            "epoch": content["epoch"],
            "version": content["version"],
            "routes": content["routes"],
            "replica": self._replica,
            "refused": self._store.refused,
        }  # without the tokens' hashes, which are of no use to the caller
        return self._reply(shown)

    async def _document(self, call: Call) -> Response:
        """The document with the models that are served, for callers with a token."""
        routes = [route for route in call.table.routes.values() if default_target(route) is not None]
        known = [self._store.get_baseline(default_target(route)) for route in routes]
        specs = [bundle.spec for bundle in known if bundle is not None]
        return self._reply(await asyncio.to_thread(openapi.openapi, specs))

    async def _metadata(self, call: Call) -> Response:
        features, versions = self._named(call).features, versions_for(call.route, call.caller)
        return self._reply(protocol.model_metadata(call.model, versions, features))

    async def _model_ready(self, call: Call) -> Response:
        self._named(call)
        ready: ModelReady = {"name": call.model, "ready": True}
        return self._reply(ready)

    def _named(self, call: Call) -> Bundle:
        """The bundle of the release that the path names, or of the one that answers."""
        if not call.version:
            return self._predictions.bundle(call.route)
        target = find_version(call.route, call.version, call.caller)
        if target == default_target(call.route):
            return self._predictions.bundle(call.route)
        bundle = self._store.get(target)
        if bundle is None:
            raise UnavailableError(f"no verified bundle of {target.release} is in memory", field="version")
        return bundle

    def _reply(self, content: Any, status: int = 200) -> Response:
        return reply(content, status, {"X-Replica": self._replica})

    async def _general_document(self) -> Response:
        return Response(await asyncio.to_thread(openapi.document), media_type=JSON)

    async def _server(self) -> Response:
        return reply(protocol.SERVER)

    async def _live(self) -> Response:
        live: Live = {"live": True}
        return reply(live)

    async def _ready(self) -> Response:
        ready: Ready = {"ready": self.table is not None}
        return reply(ready, 200 if ready["ready"] else 503)


def _is_decision_id(text: str) -> bool:
    return 0 < len(text) <= DECISION_ID_MOST and text.isprintable()
