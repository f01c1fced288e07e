"""The front door: one Serve replica that answers decisions with the bundles in its memory.

It watches the controller for route tables. Until the first table is loaded it is not there for anybody; afterwards it
goes on answering by the last one, whatever happens to the controller or the ledger.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Any

import ray
import structlog
from ray import serve as ray_serve
from ray.exceptions import ActorDiedError, RayActorError, RayError
from starlette.requests import Request
from starlette.responses import Response

from lineage.diagnostic_log import configure_diagnostic_log
from lineage.errors import PlimsollError
from lineage.settings import Settings
from serve.decision.challenger_client import ChallengerClient
from serve.decision.champion import Champion
from serve.decision.circuit_breakers import BreakerEvent, Breakers
from serve.decision.decider import Decider
from serve.decision.explainer import Explainer
from serve.decision.feature_client import FeatureClient
from serve.decision.freshness import FeaturePort
from serve.decision.score_cache import ScoreCache
from serve.gateway.admission import Admission
from serve.gateway.event_reporter import EventReporter
from serve.gateway.messages import error_reply
from serve.gateway.metrics import Metrics
from serve.gateway.predictions import Predictions
from serve.gateway.router import Router
from serve.gateway.single_write import use_single_write_replies
from serve.models.bundle_store import BundleStore
from serve.record.spool import Spool
from serve.routes import RouteTable, accepts

log = structlog.get_logger("plimsoll.gateway")
CONTROLLER, NAMESPACE = "plimsoll_controller", "plimsoll"
_RETRY_SECONDS = 0.25
#: A route change waits so long for bundles it names first; then it holds, and what is missing loads when it is needed.
_LOADING_SECONDS = 2.0


class Gateway:
    """A plain `__call__`: FastAPI as ingress costs up to half of the throughput."""

    async def __init__(self, challenger: Any, features: Any) -> None:  # type: ignore[misc]
        configure_diagnostic_log()
        use_single_write_replies()
        settings = Settings()
        self._replica = ray_serve.get_replica_context().replica_id.unique_id
        self._store = BundleStore(settings)
        self._store.warm()
        self._pool = ChallengerClient(challenger)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reporter = EventReporter(self._tell)
        self._breakers = Breakers(self._replica, self._reporter.add)
        self._router = self._open(settings, FeatureClient(features.read.remote))
        self._ready = asyncio.Event()
        self._watch = asyncio.create_task(self._follow())
        await self._until_ready()

    def _open(self, settings: Settings, features: FeaturePort) -> Router:
        record = Spool(settings.spool, self._replica).write
        champion = Champion(self._store, self._breakers, Explainer(), ScoreCache())
        decider = Decider(self._store, champion, record, self._pool, self._replica)
        admission = Admission(settings.gateway_inflight)
        metrics = Metrics(self._store, champion.cache, decider.shadow, admission)
        predictions = Predictions(decider, self._store, self._replica, metrics, features)
        hosts = ("127.0.0.1", "localhost", settings.host)
        return Router(predictions, self._store, record, self._replica, hosts=hosts, admission=admission)

    async def _until_ready(self) -> None:
        """Traffic comes as soon as the constructor returns, also while the controller is away: not before a table."""
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait((ready, self._watch), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._watch.done():
            self._watch.result()

    async def __call__(self, request: Request) -> Response:
        """Answer one HTTP request."""
        try:
            return await self._router.answer(request)
        except PlimsollError as error:
            return error_reply(error)

    def check_health(self) -> None:
        """Serve replaces a replica that no longer hears of route changes."""
        if self._watch.done():
            raise RuntimeError("the watch of the route table has ended")

    async def _follow(self) -> None:
        """Ask the controller for the next table, for ever. Asking says what this replica has: that is the ack."""
        controller = None
        while True:
            try:
                if controller is None:
                    controller = ray.get_actor(CONTROLLER, namespace=NAMESPACE)
                offered = await controller.watch.remote(self._report())
            except (RayError, ValueError) as error:  # ValueError: there is no such actor (yet)
                log.warning("no controller; the routes stay as they are", error=type(error).__name__)
                if isinstance(error, ActorDiedError) or not isinstance(error, RayActorError):
                    controller = None  # for good: another one has the name, or will
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if offered is not None:
                await self._take(RouteTable.from_dict(offered))

    async def _take(self, table: RouteTable) -> None:
        if not accepts(self._router.table, table):
            return
        await self._load(table)
        self._router.table = table
        self._ready.set()
        for route in table.routes.values():
            for target in (route.challenger, route.shadow):
                if target is not None and not self._pool.is_prepared(target):
                    self._start(self._pool.prepare(target))  # a rollback must not wait for this

    async def _load(self, table: RouteTable) -> None:
        """Have what the table names in memory. One model's new bundle holds up the others' routes only for a moment."""
        targets = [target for route in table.routes.values() for target in route.resident]
        if not self._store.has_missing(targets):
            return
        loading = self._start(asyncio.to_thread(self._store.load, targets))
        await asyncio.wait((loading,), timeout=_LOADING_SECONDS if self._router.table else None)

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _tell(self, told: BreakerEvent, key: str) -> bool:
        try:
            controller = ray.get_actor(CONTROLLER, namespace=NAMESPACE)
            done: bool = await controller.put_on_record.remote(told.kind, told.model, told.data, key)
        except (RayError, ValueError) as error:  # ValueError: there is no such actor (yet)
            log.warning("event not recorded yet", kind=told.kind, model=told.model, error=type(error).__name__)
            return False
        return done

    def _report(self) -> dict[str, Any]:
        table = self._router.table
        return {
            "replica": self._replica,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "order": list(table.order) if table else [0, 0],
            "refused": self._store.refused,
            "at": time.time(),
        }
