"""Carries out what the verbs intend: states facts in the ledger, one step per model and tick, reading back first."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lineage.errors import PlimsollError
from lineage.settings import Settings
from lineage.state.safety import STEPS
from plimsoll.errors import Error as LedgerError
from plimsoll.ledger import Ledger
from serve import canary, promote, rollback
from serve.controller import training_jobs as jobs
from serve.controller.effects import golden_here, replay_through_door
from serve.controller.replicas import SILENT_SECONDS, process_alive
from serve.controller.route_publisher import Publisher
from serve.controller.subprocesses import run_helper
from serve.intent import Intention, View
from serve.judge.verdict import Judgement, judge

log = logging.getLogger(__name__)
State = dict[str, Any]


@dataclass
class Conduct:
    """The acting half of the controller. `state` is the fold last read; a model is left alone until it is read back."""

    settings: Settings
    ledger: Ledger
    publisher: Publisher
    keeper: DecisionLog
    job_port: jobs.JobPort
    state: State | None = None
    began: float = field(default_factory=time.monotonic)
    _wrote: dict[str, int] = field(default_factory=dict)
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _next: dict[str, float] = field(default_factory=dict)

    async def state_fact(self, intention: Intention) -> dict[str, Any]:
        """Put an intention on record.

        Raises:
            plimsoll.errors.Error: the ledger refuses or does not answer; then nothing must be done.
        """
        about = {"release": intention.subject} if intention.about_release else {"model": intention.subject}
        record = await asyncio.to_thread(
            self.ledger.append, intention.kind, data=intention.data, reason=intention.reason, **about
        )
        self._wrote[record["model"]] = record["seq"]
        log.info("%s %s", intention.kind, intention.subject)
        return record

    def models(self) -> list[View]:
        """Models whose view is newer than what we wrote ourselves."""
        models = (self.state or {"models": {}})["models"].values()
        return [model for model in models if model["last_seq"] >= self._wrote.get(model["model"], 0)]

    async def tick(self) -> None:
        """One step of everything that is due."""
        await asyncio.to_thread(self.keeper.take)
        for model in self.models():
            name = model["model"]
            if model["rollback"]:
                self.start(f"rollback {name}", 2.0, self._roll_back, name)
            await self._guarded(f"retire {name}", self._retire, model)
            if model["challenger"]:
                await self._guarded(f"release {name}", self._move, model)
            if model["requests"]:
                self.start(f"jobs {name}", 1.0, self._jobs, name)
            if model["breakers"]:
                self.start(f"breakers {name}", 5.0, self._forget_breakers, model)
        salts = {model["salt"] for model in (self.state or {"models": {}})["models"].values() if model["salt"]}
        self.keeper.forget_all_but(salts)

    def start(self, name: str, every: float, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Run `work` beside the ticks, one at a time by this name and at most once in `every` seconds."""
        running = self._busy.get(name)
        if (running is not None and not running.done()) or time.monotonic() < self._next.get(name, 0.0):
            return
        self._next[name] = time.monotonic() + every
        self._busy[name] = asyncio.create_task(self._guarded(name, work, *arguments))

    async def _guarded(self, name: str, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """What fails outside is logged and left for a later tick: the split stays as it is, and nothing is raised."""
        if time.monotonic() < self._next.get(f"after failure {name}", 0.0):
            return
        try:
            await work(*arguments)
        except (LedgerError, PlimsollError) as error:
            log.warning("%s: %s", name, error.message)
            self._next[f"after failure {name}"] = time.monotonic() + 2.0

    async def _retire(self, model: View) -> None:
        if self.state and not model["rollback"]:
            for intention in promote.retirements(model, self.state["releases"]):
                await self.state_fact(intention)

    async def _move(self, model: View) -> None:
        assert self.state is not None  # noqa: S101
        release = self.state["releases"][model["challenger"]]
        now = datetime.now(UTC)
        evidence = await asyncio.to_thread(self.keeper.evidence_of, release)
        policy = release["policy"]
        minimum = policy["rollout"]["minimum_subjects"] if release["state"] == "rollout" else None
        started = datetime.fromisoformat(release["canary_started_at"])
        limits, proven = Canary.model_validate(policy["canary"]), release["state"] != "canary"
        verdict = judge(evidence, limits, now, started=started, minimum=minimum, proven=proven)
        intention = canary.step(model, release, verdict, now) or promote.step(release, verdict, now)
        killed = bool(self.state["kill"] or model["kill"])
        if intention is not None and not (killed and intention.kind in STEPS):
            await self.state_fact(intention)
            if intention.kind == "CanaryAborted":
                self.aliases(model["model"])
        elif intention is None and not killed and promote.is_ready(release, verdict):
            await self._promote(model, release, verdict)

    async def _promote(self, model: View, release: View, verdict: Judgement) -> None:
        assert self.state is not None  # noqa: S101
        golden = await asyncio.to_thread(golden_here, self.settings, release["digest"])
        await self.state_fact(promote.promotion(model, release, golden, verdict))
        if model["champion"]:
            data = {"replaced_by": release["release"]}
            await self.state_fact(Intention("ChampionRetired", model["champion"], data))
        self.aliases(model["model"])

    async def _roll_back(self, name: str) -> None:
        assert self.state is not None  # noqa: S101
        order = self.state["models"][name]["rollback"]
        table = self.publisher.table
        if order is None or table is None or table.version < order["seq"]:
            return
        at = await self.publisher.acked(table.order)
        acked_at, replicas = datetime.fromtimestamp(at, UTC), len(self.publisher.fleet.replicas())
        model, releases = self.state["models"][name], self.state["releases"]
        done = rollback.rolled_back(model, releases, acked_at, replicas)
        if done is not None:
            await self.state_fact(done)
        if order["to"] != rollback.BASELINE:
            digest = releases[order["to"]]["digest"]
            replay = await replay_through_door(self.settings, self.publisher.fleet, name, order["to"], digest)
            proof = rollback.reinstated(model, releases, replay, datetime.now(UTC))
            if proof is not None:
                await self.state_fact(proof)
                self._next[f"rollback {name}"] = time.monotonic() + (0.0 if proof.about_release else 60.0)
        self.aliases(name)

    async def _forget_breakers(self, model: View) -> None:
        """The breaker of a replica that is gone guards nothing any more."""
        if time.monotonic() - self.began < SILENT_SECONDS:
            return  # not every replica has said that it is there
        there = self.publisher.fleet.replicas()
        for replica, breaker in model["breakers"].items():
            if replica not in there:
                open_for = (datetime.now(UTC) - datetime.fromisoformat(breaker["since"])).total_seconds()
                data = {"release": breaker["release"], "replica": replica, "cause": "replica gone", "answers": 0}
                data["seconds"] = max(0.0, round(open_for, 3))
                await self.state_fact(Intention("BreakerClosed", model["model"], data, about_release=False))

    async def _jobs(self, name: str) -> None:
        assert self.state is not None  # noqa: S101
        model = self.state["models"][name]
        for request in list(model["requests"]):
            for intention in await asyncio.to_thread(jobs.step, model, request, self.job_port):
                await self.state_fact(intention)

    async def seal(self) -> None:
        """Write what is unsealed into segments and put their digests on record.

        Raises:
            plimsoll.errors.Error: the ledger does not answer; the same segments come again next time.
        """
        for segment in await asyncio.to_thread(self.keeper.next_segments):
            key = f"{segment.model}/{segment.name}"  # two models of one batch may have segments of one name
            await asyncio.to_thread(
                self.ledger.append, "DecisionsSealed", model=segment.model, data=segment.data, key=key
            )
        await asyncio.to_thread(self.keeper.sealed, process_alive)

    def aliases(self, model: str) -> None:
        """Bring MLflow's aliases in step; MLflow is a view, so its failure is an alert and no more."""
        self.start(f"aliases {model}", 0.0, self._aliases, model)

    def _standing(self, model: str) -> list[str]:
        view = (self.state or {"models": {}})["models"].get(model, {})
        names = ("champion", "challenger", "previous")
        return [word for name in names if view.get(name) for word in (f"--{name}", view[name])]

    async def _aliases(self, model: str) -> None:
        try:
            await run_helper("training.registry", model, *self._standing(model))
        except PlimsollError as error:
            data = {"alert": "mlflow_aliases", "severity": "ticket", "summary": error.message, "evidence": None}
            await self.state_fact(Intention("AlertRaised", model, data, about_release=False))
