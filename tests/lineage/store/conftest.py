"""For the tests of the lineage store: its records, its segments, and stores of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lineage.errors import RefusedError
from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.rules.draft import Draft
from lineage.store.duckdb_store import Store
from tests.support.sample_facts import AUTHOR, MODEL, OPERATOR, FactWriter, ManualClock
from tests.support.store_history import FIRST, NEW, OLD, SECOND, Record, Segments, stopped_and_let_go


@pytest.fixture
def segments(tmp_path: Path, writer: FactWriter) -> Segments:
    return Segments(tmp_path / "decisions", writer)


@pytest.fixture(scope="session")
def _history(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], Path]:
    """Two models, champions, a rollback, one of every fact about a model, a refusal, and two decision segments."""
    place = tmp_path_factory.mktemp("history")
    ledger = Ledger(place / "log", clock=ManualClock())
    writer, segments = FactWriter(ledger), Segments(place / "decisions", FactWriter(ledger))
    for _ in range(2):
        second = writer.register()
        writer.record("ShadowStarted", second, OPERATOR)
        writer.promote(writer.rollout(writer.approve(writer.to_review(writer.canary(second)))))
    writer.record("RollbackOrdered", second, OPERATOR, to=FIRST)
    FactWriter(ledger, "other").bring(State.REVIEW)
    for kind in ("DriftMeasured", "FairnessMeasured", "AlertRaised", "DatasetPinned", "RouteApplied"):
        writer.record(kind)
    stopped_and_let_go(ledger, MODEL)
    stopped_and_let_go(ledger, None)
    for kind in ("BreakerOpened", "BreakerClosed", "BreakerOpened"):
        writer.record(kind)
    for release in (FIRST, SECOND):
        writer.record("BreakerOpened", release=release, replica=release)
    ledger.refuse(Draft("ReviewDecided", AUTHOR, {}, MODEL, FIRST, "mine"), RefusedError("no", code="four_eyes"))
    segments.put("one", **OLD)
    segments.put("two", release=SECOND, hour=11, **NEW)
    records = ledger.records[:]
    ledger.close()
    return records, segments.folder


@pytest.fixture
def records(_history: tuple[list[Record], Path], segments: Segments) -> Sequence[Record]:
    """The records of the history; `segments` has its segments."""
    shutil.copytree(_history[1], segments.folder)
    return _history[0]


@pytest.fixture(scope="module")
def store(_history: tuple[list[Record], Path]) -> Iterator[Store]:
    """A store of the history, to be asked only."""
    opened = Store(":memory:", _history[0], decisions=_history[1])
    yield opened
    opened.close()


@pytest.fixture
def own_store(records: Sequence[Record], segments: Segments) -> Iterator[Store]:
    """A store of the history for this test alone."""
    opened = Store(":memory:", records, decisions=segments.folder)
    yield opened
    opened.close()
