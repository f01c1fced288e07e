"""Which request goes where: paths, methods, who may ask, and the answers' headers. Knows HTTP but not Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from starlette.requests import Request
from starlette.responses import Response

from lineage.digest import digest_of
from lineage.errors import InvalidError, UnavailableError
from serve import protocol
from serve.body import NAMED, READ_SECONDS, TENSORS, read_body
from serve.decide import Answer, Decider, Purpose, Weighed, route_of
from serve.evidence import CHALLENGER
from serve.http import Caller, Headers, caller_of, check_host, headers_of, pack, reply, require_role
from serve.paths import check_method, nothing_at, place_of
from serve.repeats import Repeats
from serve.routes import Route, RouteTable, Target
from serve.store import BundleStore
from serve.strict import are_exact, read_object, refuse_inexact
from serve.versions import CHOOSER, check_keys, find_version, in_charge, pinned, versions_for
from validators.scoring.bundle import Bundle

_DECIDE_KEYS = {"features", "key", "purpose"}
_OUTCOME_KEYS = {"decision_id", "outcome"}
_ROUTE = "route"
_YIELD_ROWS = 16  # rows of a batch after which other requests have their turn


class MetricsPort(Protocol):
    """Where answers are counted."""

    def decided(self, model: str, answer: Answer, seconds: float) -> None:
        """Count one answer that took so many seconds."""


class Ask(NamedTuple):
    """One request of a known caller. `model` and `version` are "" where the path names none."""

    headers: Headers
    table: RouteTable
    caller: Caller
    model: str
    version: str
    body: bytes
    started: float

    @property
    def route(self) -> Route:
        return self.table.routes[self.model]


class Door(NamedTuple):
    """What a path is for: its method, who answers, and the content types of its body."""

    method: str
    handler: Callable[[Ask], Awaitable[Response]]
    types: Collection[str] = ()


class Desk:
    """Answers requests by the table that the watch last put here.

    Args:
        hosts: names by which callers may know this place; any where None.
        read_seconds: how long a caller may take to send a body.
    """

    def __init__(
        self,
        decider: Decider,
        store: BundleStore,
        record: Callable[[dict[str, Any]], None],
        replica: str,
        metrics: MetricsPort,
        *,
        hosts: Collection[str] | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self.table: RouteTable | None = None
        self._decider, self._store, self._record, self._replica = decider, store, record, replica
        self._metrics, self._hosts, self._read_seconds = metrics, hosts, read_seconds
        self.repeats = Repeats()
        # Open doors need no token: they tell nothing about models.
        self._open = {"v2": _server, "v2/": _server, "v2/health/live": _live, "v2/health/ready": self._ready}
        versioned = {
            "": Door("GET", self._metadata),
            "/ready": Door("GET", self._model_ready),
            "/infer": Door("POST", self._infer, TENSORS),
        }
        self._doors = {
            "decide/{model}": Door("POST", self._decide, NAMED),
            "outcome/{model}": Door("POST", self._outcome, NAMED),
            _ROUTE: Door("GET", self._route),
            "v2/models/{model}/explain": Door("POST", self._explain, NAMED),
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
        if open_door is not None:
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
        if place != _ROUTE:
            route_of(table, model)
        body = await read_body(request, headers, door.types, self._read_seconds) if door.types else b""
        ask = Ask(headers, table, caller, model, version, body, started)
        key = headers.get(b"idempotency-key") if door.types else None
        response = await (door.handler(ask) if key is None else self._once(door, ask, path, key))
        pack(response, headers.get(b"accept-encoding"))
        return response

    async def _once(self, door: Door, ask: Ask, path: str, key: bytes) -> Response:
        name = (ask.caller.name, path, protocol.check_text(key.decode("latin-1"), "Idempotency-Key"))
        return await self.repeats.once(name, ask.body, lambda: door.handler(ask))

    async def _decide(self, ask: Ask) -> Response:
        return await self._one(ask, explain=False)

    async def _explain(self, ask: Ask) -> Response:
        return await self._one(ask, explain=True)

    async def _one(self, ask: Ask, *, explain: bool) -> Response:
        content = read_object(ask.body)
        _check_names(content, _DECIDE_KEYS)
        features = content.get("features")
        if type(features) is not dict:
            raise InvalidError("features is missing or no object; expected named values", field="features")
        if not are_exact(features.values()):
            refuse_inexact(ask.body)
        key = content.get("key")
        if key is not None:
            protocol.check_text(key)
        purpose = _purpose(content.get("purpose", "customer"), ask.caller)
        answer = await self._decider.decide(ask.table, ask.model, features, key, purpose, explain=explain)
        self._metrics.decided(ask.model, answer, time.perf_counter() - ask.started)
        return reply(answer.to_dict(), headers=self._headers([answer]))

    async def _infer(self, ask: Ask) -> Response:
        bundle = self._bundle(ask.route)
        asked = protocol.read_inference(
            ask.body, ask.headers.get(b"inference-header-content-length"), bundle.features, ask.model
        )
        keys = [key or digest_of(row) for key, row in zip(asked.keys, asked.rows, strict=True)]
        table, purpose = self._insist(ask, keys) if ask.version else (ask.table, "customer")
        weighed = await self._weigh(table, ask.model, asked.rows, keys, purpose)
        answers = [self._decider.give(one) for one in weighed]
        seconds = (time.perf_counter() - ask.started) / len(answers)
        for answer in answers:
            self._metrics.decided(ask.model, answer, seconds)
        return protocol.answer_inference(ask.model, answers, asked, self._headers(answers))

    async def _weigh(
        self, table: RouteTable, model: str, rows: Sequence[dict[str, Any]], keys: Sequence[str], purpose: Purpose
    ) -> list[Weighed]:
        """Every row's decision before any is recorded: one bad row, and there is none.

        Raises:
            InvalidError: a feature is wrong; `row` says where.
        """
        weighed = []
        for position, (row, key) in enumerate(zip(rows, keys, strict=True)):
            try:
                weighed.append(await self._decider.weigh(table, model, row, key, purpose))
            except InvalidError as error:
                where = f"row {position}: " if len(rows) > 1 else ""
                detail = error.detail | {"row": position}
                raise InvalidError(where + error.message, field=error.field, **detail) from error
            if position % _YIELD_ROWS == _YIELD_ROWS - 1:
                await asyncio.sleep(0)
        return weighed

    def _insist(self, ask: Ask, keys: Sequence[str]) -> tuple[RouteTable, Purpose]:
        """The table and purpose of a request that names a release."""
        route, target = ask.route, find_version(ask.route, ask.version, ask.caller)
        if ask.caller.role == CHOOSER:
            return pinned(ask.table, route, target, self._store.get(target) is not None), "verification"

        def is_on_trial(key: str) -> bool:
            return self._decider.arm_of(route, key, "customer")[1] == CHALLENGER

        check_keys(route, target, keys, is_on_trial, ask.caller)
        return ask.table, "customer"

    async def _outcome(self, ask: Ask) -> Response:
        content = read_object(ask.body)
        _check_names(content, _OUTCOME_KEYS)
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

    async def _metadata(self, ask: Ask) -> Response:
        features, versions = self._named(ask).features, versions_for(ask.route, ask.caller)
        return self._reply(protocol.model_metadata(ask.model, versions, features))

    async def _model_ready(self, ask: Ask) -> Response:
        self._named(ask)
        return self._reply({"name": ask.model, "ready": True})

    def _named(self, ask: Ask) -> Bundle:
        """The bundle of the release that the path names, or of the one that answers."""
        if not ask.version:
            return self._bundle(ask.route)
        target = find_version(ask.route, ask.version, ask.caller)
        if target == in_charge(ask.route):
            return self._bundle(ask.route)
        bundle = self._store.get(target)
        if bundle is None:
            raise UnavailableError(f"no verified bundle of {target.release} is in memory", field="version")
        return bundle

    def _bundle(self, route: Route) -> Bundle:
        target: Target | None
        for target in (route.champion, route.baseline, route.previous):
            bundle = self._store.get(target)
            if bundle is not None:
                return bundle
        raise UnavailableError(f"no verified bundle of {route.model} can answer", field="model")

    def _reply(self, content: Any, status: int = 200) -> Response:
        return reply(content, status, {"X-Replica": self._replica})

    def _headers(self, answers: Sequence[Answer]) -> dict[str, str]:
        """Who answered: where rows were answered differently, the outputs say it row by row."""
        first, headers = answers[0], {"X-Replica": self._replica}
        if len(answers) == 1:
            headers["X-Decision-Id"] = first.decision_id
        if all((answer.digest, answer.role) == (first.digest, first.role) for answer in answers):
            headers["X-Model-Release"] = first.release
            headers["X-Model-Digest"] = first.digest
            headers["X-Model-Role"] = first.role
        return headers

    def _ready(self) -> Response:
        ready = self.table is not None
        return reply({"ready": ready}, 200 if ready else 503)


def _server() -> Response:
    return reply(protocol.SERVER)


def _live() -> Response:
    return reply({"live": True})


def _check_names(content: dict[str, Any], known: set[str]) -> None:
    for name in sorted(content.keys() - known):
        expected = " and ".join(sorted(known))
        raise InvalidError(f"{name[:60]!r} is not known here; expected {expected}", field=name[:60])


def _purpose(value: Any, caller: Caller) -> Purpose:
    if value == "customer":
        return "customer"
    if value == "verification":
        require_role(caller, "service", "purpose verification")
        return "verification"
    raise InvalidError(f"purpose is {value!r:.60}; expected customer or verification", field="purpose")
