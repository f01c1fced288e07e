"""Reconciler: records the facts that the verbs intend, one step for each model and tick, and only then acts.

A model that this process wrote about is skipped until the view includes what it wrote.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from lineage.clock import instant
from lineage.errors import PlimsollError
from lineage.settings import Settings
from lineage.state.entities import Model, Release
from lineage.state.safety import STEPS
from plimsoll.errors import Error as LedgerError
from plimsoll.ledger import Ledger
from serve import canary, promote, rollback
from serve.controller import training_jobs
from serve.controller.effects import golden_here, replay_through_gateway
from serve.controller.replicas import SILENT_SECONDS, process_alive
from serve.controller.route_publisher import RoutePublisher
from serve.controller.subprocesses import run_helper
from serve.intent import Intention
from serve.judge.verdict import Judgement, judge
from serve.ledger_view import LedgerView
from serve.record.decision_log import DecisionLog

log = structlog.get_logger("plimsoll.controller")
ALIASES = "mlflow_aliases"


@dataclass
class Reconciler:
    """Records intentions and carries out their effects. `view` is the ledger as last read."""

    settings: Settings
    ledger: Ledger
    publisher: RoutePublisher
    decisions: DecisionLog
    job_port: training_jobs.JobPort
    view: LedgerView = field(default_factory=LedgerView)
    began: float = field(default_factory=time.monotonic)
    _wrote: dict[str, int] = field(default_factory=dict)
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _next: dict[str, float] = field(default_factory=dict)

    async def record(self, intention: Intention) -> dict[str, Any]:
        """Append the fact of an intention to the ledger.

        Raises:
            plimsoll.errors.Error: the ledger refuses or does not answer; the caller must not act.
        """
        about = {"release": intention.subject} if intention.about_release else {"model": intention.subject}
        record = await asyncio.to_thread(
            self.ledger.append, intention.kind, data=intention.data, reason=intention.reason, **about
        )
        self._wrote[record["model"]] = record["seq"]
        log.info("recorded", kind=intention.kind, subject=intention.subject)
        return record

    def models(self) -> list[Model]:
        """Models whose view includes the last fact that this process wrote about them."""
        return [model for model in self.view.models.values() if model.last_seq >= self._wrote.get(model.model, 0)]

    async def tick(self) -> None:
        """One step of everything that is due."""
        await asyncio.to_thread(self.decisions.take)
        for model in self.models():
            name = model.model
            if model.rollback:
                self.start(f"rollback {name}", 2.0, self._roll_back, name)
            await self._guarded(f"retire {name}", self._retire, model)
            if model.challenger:
                await self._guarded(f"release {name}", self._move, model, self.view.releases[model.challenger])
            if model.requests:
                self.start(f"jobs {name}", 1.0, self._jobs, name)
            if model.breakers:
                self.start(f"breakers {name}", 5.0, self._close_breakers, model)
        self.decisions.forget_all_but({model.salt for model in self.view.models.values() if model.salt})

    def start(self, name: str, every: float, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Run `work` as a task, one at a time for each name and at most once in `every` seconds."""
        running = self._busy.get(name)
        if (running is not None and not running.done()) or time.monotonic() < self._next.get(name, 0.0):
            return
        self._next[name] = time.monotonic() + every
        self._busy[name] = asyncio.create_task(self._guarded(name, work, *arguments))

    async def _guarded(self, name: str, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Run `work`; log an error of the ledger or the platform and retry after 2 s. Routes stay as they are."""
        if time.monotonic() < self._next.get(f"after failure {name}", 0.0):
            return
        try:
            await work(*arguments)
        except (LedgerError, PlimsollError) as error:
            log.warning("retried at a later tick", work=name, message=error.message)
            self._next[f"after failure {name}"] = time.monotonic() + 2.0

    async def _retire(self, model: Model) -> None:
        if not model.rollback:
            for intention in promote.retirements(model, self.view):
                await self.record(intention)

    async def _move(self, model: Model, release: Release) -> None:
        now, terms = datetime.now(UTC), release.terms
        evidence = await asyncio.to_thread(self.decisions.evidence_of, release)
        minimum = terms.rollout.minimum_subjects if release.state == "rollout" else None
        started = instant(str(release.canary_started_at))
        proven = release.state != "canary"
        verdict = judge(evidence, terms.canary, now, started=started, minimum=minimum, proven=proven)
        intention = canary.step(model, release, verdict, now) or promote.step(release, verdict, now)
        killed = bool(model.stopped(self.view.kill))
        if intention is not None and not (killed and intention.kind in STEPS):
            await self.record(intention)
            if intention.kind == "CanaryAborted":
                self.aliases(model.model)
        elif intention is None and not killed and promote.is_ready(release, verdict):
            await self._promote(model, release, verdict)

    async def _promote(self, model: Model, release: Release, verdict: Judgement) -> None:
        golden = await asyncio.to_thread(golden_here, self.settings, release.digest)
        await self.record(promote.promotion(model, release, golden, verdict))
        if model.champion:
            data = {"replaced_by": release.release}
            await self.record(Intention("ChampionRetired", model.champion, data))
        self.aliases(model.model)

    async def _roll_back(self, name: str) -> None:
        order, table = self.view.models[name].rollback, self.publisher.table
        if order is None or table is None or table.version < order.seq:
            return
        at = await self.publisher.acked(table.order)
        acked_at, replicas = datetime.fromtimestamp(at, UTC), len(self.publisher.registry.replicas())
        done = rollback.rolled_back(self.view.models[name], self.view.releases, acked_at, replicas)
        if done is not None:
            await self.record(done)
        if order.to != rollback.BASELINE:
            digest = self.view.releases[order.to].digest
            replay = await replay_through_gateway(self.settings, self.publisher.registry, name, order.to, digest)
            proof = rollback.reinstated(self.view.models[name], self.view.releases, replay, datetime.now(UTC))
            if proof is not None:
                await self.record(proof)
                self._next[f"rollback {name}"] = time.monotonic() + (0.0 if proof.about_release else 60.0)
        self.aliases(name)

    async def _close_breakers(self, model: Model) -> None:
        """Record BreakerClosed for breakers of replicas that are gone."""
        if time.monotonic() - self.began < SILENT_SECONDS:
            return  # some replicas may not have reported yet
        there = self.publisher.registry.replicas()
        for replica, breaker in model.breakers.items():
            if replica not in there:
                open_for = (datetime.now(UTC) - instant(breaker.since)).total_seconds()
                data = {"release": breaker.release, "replica": replica, "cause": "replica gone", "answers": 0}
                data["seconds"] = max(0.0, round(open_for, 3))
                await self.record(Intention("BreakerClosed", model.model, data, about_release=False))

    async def _jobs(self, name: str) -> None:
        model = self.view.models[name]
        for request in list(model.requests):
            for intention in await asyncio.to_thread(training_jobs.step, model, request, self.job_port):
                await self.record(intention)

    async def seal(self) -> None:
        """Write unsealed decisions into segments and record their digests.

        Raises:
            plimsoll.errors.Error: the ledger does not answer; the same segments are offered again next time.
        """
        await asyncio.to_thread(self._compare_reports)
        for segment in await asyncio.to_thread(self.decisions.next_segments):
            key = f"{segment.model}/{segment.name}"  # two models of one batch may have segments of one name
            await asyncio.to_thread(
                self.ledger.append, "DecisionsSealed", model=segment.model, data=segment.data, key=key
            )
        await asyncio.to_thread(self.decisions.sealed, process_alive)
        await self._close_series()

    def _compare_reports(self) -> None:
        """Compare what replicas reported with what their spools hold now; what is missing will show in the record."""
        reported = self.publisher.registry.take_answers()
        self.decisions.series.report(reported)
        for writer, model, first, last in self.decisions.cut_off(reported):
            log.error("answers are missing from a spool", writer=writer, model=model, first=first, last=last)

    async def _close_series(self) -> None:
        """Record what replicas had reported that are gone and whose spools are sealed to their end."""
        if time.monotonic() - self.began < SILENT_SECONDS:
            return  # some replicas may not have reported yet
        alive = set(self.publisher.registry.replicas())
        for writer, answers in (await asyncio.to_thread(self.decisions.gone, alive)).items():
            if answers:
                data = {"writer": writer, "answers": answers}
                await asyncio.to_thread(self.ledger.append, "AnswersClosed", data=data, key=f"closed/{writer}")
            self.decisions.series.forget(writer)

    def aliases(self, model: str) -> None:
        """Align MLflow's aliases with the ledger. A failure raises an alert, the next success closes it."""
        self.start(f"aliases {model}", 0.0, self._aliases, model)

    async def _aliases(self, name: str) -> None:
        model = self.view.models.get(name, Model(name))
        named = {"champion": model.champion, "challenger": model.challenger, "previous": model.previous}
        words = [word for option, release in named.items() if release for word in (f"--{option}", release)]
        try:
            await run_helper("training.registry", name, *words)
        except PlimsollError as error:
            data = {"alert": ALIASES, "severity": "ticket", "summary": error.message, "evidence": None}
            await self.record(Intention("AlertRaised", name, data, about_release=False))
            return
        if model.alert(ALIASES, None) is not None:
            closed = {"alert": ALIASES, "about": None}
            await self.record(Intention("AlertClosed", name, closed, about_release=False))
