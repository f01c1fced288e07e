"""The lineage store: a view of the log that can be lost, rebuilt and asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sample_facts import CONTROLLER, MODEL, OPERATOR, Teller

from lineage.errors import InvalidError, UnavailableError, UnknownError
from lineage.ledger import Ledger
from lineage.release import State
from lineage.store import QUERIES, Store, named_queries


@pytest.fixture
def records(ledger: Ledger) -> list[dict[str, Any]]:
    """Two models, champions, a rollback, and one of every fact about a model."""
    teller = Teller(ledger)
    teller.champion()
    second = teller.champion()
    teller.say("RollbackOrdered", second, OPERATOR, to=f"{MODEL}@1")
    Teller(ledger, "other").bring(State.REVIEW)
    for kind in ("DecisionsSealed", "DriftMeasured", "FairnessMeasured", "AlertRaised", "DatasetPinned"):
        teller.say(kind)
    return ledger.records


def answers(store: Store) -> dict[str, list[dict[str, Any]]]:
    return {name: store.query(name) for name in QUERIES}


def test_every_named_query_answers(records: list[dict[str, Any]]) -> None:
    store = Store(":memory:", records)
    for name, rows in answers(store).items():
        assert rows, name
        for row in rows:
            assert all(isinstance(key, str) for key in row)
        assert store.query(name, limit=1) == rows[:1]
        mine = store.query(name, model=MODEL)
        assert mine
        assert all(row.get("model", MODEL) == MODEL for row in mine)
        assert store.query(name, model="nobody") == []
    store.close()


def test_what_the_queries_say(records: list[dict[str, Any]]) -> None:
    store = Store(":memory:", records)
    first = store.query("lineage", release=f"{MODEL}@1")[0]
    assert (first["author"], first["approved_by"]) == ("scientist", "validator")
    assert first["promoted_at"].endswith("Z")
    assert {row["release"] for row in store.query("lead_times")} == {f"{MODEL}@1", f"{MODEL}@2"}
    assert store.query("checks", release=f"{MODEL}@1")[0]["findings"][0]["relation"] == ">=", "JSON comes as JSON"
    newest = [row["seq"] for row in store.query("rollouts")]
    assert newest == sorted(newest, reverse=True)
    store.close()


def test_records_arrive_before_the_next_answer(records: list[dict[str, Any]]) -> None:
    store = Store(":memory:", records[:5])
    for record in records[5:]:
        store.add(record)
    assert store.count() == len(records)
    whole = Store(":memory:", records)
    assert answers(store) == answers(whole)
    store.close()
    whole.close()


def test_reopening_takes_only_what_is_new(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    path = tmp_path / "deep" / "lineage.duckdb"
    store = Store(path, records[:7])
    store.close()
    again = Store(path, records)
    assert not again.rebuilt
    assert again.count() == len(records)
    again.close()


@pytest.mark.parametrize("damage", ["garbage", "other history", "too many", "a hole"])
def test_a_store_that_does_not_match_is_put_aside_and_rebuilt(
    damage: str, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    path = tmp_path / "lineage.duckdb"
    good = Store(":memory:", records)
    expected = answers(good)
    good.close()
    if damage == "garbage":
        path.write_bytes(b"not a database" * 1_000)
    else:
        others = [record | {"prev": "f" * 64} for record in records] if damage == "other history" else list(records)
        if damage == "too many":
            others.append(records[-1] | {"seq": len(records) + 1})
        store = Store(path, others)
        store.close()
        if damage == "a hole":
            with duckdb.connect(str(path)) as db:
                db.execute("DELETE FROM records WHERE seq = 3")
    store = Store(path, records)
    assert store.rebuilt
    assert answers(store) == expected
    assert path.with_name("lineage.duckdb.quarantine").exists()
    store.close()


def test_an_unknown_query_and_a_wrong_limit_are_named(records: list[dict[str, Any]]) -> None:
    store = Store(":memory:", records)
    with pytest.raises(UnknownError) as caught:
        store.query("drifts")
    assert caught.value.field == "name"
    assert "drift" in caught.value.message
    for limit in (0, -1, 10_001):
        with pytest.raises(InvalidError) as wrong:
            store.query("drift", limit=limit)
        assert wrong.value.field == "limit"
    store.close()


@pytest.mark.parametrize("text", ["a\0b", "'; DROP TABLE records; --", "\u202e", "x" * 4_000, "🚢"])
def test_whatever_people_write_is_kept(text: str, teller: Teller) -> None:
    teller.say("AlertRaised", None, CONTROLLER, text, summary=text)
    store = Store(":memory:", teller.ledger.records)
    assert store.query("alerts")[0]["summary"] == text
    assert store.query("alerts", model=text) == []
    store.close()


def test_one_odd_value_does_not_keep_the_others_from_being_read(teller: Teller) -> None:
    teller.say("DecisionsSealed", **{"from": "yesterday", "to": "", "rows": 2**63})
    teller.say("DecisionsSealed")
    store = Store(":memory:", teller.ledger.records)
    assert [row["first_at"] is None for row in store.query("segments")] == [False, True]
    store.close()


def test_after_a_failed_batch_the_store_catches_up(records: list[dict[str, Any]]) -> None:
    store = Store(":memory:", records[:3])
    store.add(records[3] | {"at": "not a time"})
    with pytest.raises(UnavailableError):
        store.query("checks")
    store._waiting[:] = [records[3]]
    assert store.count() == 4, "the failed transaction was given up"
    store.close()


def test_a_query_can_reach_no_file(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    store = Store(tmp_path / "lineage.duckdb", records)
    for statement in (
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY records TO '/tmp/x'",
        "SET enable_external_access=true",
    ):
        with pytest.raises(duckdb.Error):
            store._db.execute(statement)
    store.close()


def test_each_query_is_described_and_bounded() -> None:
    text = (Path(__file__).parents[2] / "lineage" / "queries.sql").read_text()
    assert len(re.findall(r"^-- name: \w+\n-- .+\.$", text, flags=re.M)) == len(QUERIES)
    for statement in QUERIES.values():
        assert "LIMIT $limit" in statement
    assert named_queries("-- name: a\nSELECT 1\n\n-- name: b\nSELECT 2\n") == {"a": "SELECT 1", "b": "SELECT 2"}
