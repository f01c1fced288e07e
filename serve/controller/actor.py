"""The controller: one detached Ray actor that follows the ledger, publishes route tables and advances releases.

It keeps no state that cannot be rebuilt: routes come from the ledger's fold, evidence from the spools and segments.
The sequence number of its first fact, ControllerStarted, is the epoch of its tables; replicas ignore lower epochs
(fencing).
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import ray
import structlog

from lineage.clock import instant
from lineage.diagnostic_log import configure_diagnostic_log
from lineage.settings import Settings
from plimsoll.errors import Error as LedgerError
from plimsoll.errors import Unavailable
from plimsoll.ledger import Ledger
from serve.controller.effects import RayJobs
from serve.controller.environments import Environments
from serve.controller.measurements import Measurements
from serve.controller.reconciler import Reconciler
from serve.controller.replicas import ReplicaRegistry
from serve.controller.route_publisher import RoutePublisher
from serve.intent import Intention
from serve.models.bundle_store import BundleStore
from serve.record.decision_log import DecisionLog
from serve.routes import Route, routes_from

log = structlog.get_logger("plimsoll.controller")
CONTROLLER, NAMESPACE = "plimsoll_controller", "plimsoll"
_TICK_SECONDS = 0.5
_WAIT_SECONDS = 10.0
_MAX_PAUSE_SECONDS = 1.0  # the ledger is back within seconds: a kill switch pulled then is obeyed as fast


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=1000)
class Controller:
    """Runs the loops. Decisions are in the verbs, effects in `Reconciler`."""

    async def __init__(self) -> None:  # type: ignore[misc]
        configure_diagnostic_log()
        self._settings = Settings()
        token = self._settings.token("controller")
        self._ledger = Ledger(self._settings.ledger_url, token)
        self._follower = Ledger(self._settings.ledger_url, token)
        self._publisher = RoutePublisher(self._settings.run / "routes.json", ReplicaRegistry(time.time))
        decisions, port = DecisionLog(self._settings), RayJobs(self._settings)
        self._reconciler = Reconciler(self._settings, self._ledger, self._publisher, decisions, port)
        self._measurements = Measurements(self._reconciler)
        self._environments = Environments(self._reconciler)
        self._epoch: int | None = None
        self._wake = asyncio.Event()
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._run())]
        self._warming = asyncio.create_task(asyncio.to_thread(BundleStore.warm))
        for task in self._tasks:
            task.add_done_callback(_exit_process)
        self._confirming: set[asyncio.Task[None]] = set()

    async def watch(self, report: dict[str, Any]) -> dict[str, Any] | None:
        """Note the report of a gateway replica and wait for a newer table; None when there is none within the poll."""
        return await self._publisher.watch(report)

    async def put_on_record(self, kind: str, model: str, data: dict[str, Any], key: str) -> bool:
        """Append the event of a gateway replica; False where the ledger does not answer and the replica must retry.

        A refusal by the ledger is logged and counts as done, because a retry would be refused again.
        """
        try:
            await asyncio.to_thread(self._ledger.append, kind, model=model, data=data, key=key)
        except Unavailable as error:
            log.warning("event not recorded yet", kind=kind, model=model, message=error.message)
            return False
        except LedgerError as error:
            log.error("event refused by the ledger", kind=kind, model=model, message=error.message)
        return True

    async def status(self) -> dict[str, Any]:
        """Epoch, newest table and replicas, for deployment and diagnosis."""
        table = self._publisher.table
        order = table.order if table else None
        registry = self._publisher.registry
        return {
            "epoch": self._epoch,
            "order": order,
            "replicas": registry.replicas(),
            "lagging": registry.lagging(order) if order else [],
            "refused": registry.refused(),
        }

    async def _follow(self) -> None:
        """Follow the ledger without end; while it does not answer the routes stay as they are."""
        pause = 0.25
        while True:
            try:
                if self._epoch is None:
                    await self._take_over()
                await self._read_next()
                pause = 0.25
            except LedgerError as error:
                log.warning("ledger does not answer, routes unchanged", message=error.message)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    async def _take_over(self) -> None:
        replicas = len(self._publisher.registry.replicas())
        data = {"replicas": replicas}
        record = await asyncio.to_thread(self._ledger.append, "ControllerStarted", data=data)
        await self._read()
        self._epoch = record["seq"]
        self._publish({})
        log.info("took over", epoch=self._epoch)

    async def _read_next(self) -> None:
        page = await asyncio.to_thread(
            self._follower.records, after=self._reconciler.view.seq, limit=500, wait=_WAIT_SECONDS
        )
        moments = {record["model"]: record["at"] for record in page["records"] if record["model"]}
        await self._read()
        self._publish(moments)

    async def _read(self) -> None:
        """Read the changes, and the tokens even without a change, because sessions expire."""
        view = self._reconciler.view
        changes, tokens = await asyncio.gather(
            asyncio.to_thread(self._ledger.changes, view.seq), asyncio.to_thread(self._ledger.gateway_tokens)
        )
        self._reconciler.view, self._tokens = view.updated(changes), tokens

    def _publish(self, moments: dict[str, str]) -> None:
        view = self._reconciler.view
        assert self._epoch is not None  # noqa: S101
        table = routes_from(view, self._tokens, self._epoch, view.seq)
        changed = self._publisher.publish(table)
        for name in changed:
            if name in moments:
                task = asyncio.create_task(self._confirm(table.routes[name], table.order, moments[name]))
                self._confirming.add(task)
                task.add_done_callback(self._confirming.discard)
        self._wake.set()

    async def _confirm(self, route: Route, order: tuple[int, int], at: str) -> None:
        """Wait until every replica runs the route, then record RouteApplied with the time it took."""
        acked = await self._publisher.acked(order)
        data = {
            "version": order[1],
            "champion": route.champion.release if route.champion else None,
            "challenger": route.challenger.release if route.challenger else None,
            "share": route.share,
            "shadow": route.shadow.release if route.shadow else None,
            "killed": route.killed,
            "replicas": len(self._publisher.registry.replicas()),
            "milliseconds": round(max(0.0, acked - instant(at).timestamp()) * 1000.0, 1),
        }
        try:
            await self._reconciler.record(Intention("RouteApplied", route.model, data, about_release=False))
        except LedgerError as error:
            log.warning("route applied but not recorded", message=error.message)

    async def _run(self) -> None:
        """Tick without end: at once after a ledger change, else twice a second."""
        while True:
            try:
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._epoch is None:
                continue
            await self._reconciler.tick()
            self._environments.tick()
            self._measurements.tick()
            self._reconciler.start("seal", self._measurements.seal_seconds(), self._reconciler.seal)


def _exit_process(task: asyncio.Task[None]) -> None:
    """End the process after an unexpected error in a loop: Ray restarts the actor, which rebuilds its state."""
    if not task.cancelled():
        log.critical("controller loop failed, process exits", exc_info=task.exception())
        os._exit(1)
