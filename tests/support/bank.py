"""A small platform for the stories: the real ledger, signed-in people, a gateway, and a controller on a manual clock.

Nothing here decides: verbs do, the ledger's guards allow or refuse, and a story reads the result. In place of Ray
there is one process: replicas are objects, and a story calls the controller's tick.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import polars as pl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path_
from starlette.testclient import TestClient

from lineage.accounts.credentials import IDLE, Credentials
from lineage.clock import instant
from lineage.lifecycle import JOURNEY
from lineage.rules import actions
from lineage.service.app import create_app
from lineage.settings import Settings
from lineage.state.entities import Model, Release
from lineage.state.views import model_view, release_view
from plimsoll import Client
from plimsoll.ledger import Ledger
from serve import canary, promote
from serve.controller import training_jobs as jobs
from serve.controller.effects import golden_here
from serve.controller.replicas import ReplicaRegistry
from serve.decision.answers import Answer
from serve.decision.answers import Request as Row
from serve.decision.decider import Decider
from serve.decision.scoring import score
from serve.gateway.router import Router
from serve.intent import Intention
from serve.judge.verdict import Judgement, judge
from serve.ledger_view import LedgerView
from serve.models.bundle_store import BundleStore
from serve.record.decision_log import DecisionLog
from serve.record.spool import Spool
from serve.routes import RouteTable, Target, accepts, routes_from
from tests.support.gateway_parts import decider_of, router_of
from tests.support.model_folder import POLICY, customers, write_folder
from tests.support.sample_facts import ManualClock
from training.fingerprint import environment_digest
from training.pipeline import validate_candidate
from training.progress import Progress
from training.register import register
from training.spec import load_spec
from training.tracking import Tracker
from training.train import Candidate, Options, train
from validators.validate import Verdict

MODEL = "small-credit"
FIRST, SECOND, THIRD = (f"{MODEL}@{number}" for number in (1, 2, 3))
HERE = "http://testserver"
#: Limits of these stories. An answer is slow only after a second, because test machines are slow.
STORY_POLICY = (
    POLICY
    + """
[canary]
steps = [0.25, 0.5]
alpha = 0.05
minimum_subjects = 50
deadline_minutes = 60
[canary.slow]
milliseconds = 1000
absolute_limit = 0.10
[canary.errors]
absolute_limit = 0.10
[canary.wrong_decisions]
ratio_limit = 2
[rollout]
steps = [0.75, 1.0]
minimum_subjects = 30
[monitor.drift]
window = 300
minimum_rows = 200
"""
)

_environment = cache(environment_digest)


def facts_of(verb: str) -> set[str]:
    """The facts that the journey's table lists for a verb."""
    (found,) = [one.facts for one in JOURNEY if one.name == verb]
    return set(found)


def folder_of_a_model(place: Path, data: pl.DataFrame | None = None) -> Path:
    """A model folder as a scientist writes one."""
    folder = write_folder(place, data=data)
    (folder / "policy.toml").write_text(STORY_POLICY)
    return folder


@dataclass(frozen=True)
class Stage:
    """State at which a story begins: a home folder, its time, passwords, model folder and customers so far."""

    home: Path
    hour: datetime
    passwords: dict[str, str]
    folder: Path
    crowds: int = 0


@dataclass(frozen=True)
class Workshop:
    """A bank with MLflow open, for training, and the stage at which three releases were registered."""

    bank: Bank
    tracker: Tracker
    registered: Stage


@dataclass
class Jobs:
    """Ray's jobs, in memory."""

    known: dict[str, jobs.JobView] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)

    def find(self, job_id: str) -> jobs.JobView | None:
        return self.known.get(job_id)

    def submit(self, job_id: str, entrypoint: str) -> None:
        self.submitted.append(entrypoint)
        self.known[job_id] = jobs.JobView("RUNNING", "")


