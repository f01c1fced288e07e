"""Answers of replicas and a sealer that are killed again and again, against the record, by number.

Replicas and sealer are processes of their own with the parts of the platform: the replica writes a request's decisions
to its spool and then answers; the sealer reads spools, seals, and states facts to a ledger here, which is not killed.
Each is ended with SIGKILL at random moments and started again, in any order. At the end every answer that was received
is looked for in the sealed segments by its number, and `audit verify` reconciles numbers and segments. To see that a
removal is found, one line is then cut out of a spool of a further replica.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.faults.power_loss import memory
from lineage.ledger import Ledger
from lineage.rules.draft import Draft
from lineage.rules.eras import activation
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM
from lineage.segments import content_of, place_of, rows_of
from lineage.settings import Settings
from lineage.verify import verify_ledger
from serve.controller.replicas import process_alive
from serve.record.decision_log import DecisionLog
from serve.record.series import replica_of
from serve.record.spool import Spool
from tests.support.decision_records import decision

ANSWERS, REPLICAS, ROWS, MODELS, CUSTOMERS = 1_000_000, 3, 100, ("loans", "cards"), 500
_SPAWN = multiprocessing.get_context("spawn")
_CONTROLLER = Actor("controller", "service")
Answered = dict[tuple[str, str], int]


def replica(home: str, name: str, pipe: Connection) -> None:
    """Answer requests of `ROWS` rows until killed; each is sent once all of its decisions are in the spool."""
    spool = Spool(Settings(home=Path(home)).spool, name)
    turn = 0
    while True:
        model = MODELS[turn % len(MODELS)]
        first = spool.counts.get(model, 0) + 1
        for number in range(first, first + ROWS):
            about = {"decision_id": f"{spool.writer}/{model}/{number}", "key": f"customer-{number % CUSTOMERS}"}
            spool.write(decision(number, "champion", model=model, **about))
        pipe.send((spool.writer, model, first + ROWS - 1))
        turn += 1


def sealer(home: str, pipe: Connection) -> None:
    """Seal what replicas have spooled until killed, as the controller does."""
    decisions = DecisionLog(Settings(home=Path(home)))

    def append(kind: str, model: str | None, data: dict[str, Any], key: str) -> None:
        pipe.send((kind, model, data, key))
        pipe.recv()

    while True:
        pipe.send(None)
        reported, alive = pipe.recv()
        decisions.series.report(reported)
        missing = decisions.cut_off(reported)
        if missing:
            append("missing", None, {"missing": missing}, "")
        for segment in decisions.next_segments():
            append("DecisionsSealed", segment.model, segment.data, f"{segment.model}/{segment.name}")
        decisions.sealed(process_alive)
        for writer, answers in decisions.gone(alive).items():
            append("AnswersClosed", None, {"writer": writer, "answers": answers}, f"closed/{writer}")
            decisions.series.forget(writer)


@dataclass
class Stage:
    """A ledger, and the processes that are killed."""

    settings: Settings
    ledger: Ledger
    answered: Answered = field(default_factory=dict)
    alarms: list[Any] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=lambda: {"replica": 0, "sealer": 0})
    replicas: dict[str, tuple[SpawnProcess, Connection]] = field(default_factory=dict)
    sealing: tuple[SpawnProcess, Connection] | None = None
    started: int = 0
    worked: bool = False  # whether the sealer has stated something since its start

    @property
    def count(self) -> int:
        """Answers received so far."""
        return sum(self.answered.values())

    def start(self, target: Callable[..., None], *words: str) -> tuple[SpawnProcess, Connection]:
        """Start a process with one end of a pipe."""
        here, there = _SPAWN.Pipe()
        process = _SPAWN.Process(target=target, args=(str(self.settings.home), *words, there), daemon=True)
        process.start()
        there.close()
        return process, here

    def add_replica(self) -> None:
        """Start a replica under a new name."""
        self.started += 1
        name = f"r{self.started}"
        self.replicas[name] = self.start(replica, name)

    def kill(self, process: SpawnProcess, what: str) -> None:
        """SIGKILL."""
        os.kill(int(process.pid or 0), signal.SIGKILL)
        process.join()
        self.kills[what] += 1

    def kill_replica(self, name: str) -> None:
        """End a replica and take what it had answered."""
        process, pipe = self.replicas.pop(name)
        self.kill(process, "replica")
        self.receive(pipe)

    def kill_sealer(self) -> None:
        """End the sealer; the next step starts another."""
        if self.sealing is not None:
            self.kill(self.sealing[0], "sealer")
            self.sealing, self.worked = None, False

    def answering(self) -> list[str]:
        """Replicas that have answered."""
        writers = {replica_of(writer) for writer, _ in self.answered}
        return sorted(writers & self.replicas.keys())

    def receive(self, pipe: Connection) -> None:
        """Take the answers that a replica has given."""
        try:
            while pipe.poll():
                writer, model, last = pipe.recv()
                self.answered[writer, model] = last
        except (EOFError, OSError):
            return

    def step(self, seconds: float) -> None:
        """Receive answers and serve the sealer for some time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for _, pipe in self.replicas.values():
                self.receive(pipe)
            if self.sealing is None:
                self.sealing = self.start(sealer)
            pipe = self.sealing[1]
            if pipe.poll(0.01):
                self._serve(pipe, pipe.recv())

    def _serve(self, pipe: Connection, request: Any) -> None:
        if request is None:
            reported: dict[str, dict[str, int]] = {}
            for (writer, model), last in self.answered.items():
                if writer not in self.closed():
                    reported.setdefault(writer, {})[model] = last
            pipe.send((reported, set(self.replicas)))
            return
        kind, model, data, key = request
        self.worked = True
        if kind == "missing":
            self.alarms.append(data)
        else:
            self.ledger.append(Draft(kind, _CONTROLLER, data, model, key=key))
        pipe.send(True)

    def closed(self) -> set[str]:
        """Writers whose end is on record."""
        return {one["data"]["writer"] for one in self.ledger.records.find(kinds=["AnswersClosed"]).records}

    def settle(self, seconds: float) -> bool:
        """Let everything be sealed and closed; whether that happened in time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.step(0.2)
            if not list(self.settings.spool.glob("*.jsonl")) and self.closed() >= {one for one, _ in self.answered}:
                return True
        return False


def run(answers: int = ANSWERS, seed: int = 1) -> Iterator[str]:
    """Differences between answers and record by number: none is expected."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=memory()) as place:
        stage = _stage(Settings(home=Path(place)))
        for _ in range(REPLICAS):
            stage.add_replica()
        while stage.count < answers:
            stage.step(rng.uniform(0.05, 2.0))
            if stage.worked and rng.random() < 0.3:
                stage.kill_sealer()
            if (victims := stage.answering()) and rng.random() < 0.1:
                stage.kill_replica(rng.choice(victims))
                stage.add_replica()
            if rng.random() < 0.05:
                yield f"({stage.count:,} answers, {stage.kills})"
        for name in sorted(stage.replicas):
            stage.kill_replica(name)
        settled = stage.settle(1_800.0)
        stage.kill_sealer()
        yield f"{stage.count:,} answers in {stage.started} replicas; killed: {stage.kills}; all sealed: {settled}"
        yield from _compared(stage)
        yield from _removed(stage)
        stage.ledger.close()


