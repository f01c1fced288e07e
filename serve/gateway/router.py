"""Which request goes where: paths, methods, who may ask, and the answers' headers. Knows HTTP but not Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lineage.errors import InvalidError, UnavailableError
from serve.decision.decider import route_of
from serve.gateway import open_inference as protocol
from serve.gateway import openapi
from serve.gateway.admission import Admission
from serve.gateway.body import NAMED, READ_SECONDS, TENSORS, read_body
from serve.gateway.endpoint import Ask, Door
from serve.gateway.idempotency import Repeats
from serve.gateway.messages import JSON, caller_of, check_host, headers_of, pack, reply, require_role
from serve.gateway.paths import check_method, nothing_at, place_of
from serve.gateway.predictions import Predictions, check_names
from serve.gateway.strict_json import read_object
from serve.gateway.versions import find_version, in_charge, versions_for
from serve.models.bundle_store import BundleStore
from serve.routes import RouteTable
from validators.scoring.bundle import Bundle

_OUTCOME_KEYS = {"decision_id", "outcome"}
_ROUTE, _DOCUMENT = "route", "openapi.json"
_SERVICE = "service"
_INFLIGHT = 256


class Desk:
    """Answers requests by the table that the watch last put here.

    Args:
        hosts: names by which callers may know this place; any where None.
        read_seconds: how long a caller may take to send a body.
        admission: places for requests that are worked on.
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
        self.repeats = Repeats()
        self.admission = admission or Admission(_INFLIGHT)
        # Open doors need no token: they tell nothing about models.
        self._open = {
            "v2": _server,
            "v2/": _server,
            "v2/health/live": _live,
            "v2/health/ready": self._ready,
            _DOCUMENT: _document,
        }
        versioned = {
            "": Door("GET", self._metadata),
            "/ready": Door("GET", self._model_ready),
            "/infer": Door("POST", predictions.infer, TENSORS),
        }
        self._doors = {
            "decide/{model}": Door("POST", predictions.decide, NAMED),
            "outcome/{model}": Door("POST", self._outcome, NAMED),
            _ROUTE: Door("GET", self._route),
            _DOCUMENT: Door("GET", self._document),
            "v2/models/{model}/explain": Door("POST", predictions.explain, NAMED),
            **{f"v2/models/{{model}}{what}": door for what, door in versioned.items()},
            **{f"v2/models/{{model}}/versions/{{version}}{what}": door for what, door in versioned.items()},
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
        place, model, version = place_of(path)
        open_door = self._open.get(place)
        if open_door is not None and (place != _DOCUMENT or b"authorization" not in headers):
            check_method(method, "GET")
            return open_door()
        door = self._doors.get(place)
        if door is None:
            raise nothing_at(path)
        check_method(method, door.method)
        table = self.table
        if table is None:
            raise UnavailableError("this replica has no route table yet; try again in a moment")
        caller = caller_of(headers.get(b"authorization", b"").decode("latin-1"), table.tokens)
        if place not in (_ROUTE, _DOCUMENT):
            route_of(table, model)
        body = await read_body(request, headers, door.types, self._read_seconds) if door.types else b""
        ask = Ask(headers, table, caller, model, version, body, started)
        key = headers.get(b"idempotency-key") if door.types else None
        self.admission.enter(service=caller.role == _SERVICE)
        try:
            response = await (door.handler(ask) if key is None else self._once(door, ask, path, key))
        finally:
            self.admission.leave()
        pack(response, headers.get(b"accept-encoding"))
        return response

    async def _once(self, door: Door, ask: Ask, path: str, key: bytes) -> Response:
        name = (ask.caller.name, path, protocol.check_text(key.decode("latin-1"), "Idempotency-Key"))
        return await self.repeats.once(name, ask.body, lambda: door.handler(ask))

    async def _outcome(self, ask: Ask) -> Response:
        content = read_object(ask.body)
        check_names(content, _OUTCOME_KEYS)
        decision_id, outcome = content.get("decision_id"), content.get("outcome")
        if not isinstance(decision_id, str) or not 0 < len(decision_id) <= 64 or not decision_id.isprintable():
            raise InvalidError(
                f"decision_id is {decision_id!r:.60}; expected the id of a decision", field="decision_id"
            )
        if isinstance(outcome, bool) or outcome not in (0, 1):
            raise InvalidError(
                f"outcome is {outcome!r:.60}; expected 0 or 1 (1: the adverse event came)", field="outcome"
            )
        at = datetime.now(UTC).isoformat()
        line = {"type": "outcome", "model": ask.model, "decision_id": decision_id, "outcome": outcome, "at": at}
        self._record(line | {"replica": self._replica})
        return self._reply({"decision_id": decision_id, "recorded": True}, 202)

    async def _route(self, ask: Ask) -> Response:
        require_role(ask.caller, "service", "the route table")
        content = ask.table.to_dict()
        del content["tokens"]  # hashes of other people's tokens are nobody's business
        return self._reply(content | {"replica": self._replica, "refused": self._store.refused})

    async def _document(self, ask: Ask) -> Response:
        """The document with the models that are served, for whoever holds a token."""
        routes = [route for route in ask.table.routes.values() if in_charge(route) is not None]
        known = [self._store.get_baseline(in_charge(route)) for route in routes]
        specs = [bundle.spec for bundle in known if bundle is not None]
        return self._reply(await asyncio.to_thread(openapi.openapi, specs))

    async def _metadata(self, ask: Ask) -> Response:
        features, versions = self._named(ask).features, versions_for(ask.route, ask.caller)
        return self._reply(protocol.model_metadata(ask.model, versions, features))

    async def _model_ready(self, ask: Ask) -> Response:
        self._named(ask)
        return self._reply({"name": ask.model, "ready": True})

    def _named(self, ask: Ask) -> Bundle:
        """The bundle of the release that the path names, or of the one that answers."""
        if not ask.version:
            return self._predictions.bundle(ask.route)
        target = find_version(ask.route, ask.version, ask.caller)
        if target == in_charge(ask.route):
            return self._predictions.bundle(ask.route)
        bundle = self._store.get(target)
        if bundle is None:
            raise UnavailableError(f"no verified bundle of {target.release} is in memory", field="version")
        return bundle

    def _reply(self, content: Any, status: int = 200) -> Response:
        return reply(content, status, {"X-Replica": self._replica})

    def _ready(self) -> Response:
        ready = self.table is not None
        return reply({"ready": ready}, 200 if ready else 503)


def _server() -> Response:
    return reply(protocol.SERVER)


def _document() -> Response:
    return Response(openapi.document(), media_type=JSON)


def _live() -> Response:
    return reply({"live": True})
