"""Sealing: one fact for each model's segment, and copies for a shadow do not count as answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lineage.settings import Settings
from serve.controller.reconciler import Reconciler
from serve.record.decision_log import DecisionLog
from serve.record.sealing import read_segments
from serve.record.spool import Spool
from tests.support.decision_records import decision


class Record:
    """The ledger's rule for idempotency keys: one key, one request."""

    def __init__(self) -> None:
        self.facts: dict[str, tuple[str, dict[str, Any]]] = {}

    def append(self, kind: str, *, model: str, data: dict[str, Any], key: str) -> None:
        assert kind == "DecisionsSealed"
        assert self.facts.setdefault(key, (model, data)) == (model, data), f"key {key} was used for another request"


def test_two_models_that_decide_in_the_same_second_are_both_sealed(tmp_path: Path) -> None:
    settings, record = Settings(home=tmp_path), Record()
    spool, decision_log = Spool(settings.spool, "r1"), DecisionLog(settings)
    for number in range(6):
        spool.write(decision(number, model=("loans", "cards")[number % 2]))
    decision_log.take()
    nobody: Any = SimpleNamespace()
    ledger: Any = record
    reconciler = Reconciler(settings, ledger, nobody, decision_log, nobody)
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