def _stage(settings: Settings) -> Stage:
    ledger = Ledger(settings.log_folder)
    for era in (2, 3):
        ledger.append(Draft("RulesActivated", Actor("ledger", PLATFORM), activation(era)))
    return Stage(settings, ledger)


def _compared(stage: Stage) -> Iterator[str]:
    """Every answer against the segments, by number and id, and the verdict of the verification."""
    held: dict[tuple[str, str], list[int]] = {}
    wrong = 0
    for record in stage.ledger.records.find(kinds=["DecisionsSealed"]).records:
        place = place_of(record)
        rows = rows_of(content_of(stage.settings.root, place), place.segment).filter(pl.col("type") == "decision")
        for writer, model, number, name in rows.select("writer", "model", "number", "decision_id").iter_rows():
            held.setdefault((writer, model), []).append(number)
            wrong += name != f"{writer}/{model}/{number}"
    lost = sum(len(set(range(1, last + 1)) - set(held.get(one, ()))) for one, last in stage.answered.items())
    twice = sum(len(numbers) - len(set(numbers)) for numbers in held.values())
    beyond = sum(len(numbers) for numbers in held.values()) - twice - stage.count
    yield f"lost: {lost}, twice: {twice}, under another number: {wrong}, recorded but not received: {beyond}"
    result = verify_ledger(stage.settings)
    yield f"verify: {len(result.problems)} problems, {result.answers:,} answers in {result.segments} segments"
    yield f"false alarms of the sealer: {len(stage.alarms)}"


def _removed(stage: Stage) -> Iterator[str]:
    """One line is cut out of a spool before it is sealed: it has to be named."""
    spool = Spool(stage.settings.spool, "removed")
    for number in range(1, 6):
        spool.write(decision(number, "champion", model="loans", decision_id=f"{spool.writer}/loans/{number}"))
    lines = spool.path.read_bytes().splitlines(keepends=True)
    spool.path.write_bytes(b"".join(lines[:2] + lines[3:4]))
    stage.answered[spool.writer, "loans"] = 5
    decisions = DecisionLog(stage.settings)
    decisions.take()
    for segment in decisions.next_segments():
        stage.ledger.append(Draft("DecisionsSealed", _CONTROLLER, segment.data, segment.model))
    data = {"writer": spool.writer, "answers": {"loans": 5}}
    stage.ledger.append(Draft("AnswersClosed", _CONTROLLER, data))
    spool.close()
    for problem in verify_ledger(stage.settings).problems:
        yield f"lines 3 and 5 removed: record {problem['record']}: {problem['problem']}"
