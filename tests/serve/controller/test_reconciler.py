"""Sealing: one fact for each model's segment, and copies for a shadow do not count as answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lineage.settings import Settings
from serve.controller.reconciler import Reconciler
from serve.controller.replicas import ReplicaRegistry
from serve.record.decision_log import DecisionLog
from serve.record.sealing import read_segments
from serve.record.spool import Spool
from tests.support.decision_records import decision


class Record:
    """The ledger's rule for idempotency keys: one key, one request."""

    def __init__(self) -> None:
        self.facts: dict[str, tuple[str, dict[str, Any]]] = {}

    def append(self, kind: str, *, data: dict[str, Any], key: str, model: str = "") -> None:
        assert kind == ("DecisionsSealed" if model else "AnswersClosed")
        assert self.facts.setdefault(key, (model, data)) == (model, data), f"key {key} was used for another request"


def _reconciler(settings: Settings, record: Record, decision_log: DecisionLog, **reported: Any) -> Reconciler:
    registry = ReplicaRegistry(lambda: 0.0, alive=lambda process: process == 1, host="here")
    for replica, report in reported.items():
        told = {"replica": replica, "host": "here", "order": [1, 1], "process": 1, "refused": {}}
        registry.note(told | report)
    publisher: Any = SimpleNamespace(registry=registry)
    ledger: Any = record
    nobody: Any = SimpleNamespace()
    return Reconciler(settings, ledger, publisher, decision_log, nobody, began=-1_000.0)


def test_a_replica_that_is_gone_is_closed_once_with_what_it_had_reported(tmp_path: Path) -> None:
    settings, record = Settings(home=tmp_path), Record()
    gone, lives = Spool(settings.spool, "r1"), Spool(settings.spool, "r2")
    for number in range(3):
        gone.write(decision(number))
    lives.write(decision(3))
    reported = {
        "r1": {"process": 2, "answers": {"writer": gone.writer, "counts": dict(gone.counts)}},
        "r2": {"answers": {"writer": lives.writer, "counts": dict(lives.counts)}},
        "r3": {},  # of an earlier version
    }
    decision_log = DecisionLog(settings)
    reconciler = _reconciler(settings, record, decision_log, **reported)
    asyncio.run(reconciler.seal())
    assert "" not in {model for model, _ in record.facts.values()}, "its spool is still there"
    gone.path.unlink()  # as when its process has ended and it was sealed to its end
    for _ in range(2):
        asyncio.run(reconciler.seal())
    closed = [data for model, data in record.facts.values() if not model]
    assert closed == [{"writer": gone.writer, "answers": {"credit-default": 3}}]


def test_two_models_that_decide_in_the_same_second_are_both_sealed(tmp_path: Path) -> None:
    settings, record = Settings(home=tmp_path), Record()
    spool, decision_log = Spool(settings.spool, "r1"), DecisionLog(settings)
    for number in range(6):
        spool.write(decision(number, model=("loans", "cards")[number % 2]))
    decision_log.take()
    reconciler = _reconciler(settings, record, decision_log)
    asyncio.run(reconciler.seal())
    assert {model: data["rows"] for model, data in record.facts.values()} == {"cards": 3, "loans": 3}
    assert decision_log.next_segments() == []


def test_a_shadows_copy_is_in_the_segment_and_counts_as_nobodys_answer(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    spool, decision_log = Spool(settings.spool, "r1"), DecisionLog(settings)
    spool.write(decision(1, "champion"))
    spool.write(decision(2, release="credit-default@9", role="shadow", purpose="shadow", shadow_of="d1", score=None))
    decision_log.take()
    (segment,) = decision_log.next_segments()
    assert segment.data["releases"] == {"credit-default@1": 1}
    (frame,) = read_segments(settings.decisions, "credit-default")
    assert frame.filter(frame["purpose"] == "shadow")["shadow_of"].to_list() == ["d1"]
