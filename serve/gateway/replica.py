"""Gateway replica of Ray Serve: answers decisions with the bundles in its memory.

It long-polls the controller for route tables and accepts no traffic before its first table is loaded. If the
controller or the ledger fails it continues with the last table.
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
#: A new table takes effect after its bundles are loaded or after this time; the rest is loaded on demand.
_LOADING_SECONDS = 2.0


class Gateway:
    """The ingress deployment. A plain `__call__`: FastAPI as ingress costs up to half of the throughput."""

    async def __init__(self, challenger: Any, features: Any) -> None:  # type: ignore[misc]
        configure_diagnostic_log()
        use_single_write_replies()
        settings = Settings()
        self._replica = ray_serve.get_replica_context().replica_id.unique_id
        self._store = BundleStore(settings)
        self._store.warm()
        self._challenger = ChallengerClient(challenger)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reporter = EventReporter(self._report_event)
        self._breakers = Breakers(self._replica, self._reporter.add)
        self._router = self._build_router(settings, FeatureClient(features.read.remote))
        self._ready = asyncio.Event()
        self._watch = asyncio.create_task(self._follow())
        await self._until_ready()

    def _build_router(self, settings: Settings, features: FeaturePort) -> Router:
        self._spool = Spool(settings.spool, self._replica)
        record = self._spool.write
        champion = Champion(self._store, self._breakers, Explainer(), ScoreCache())
        decider = Decider(self._store, champion, record, self._challenger, self._replica)
        admission = Admission(settings.gateway_inflight)
        metrics = Metrics(self._store, champion.cache, decider.shadow, admission)
        predictions = Predictions(decider, self._store, self._replica, metrics, features)
        hosts = settings.host_names
        return Router(predictions, self._store, record, self._replica, hosts=hosts, admission=admission)

    async def _until_ready(self) -> None:
        """Wait for the first route table: Serve sends traffic as soon as the constructor returns."""
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait((ready, self._watch), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._watch.done():
            self._watch.result()

    async def __call__(self, request: Request) -> Response:
        """Answer one HTTP request; errors become JSON replies."""
        try:
            return await self._router.answer(request)
        except PlimsollError as error:
            return error_reply(error)

    def check_health(self) -> None:
        """Fail where route changes no longer arrive, so that Serve replaces the replica.

        Raises:
            RuntimeError: the watch of the route table has ended.
        """
        if self._watch.done():
            raise RuntimeError("the watch of the route table has ended")

    async def _follow(self) -> None:
        """Long-poll the controller for route tables. Each poll acknowledges the table that is in force here."""
        controller = None
        while True:
            try:
                if controller is None:
                    controller = ray.get_actor(CONTROLLER, namespace=NAMESPACE)
                offered = await controller.watch.remote(self._report())
            except (RayError, ValueError) as error:  # ValueError: there is no such actor (yet)
                log.warning("no controller; the routes stay as they are", error=type(error).__name__)
                if isinstance(error, ActorDiedError) or not isinstance(error, RayActorError):
                    controller = None  # it does not come back: look the name up again
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if offered is not None:
                await self._apply(RouteTable.from_dict(offered))

    async def _apply(self, table: RouteTable) -> None:
        if not accepts(self._router.table, table):
            return
        await self._load(table)
        self._router.table = table
        self._ready.set()
        for route in table.routes.values():
            for target in (route.challenger, route.shadow):
                if target is not None and not self._challenger.is_prepared(target):
                    self._start(self._challenger.prepare(target))  # in the background: a rollback must not wait for it

    async def _load(self, table: RouteTable) -> None:
        """Load the bundles that the table names, but delay the table by at most `_LOADING_SECONDS`."""
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

    async def _report_event(self, event: BreakerEvent, key: str) -> bool:
        try:
            controller = ray.get_actor(CONTROLLER, namespace=NAMESPACE)
            done: bool = await controller.put_on_record.remote(event.kind, event.model, event.data, key)
        except (RayError, ValueError) as error:  # ValueError: there is no such actor (yet)
            log.warning("event not recorded yet", kind=event.kind, model=event.model, error=type(error).__name__)
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
            "answers": {"writer": self._spool.writer, "counts": dict(self._spool.counts)},
            "at": time.time(),
        }
