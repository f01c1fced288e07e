# ruff: noqa: ARG002  every handler takes the same four arguments
"""Which request goes where: paths, methods, who may ask, and the answers' headers. Knows HTTP but not Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from lineage.errors import InvalidError, UnavailableError
from serve import protocol
from serve.decide import Answer, Decider, Purpose, route_of
from serve.http import Caller, RequestError, caller_of, read_object, reply, require_role
from serve.routes import RouteTable
from serve.store import BundleStore
from validators.scoring.bundle import Bundle

Handler = Callable[[Request, RouteTable, Caller, str], Awaitable[Response]]
_DECIDE_KEYS = {"features", "key", "purpose"}
_YIELD_ROWS = 16  # rows of a batch after which other requests have their turn


class MetricsPort(Protocol):
    """Where answers are counted."""

    def decided(self, model: str, answer: Answer, seconds: float) -> None:
        """Count one answer that took so many seconds."""


class Desk:
    """Answers requests by the table that the watch last put here."""

    def __init__(
        self,
        decider: Decider,
        store: BundleStore,
        record: Callable[[dict[str, Any]], None],
        replica: str,
        metrics: MetricsPort,
    ) -> None:
        self.table: RouteTable | None = None
        self._decider, self._store, self._record, self._replica = decider, store, record, replica
        self._metrics = metrics

    async def answer(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            PlimsollError: what is wrong, as the caller should read it.
        """
        path, method = request.scope["path"], request.method
        open_door = self._open(path)
        handlers, model = ({}, "") if open_door else self._find(path)
        allowed = ["GET"] if open_door else list(handlers)
        if method not in allowed:
            text = ", ".join(allowed)
            raise RequestError(f"{method} is not possible here; expected {text}", 405, "method", allowed=text)
        if open_door:
            return open_door()
        if self.table is None:
            raise UnavailableError("this replica has no route table yet; try again in a moment")
        caller = caller_of(request.headers.get("authorization"), self.table.tokens)
        response = await handlers[method](request, self.table, caller, model)
        response.headers["X-Replica"] = self._replica
        return response

    def _open(self, path: str) -> Callable[[], Response] | None:
        """Doors that need no token: they tell nothing about models."""
        return {"/v2": self._server, "/v2/health/live": self._live, "/v2/health/ready": self._ready}.get(path)

    def _find(self, path: str) -> tuple[dict[str, Handler], str]:
        match path.strip("/").split("/"):
            case ["decide", model]:
                return {"POST": self._decide}, model
            case ["outcome", model]:
                return {"POST": self._outcome}, model
            case ["route"]:
                return {"GET": self._route}, ""
            case ["v2", "models", model]:
                return {"GET": self._metadata}, model
            case ["v2", "models", model, "ready"]:
                return {"GET": self._model_ready}, model
            case ["v2", "models", model, "infer"]:
                return {"POST": self._infer}, model
            case ["v2", "models", model, "explain"]:
                return {"POST": self._explain}, model
        raise RequestError(
            f"there is nothing at {path[:100]!r}; POST /decide/{{model}} gives a decision", 404, "unknown", "path"
        )

    async def _decide(self, request: Request, table: RouteTable, caller: Caller, model: str) -> Response:
        return await self._one(request, table, caller, model, explain=False)

    async def _explain(self, request: Request, table: RouteTable, caller: Caller, model: str) -> Response:
        return await self._one(request, table, caller, model, explain=True)

    async def _one(self, request: Request, table: RouteTable, caller: Caller, model: str, *, explain: bool) -> Response:
        started = time.perf_counter()
        route_of(table, model)
        content = await read_object(request)
        for name in content.keys() - _DECIDE_KEYS:
            raise InvalidError(f"{name[:60]!r} is not known here; expected features and key", field=name[:60])
        features = content.get("features")
        if not isinstance(features, dict):
            raise InvalidError("features is missing or no object; expected named values", field="features")
        key = content.get("key")
        key = None if key is None else protocol.check_key(key)
        purpose = _purpose(content.get("purpose", "customer"), caller)
        answer = await self._decider.decide(table, model, features, key, purpose, explain=explain)
        self._metrics.decided(model, answer, time.perf_counter() - started)
        return reply(answer.to_dict(), headers=_headers(answer))

    async def _infer(self, request: Request, table: RouteTable, caller: Caller, model: str) -> Response:
        started = time.perf_counter()
        bundle = self._bundle(table, model)
        content = await read_object(request)
        rows = protocol.rows_of(content, bundle.features)
        keys = protocol.keys_of(content, len(rows))
        answers = []
        for position, (row, key) in enumerate(zip(rows, keys, strict=True)):
            answers.append(await self._decider.decide(table, model, row, key))
            if position % _YIELD_ROWS == _YIELD_ROWS - 1:
                await asyncio.sleep(0)
        for answer in answers:
            self._metrics.decided(model, answer, (time.perf_counter() - started) / len(answers))
        request_id = content.get("id")
        result = protocol.inference(model, answers, request_id if isinstance(request_id, str) else None)
        return reply(result, headers=_headers(answers[0]))

    async def _outcome(self, request: Request, table: RouteTable, caller: Caller, model: str) -> Response:
        route_of(table, model)
        content = await read_object(request)
        decision_id, outcome = content.get("decision_id"), content.get("outcome")
        if not isinstance(decision_id, str) or not 0 < len(decision_id) <= 64:
            raise InvalidError("decision_id is not the id of a decision; expected the text of one", field="decision_id")
        if isinstance(outcome, bool) or outcome not in (0, 1):
            raise InvalidError(
                f"outcome is {outcome!r:.60}; expected 0 or 1 (1: the adverse event came)", field="outcome"
            )
        at = datetime.now(UTC).isoformat()
        line = {"type": "outcome", "model": model, "decision_id": decision_id, "outcome": outcome, "at": at}
        self._record(line | {"replica": self._replica})
        return reply({"decision_id": decision_id, "recorded": True}, 202)

    async def _route(self, request: Request, table: RouteTable, caller: Caller, model: str) -> Response:
        require_role(caller, "service", "the route table")
        content = table.to_dict()
        del content["tokens"]  # hashes of other people's tokens are nobody's business
        return reply(content | {"replica": self._replica, "refused": self._store.refused})

    async def _metadata(self, request: Request, table: RouteTable, caller: Caller, model: str) -> Response:
        champion = route_of(table, model).champion
        features = self._bundle(table, model).features
        return reply(protocol.model_metadata(model, champion.release if champion else None, features))

    async def _model_ready(self, request: Request, table: RouteTable, caller: Caller, model: str) -> Response:
        self._bundle(table, model)
        return reply({"name": model, "ready": True})

    def _bundle(self, table: RouteTable, model: str) -> Bundle:
        route = route_of(table, model)
        for target in (route.champion, route.baseline, route.previous):
            bundle = self._store.get(target)
            if bundle is not None:
                return bundle
        raise UnavailableError(f"no verified bundle of {model} can answer", field="model")

    def _server(self) -> Response:
        return reply(protocol.SERVER)

    def _live(self) -> Response:
        return reply({"live": True})

    def _ready(self) -> Response:
        ready = self.table is not None
        return reply({"ready": ready}, 200 if ready else 503)


def _purpose(value: Any, caller: Caller) -> Purpose:
    if value == "customer":
        return "customer"
    if value == "verification":
        require_role(caller, "service", "purpose verification")
        return "verification"
    raise InvalidError(f"purpose is {value!r:.60}; expected customer or verification", field="purpose")


def _headers(answer: Answer) -> dict[str, str]:
    return {
        "X-Decision-Id": answer.decision_id,
        "X-Model-Release": answer.release,
        "X-Model-Digest": answer.digest,
        "X-Model-Role": answer.role,
    }
