"""New records arrive in the store before the next answer, and a long log is never held whole."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from lineage.errors import UnavailableError
from lineage.store.duckdb_store import Store
from tests.support.sample_facts import MODEL, sample
from tests.support.store_history import Record, Segments, Watched, answers


def test_records_arrive_before_the_next_answer(records: Sequence[Record], segments: Segments) -> None:
    store = Store(":memory:", records[:5], decisions=segments.folder)
    for record in records[5:]:
        store.add(record)
    assert store.count() == len(records)
    whole = Store(":memory:", records, decisions=segments.folder)
    assert answers(store) == answers(whole)
    store.close()
    whole.close()


def test_recording_does_not_wait_for_a_query(own_store: Store, records: Sequence[Record]) -> None:
    more = [records[-1] | {"seq": len(records) + number} for number in range(1, 2_501)]
    with own_store._using:  # as a query holds it
        thread = threading.Thread(target=lambda: [own_store.add(record) for record in more])
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    assert own_store.count() == len(records) + 2_500


def test_who_comes_while_others_ask_for_too_long_is_told(records: Sequence[Record]) -> None:
    store = Store(":memory:", records, seconds=0.01)
    with store._using, pytest.raises(UnavailableError) as caught:
        store.query("releases")
    assert "busy" in caught.value.message
    store.close()


def test_after_a_failed_batch_the_store_catches_up(records: Sequence[Record]) -> None:
    store = Store(":memory:", records[:3])
    store.add(records[3] | {"at": "not a time"})
    with pytest.raises(UnavailableError):
        store.query("checks")
    store._waiting[:] = [records[3]]
    assert store.count() == 4, "the failed transaction was given up"
    store.close()


def test_a_record_that_is_not_the_next_is_not_taken(records: Sequence[Record]) -> None:
    store = Store(":memory:", records[:3])
    store.add(records[4])
    with pytest.raises(UnavailableError) as caught:
        store.count()
    assert "record 5 is not the next" in caught.value.message
    store._waiting[:] = [records[2], records[3], records[4]]
    assert store.count() == 5, "what it holds already is passed over"
    store.close()


def many(count: int) -> list[Record]:
    data, actor = sample("AlertRaised"), {"name": "controller", "role": "service"}
    rest = {"kind": "AlertRaised", "model": MODEL, "release": None, "reason": None, "key": None, "data": data}
    at = [f"2026-11-23T10:{number // 60 % 60:02d}:{number % 60:02d}.000000Z" for number in range(count)]
    return [
        {"seq": number + 1, "at": at[number], "actor": actor, "prev": f"{number:064d}", **rest}
        for number in range(count)
    ]


def test_a_long_log_is_never_held_whole(tmp_path: Path) -> None:
    log = Watched(many(50_000))
    store = Store(tmp_path / "lineage.duckdb", log)
    assert store.count() == 50_000
    assert store.rebuild(log) == 50_000
    assert 0 < log.most <= 20_000
    store.close()
    again = Store(tmp_path / "lineage.duckdb", log)
    assert not again.rebuilt
    again.close()


def test_facts_of_megabytes_do_not_fill_the_memory_that_the_store_has(tmp_path: Path) -> None:
    large = {"summary": "x" * 4_000_000}  # 70 twice are more than the memory that DuckDB is given
    records = [record | {"data": record["data"] | large} for record in many(70)]
    store = Store(tmp_path / "lineage.duckdb", records)
    assert store.count() == 70
    for record in [one | {"seq": one["seq"] + 70} for one in records]:
        store.add(record)
    assert store.count() == 140
    store.close()