class Gateway:
    """Replicas that answer by the newest route table. They share the bundles in memory and each has its spool."""

    def __init__(self, settings: Settings, clock: ManualClock, names: tuple[str, ...] = ("r1", "r2")) -> None:
        self.store = BundleStore(settings)
        self.spools = {name: Spool(settings.spool, name) for name in names}
        self.routers: dict[str, Router] = {}
        self.deciders: dict[str, Decider] = {}
        for name, spool in self.spools.items():
            decider = decider_of(self.store, spool.write, self, name, clock=lambda: clock().timestamp())
            self.deciders[name] = decider
            self.routers[name] = router_of(decider, self.store, spool.write, name)
        turns = itertools.cycle(names)

        async def answer(request: Request) -> Response:
            return await self.routers[next(turns)].answer(request)

        self.http = TestClient(Starlette(routes=[Path_("/{path:path}", answer, methods=["GET", "POST"])]))

    def is_ready(self, target: Target) -> bool:
        return self.store.get(target) is not None

    async def __call__(self, target: Target, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The challenger pool: scores in this process."""
        bundle = self.store.get(target)
        assert bundle is not None
        return [asdict(score(bundle, row)) for row in rows]

    def take(self, table: RouteTable, registry: ReplicaRegistry) -> None:
        """Give the table to every replica and report it to the registry."""
        self.store.load(
            t for r in table.routes.values() for t in (*r.resident, *([r.challenger] if r.challenger else []))
        )
        for name, router in self.routers.items():
            if accepts(router.table, table):
                router.table = table
            order = router.table.order if router.table else (0, 0)
            report = {"replica": name, "order": order, "host": socket.gethostname(), "process": os.getpid()}
            registry.note(report | {"refused": self.store.refused})

    def close(self) -> None:
        for spool in self.spools.values():
            spool.close()


class Bank:
    """The platform of one story; opened by `open_bank`."""

    def __init__(self, home: Path, clock: ManualClock, passwords: dict[str, str], folder: Path, crowds: int) -> None:
        self.settings, self.clock, self.folder, self.crowds = Settings(home=home), clock, folder, crowds
        self.passwords = passwords | Credentials(self.settings, clock=clock).first_start()
        self.http = TestClient(create_app(self.settings, clock=clock), raise_server_exceptions=False)
        self.http.__enter__()
        self.controller, self.trainer = self._service("controller"), self._service("trainer")
        self.decision_log, self.jobs = DecisionLog(self.settings), Jobs()
        self.registry = ReplicaRegistry(lambda: clock().timestamp())
        self.gateway = Gateway(self.settings, clock)
        self._people: dict[str, tuple[Client, datetime]] = {}
        self.begin()

    def close(self) -> None:
        self.gateway.close()
        self.http.__exit__(None, None, None)

    # Accounts

    def _service(self, name: str) -> Ledger:
        return Ledger(HERE, self.settings.token(name), transport=self.http._transport)

    def person(self, name: str) -> Client:
        """A client of the ledger, signed in as this person."""
        signed_in = self._people.get(name)
        if signed_in is None or self.clock() - signed_in[1] >= IDLE:
            there: dict[str, Any] = {"ledger": HERE, "transport": self.http._transport}
            signed_in = (Client.sign_in(name, self.passwords[name], **there), self.clock())
            self._people[name] = signed_in
        return signed_in[0]

    @property
    def operator(self) -> Client:
        return self.person("operator")

    @property
    def auditor(self) -> Client:
        return self.person("auditor")

    def gateway_client(self, account: str) -> Client:
        """A client of the gateway with this account's token."""
        return Client(self.settings.token(account), gateway=HERE, ledger=HERE, transport=self.gateway.http._transport)

    # What is on record

    def begin(self) -> None:
        """Begin the story; earlier records do not count for `recorded` and `fact`."""
        self.begun: int = self.view.seq

    def recorded(self, verb: str, release: str | None = None) -> list[str]:
        """The verb's kinds of facts on record since the story began, in order."""
        records = self.auditor.audit(after=self.begun, limit=1000, release=release)
        return [record["kind"] for record in records if record["kind"] in facts_of(verb)]

    def fact(self, kind: str, release: str | None = None) -> dict[str, Any]:
        """The newest fact of this kind since the story began."""
        record: dict[str, Any] = self.auditor.audit(after=self.begun, kind=kind, release=release, limit=1000)[-1]
        return record

    @property
    def view(self) -> LedgerView:
        """The ledger as the controller sees it."""
        return LedgerView().updated(self.controller.changes())

    @property
    def model(self) -> Model:
        return model_view(self.controller.model(MODEL))

    def release(self, name: str) -> Release:
        return release_view(self.controller.release(name))

    # Training

    def train(self, tracker: Tracker, seed: int, *, author: str = "scientist", **how: Any) -> Candidate:
        """Verb 1, as the training job does it, without a search."""
        spec = load_spec(how.pop("folder", self.folder))
        options = Options(author, seed, 1, "quick", **how)
        with mock.patch(
            "training.fingerprint.environment_digest", _environment
        ):  # the same all along, and slow to take
            return train(spec, options, self.settings, self.trainer, tracker, Progress(io.StringIO()))

    def validate(self, candidate: Candidate, folder: Path | None = None) -> Verdict:
        """Verb 2, as the training job does it."""
        spec = load_spec(folder or self.folder)
        return validate_candidate(spec, candidate, "scientist", self.settings, self.trainer, Progress(io.StringIO()))

    def register(self, candidate: Candidate, tracker: Tracker) -> str:
        """Verb 3; the version in MLflow."""
        return register(candidate, MODEL, self.trainer, tracker)

    # Customers

    def routes(self) -> RouteTable:
        """Give the route table of the present fold to every replica."""
        view = self.view
        table = routes_from(view, self.controller.gateway_tokens(), epoch=1, version=view.seq)
        self.gateway.take(table, self.registry)
        return table

    def serve_customers(self, number: int, town: pl.DataFrame | None = None) -> list[Answer]:
        """Answer requests of `number` new customers and record their outcomes."""
        table = self.routes()
        self.crowds += 1
        people = customers(number, seed=1000 + self.crowds) if town is None else town.head(number)
        keys = [f"{self.crowds}-{key}" if town is None else str(key) for key in people["ID"]]
        rows = people.select("income", "debt", "late").to_dicts()
        replicas = itertools.cycle(self.gateway.deciders)

        async def ask() -> list[Answer]:
            pairs = zip(replicas, rows, keys)  # noqa: B905 - replicas never end
            return [await self.gateway.deciders[r].decide(table, MODEL, Row(row, key)) for r, row, key in pairs]

        answers = asyncio.run(ask())
        for answer, bad in zip(answers, people["bad"], strict=True):
            line = {"type": "outcome", "decision_id": answer.decision_id, "outcome": bad, "model": MODEL}
            self.gateway.spools["r1"].write(line | {"at": self.clock().isoformat(), "replica": "r1"})
        return answers

    # The controller

    def judgement(self) -> Judgement:
        """Judgement of the release in flight by the decisions so far."""
        self.decision_log.take()
        release = self.release(str(self.model.challenger))
        started, terms = instant(str(release.canary_started_at)), release.terms
        minimum = terms.rollout.minimum_subjects if release.state == "rollout" else None
        return judge(
            self.decision_log.evidence_of(release), terms.canary, self.clock(), started=started, minimum=minimum
        )

    def tick(self) -> str | None:
        """One step of the controller for the release in flight; returns the kind of fact that it recorded."""
        verdict, view, now = self.judgement(), self.view, self.clock()
        model = view.models[MODEL]
        release = view.releases[str(model.challenger)]
        intention = canary.step(model, release, verdict, now) or promote.step(release, verdict, now)
        if intention is None and promote.is_ready(release, verdict):
            golden = golden_here(self.settings, release.digest)
            intention = promote.promotion(model, release, golden)
        return self.state(intention) if intention else None

    def state(self, intention: Intention, key: str | None = None) -> str:
        """Record an intention, which the guards check."""
        about = {"release": intention.subject} if intention.about_release else {"model": intention.subject}
        self.controller.append(intention.kind, data=intention.data, reason=intention.reason, key=key, **about)
        return intention.kind

    def run_until(self, kind: str, crowd: int = 150, most: int = 20) -> None:
        """Repeat customers and ticks until the controller records this kind of fact."""
        for _ in range(most):
            self.serve_customers(crowd)
            if self.tick() == kind:
                return
            self.clock.later(seconds=30)
        raise AssertionError(f"no {kind} after {most} crowds: {self.judgement().reasons}")

    def retire_former(self) -> None:
        """Record the retirement of former champions."""
        view = self.view
        for intention in promote.retirements(view.models[MODEL], view):
            self.state(intention)

    def start_canary(self, release: str) -> None:
        """Start the canary of a release as the operator.

        The salt is derived from its name, so that every run sends the same customers to the same arms.
        """
        salt = SimpleNamespace(token_hex=lambda _: f"salt of {release}")
        with mock.patch.object(actions, "secrets", salt):
            self.operator.canary(release, "findings look sound")

    def bring_to_review(self, release: str) -> None:
        """Run the canary until the release is in review."""
        self.start_canary(release)
        self.run_until("ReviewRequested")

    def approve(self, release: str) -> None:
        """Approve the release as the validator."""
        self.person("validator").review(release, "approve", "the canary's evidence is sound")

    def bring_to_championship(self, release: str) -> None:
        """Roll out an approved release until it is the champion."""
        self.operator.promote(release, "approved, go")
        self.run_until("ReleasePromoted")
        self.retire_former()
        self.routes()

    def stage(self) -> Stage:
        """The present state as the beginning of another story."""
        return Stage(self.settings.root, self.clock(), self.passwords, self.folder, self.crowds)


@contextmanager
def open_bank(home: Path, stage: Stage | None = None, folder: Path | None = None) -> Iterator[Bank]:
    """A bank in a new home, or in a copy of a stage's home."""
    clock = ManualClock()
    if stage is not None:
        left_out = shutil.ignore_patterns("mlflow", "feast", "lineage.duckdb*")
        shutil.copytree(stage.home, home, ignore=left_out)
        clock.time = stage.hour
        given: tuple[Any, ...] = (stage.passwords, stage.folder, stage.crowds)
    else:
        given = ({}, folder, 0)
    bank = Bank(home, clock, *given)
    try:
        yield bank
    finally:
        bank.close()
