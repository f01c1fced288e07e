"""The lineage store behind the service: while it is opened no record is lost or doubled, and few wait for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineage.errors import RefusedError, UnavailableError
from lineage.ledger import Ledger
from lineage.segments import Segments
from lineage.service.app import wait_for_turn
from lineage.service.later_store import LaterStore
from lineage.settings import Settings
from lineage.store.duckdb_store import Store
from tests.support.ledger_service import LedgerService
from tests.support.sample_facts import FactWriter, ManualClock


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "log")
    FactWriter(ledger).train()
    yield ledger
    ledger.close()


@pytest.fixture
def store(ledger: Ledger, tmp_path: Path) -> Iterator[LaterStore]:
    store = LaterStore(tmp_path / "lineage.duckdb", ledger.records, decisions=tmp_path, segments=Segments(tmp_path))
    yield store
    store.close()


def test_records_of_before_during_and_after_the_opening_are_there_once(
    ledger: Ledger, store: LaterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    count = Store.count

    def slow_count(self: Store) -> int:
        held = count(self)
        begun.set()
        go.wait(30)
        return held

    monkeypatch.setattr(Store, "count", slow_count)
    ledger.follow(store.add)
    writer = FactWriter(ledger)
    store.begin()
    assert begun.wait(30)
    late = threading.Thread(target=writer.train)  # follows while the last records are taken
    late.start()
    go.set()
    late.join(30)
    assert store.answer("history", limit=10_000)[0], "opened"
    monkeypatch.undo()
    writer.train()
    assert store.state == "open"
    assert store.count() == len(ledger.records)


def test_queries_beyond_a_few_are_refused_while_it_is_opened(
    store: LaterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineage.service.later_store._MOST_WAITING", 0)
    with pytest.raises(UnavailableError, match="other queries wait") as refused:
        store.answer("history")
    assert refused.value.detail == {"retry_after": 1}


def test_a_store_that_cannot_be_opened_is_tried_again(tmp_path: Path, ledger: Ledger) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    store = LaterStore(blocked / "lineage.duckdb", ledger.records, decisions=tmp_path, segments=Segments(tmp_path))
    with pytest.raises(UnavailableError, match="cannot be opened"):
        store.count()
    assert store.state == "failed"
    blocked.unlink()
    assert store.count() == len(ledger.records)
    store.close()


def test_facts_are_recorded_and_models_stopped_without_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise UnavailableError("the store does not open")

    monkeypatch.setattr(Store, "__init__", never)
    service = LedgerService(Settings(home=tmp_path / "var"), ManualClock())
    try:
        answer = service.http.get("/v1/query/history", headers={"Authorization": f"Bearer {service.tokens['auditor']}"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        body = {"reason": "odd answers", "answer": "baseline"}
        headers = {"Authorization": f"Bearer {service.tokens['operator']}"}
        assert service.http.post("/v1/kill", json=body, headers=headers).status_code == 201
        assert service.http.get("/healthz").json()["store"] == "failed"
    finally:
        service.close()


def test_one_process_serves_a_home_and_the_next_one_waits_for_its_end(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "var")
    first = wait_for_turn(settings, forever=False)
    with pytest.raises(RefusedError, match="another ledger service serves"):
        wait_for_turn(settings, forever=False)
    served = threading.Event()
    second: list[int] = []

    def spare() -> None:
        second.append(wait_for_turn(settings, forever=True))
        served.set()

    threading.Thread(target=spare, daemon=True).start()
    os.close(first)
    assert served.wait(30)
    os.close(second[0])
