"""Opening and rebuilding: a store that was edited, damaged or cut holds the same again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from benchmarks.faults import store_damage
from benchmarks.faults.store_damage import dump
from lineage.errors import RefusedError, UnavailableError
from lineage.settings import Settings
from lineage.store.duckdb_store import Store
from tests.support.ledger_service import open_service
from tests.support.sample_facts import ManualClock
from tests.support.store_history import Record, Watched


def test_reopening_takes_only_what_is_new(tmp_path: Path, records: Sequence[Record]) -> None:
    path = tmp_path / "deep" / "lineage.duckdb"
    store = Store(path, records[:7])
    store.close()
    again = Store(path, records)
    assert not again.rebuilt
    assert again.count() == len(records)
    again.close()


@pytest.fixture(scope="module")
def _kept(
    tmp_path_factory: pytest.TempPathFactory, _history: tuple[list[Record], Path]
) -> tuple[Path, dict[str, list[Any]]]:
    path, (records, _) = tmp_path_factory.mktemp("kept") / "lineage.duckdb", _history
    store = Store(path, records[:9])
    store.close()
    store = Store(path, records[:20])
    for record in records[20:]:
        store.add(record)
    content = dump(store)
    store.close()
    return path, content


@pytest.fixture
def kept(tmp_path: Path, _kept: tuple[Path, dict[str, list[Any]]]) -> tuple[Path, dict[str, list[Any]]]:
    """A copy of a store on disk that grew in several steps, and what it holds."""
    path, content = _kept
    return shutil.copy(path, tmp_path / path.name), content


def same_again(path: Path, records: Sequence[Record], content: dict[str, list[Any]], *, rebuilt: bool | None) -> None:
    store = Store(path, records)
    assert rebuilt is None or store.rebuilt is rebuilt
    assert dump(store) == content
    store.close()
    after = Store(path, records)
    assert not after.rebuilt, "what was made anew is good"
    assert not path.with_name("lineage.duckdb.opening").exists()
    after.close()


def test_a_rebuilt_store_is_the_same(kept: tuple[Path, dict[str, list[Any]]], records: Sequence[Record]) -> None:
    path, content = kept
    same_again(path, records, content, rebuilt=False)
    path.unlink()
    same_again(path, records, content, rebuilt=False)
    store = Store(path, records[:11])
    assert store.rebuilt, "it held more than this log"
    assert store.rebuild(records) == len(records)
    assert dump(store) == content
    store.close()
    same_again(path, records, content, rebuilt=False)
    store = Store(":memory:", records[:2])
    assert store.rebuild(records) == len(records)
    assert dump(store) == content
    store.close()


EDITS = {
    "a value": "UPDATE records SET data = replace(data, 'approve', 'reject') WHERE kind = 'ReviewDecided'",
    "a decision": "UPDATE records SET decision = 'reject' WHERE decision = 'approve'",
    "a name": "UPDATE records SET actor = 'mallory' WHERE seq = 3",
    "a time": 'UPDATE records SET "at" = "at" + INTERVAL 1 MICROSECOND WHERE seq = 3',
    "nothing for something": "UPDATE records SET release = NULL WHERE seq = 4",
    "two values swapped": "UPDATE records SET prev = (SELECT r.prev FROM records r WHERE r.seq = 9 - records.seq) "
    "WHERE seq IN (4, 5)",
    "a hole": "DELETE FROM records WHERE seq = 3",
    "the end": "DELETE FROM records WHERE seq > 12",
    "a row twice": "INSERT INTO records SELECT * FROM records WHERE seq = 3",
    "one row for another": "UPDATE records SET seq = 1000 WHERE seq = 3",
    "no sums": "DELETE FROM fingerprints",
    "another sum": "UPDATE fingerprints SET total = total + 1",
    "a macro": "CREATE MACRO hash(x) AS 1",
    "a table": "CREATE TABLE more (a INTEGER)",
    "no table": "DROP TABLE fingerprints",
    "a view for a table": "DROP VIEW checks; CREATE TABLE checks (a INTEGER)",
    "an older form": "DROP TABLE records CASCADE; CREATE TABLE records (seq BIGINT, kind VARCHAR)",
}


@pytest.mark.parametrize("edit", list(EDITS))
def test_an_edit_of_the_file_changes_nothing(
    edit: str, kept: tuple[Path, dict[str, list[Any]]], records: Sequence[Record]
) -> None:
    path, content = kept
    with duckdb.connect(str(path)) as db:
        db.execute(EDITS[edit])
    same_again(path, records, content, rebuilt=True)
    assert path.with_name("lineage.duckdb.quarantine").exists()


def test_an_edited_view_is_made_anew(kept: tuple[Path, dict[str, list[Any]]], records: Sequence[Record]) -> None:
    path, content = kept
    with duckdb.connect(str(path)) as db:
        db.execute("CREATE OR REPLACE VIEW approvals AS SELECT 1 AS nothing")
    same_again(path, records, content, rebuilt=False)


@pytest.mark.parametrize("damage", ["garbage", "other history", "too many", "an opening that never ended"])
def test_a_store_that_does_not_match_is_put_aside_and_rebuilt(
    damage: str, kept: tuple[Path, dict[str, list[Any]]], records: Sequence[Record]
) -> None:
    path, content = kept
    if damage == "garbage":
        path.write_bytes(b"not a database" * 1_000)
    elif damage == "an opening that never ended":
        path.with_name("lineage.duckdb.opening").touch()
    else:
        others = [record | {"prev": "f" * 64} for record in records] if damage == "other history" else list(records)
        if damage == "too many":
            others.append(records[-1] | {"seq": len(records) + 1})
        path.unlink()
        Store(path, others).close()
    same_again(path, records, content, rebuilt=True)
    assert path.with_name("lineage.duckdb.quarantine").exists()


def test_no_flipped_bit_and_no_cut_changes_what_it_holds() -> None:
    told = list(store_damage.run(24, seed=11))  # `make bench BENCH=faults.store_damage` does it 2,000 times
    made_anew = int(told[0].split(" of which ")[1].split()[0])
    assert 12 <= made_anew < 24, "most damage is noticed, some is where nothing lies"
    assert told[1] == "stores that held something else than the log: 0 of 24"


def test_what_is_recorded_during_a_rebuild_is_in_it(tmp_path: Path, records: Sequence[Record]) -> None:
    path = tmp_path / "lineage.duckdb"
    store = Store(path, records[:10])
    here = list(records[:10])

    def record_more() -> None:
        for record in records[10:]:
            here.append(record)
            store.add(record)
        assert store.query("history", limit=1)[0]["seq"] == len(records), "the old one answers meanwhile"

    assert store.rebuild(Watched(here, record_more)) == len(records)
    whole = Store(":memory:", records)
    assert dump(store) == dump(whole)
    assert not path.with_name("lineage.duckdb.new").exists()
    store.close()
    whole.close()
    same = Store(path, records)
    assert not same.rebuilt
    same.close()


def test_one_rebuild_at_a_time(records: Sequence[Record]) -> None:
    store = Store(":memory:", records)

    def again() -> None:
        with pytest.raises(RefusedError) as caught:
            store.rebuild(records)
        assert caught.value.code == "under_way"

    assert store.rebuild(Watched(list(records), again)) == len(records)
    assert store.rebuild(records) == len(records), "afterwards it is possible again"
    store.close()


def test_a_rebuild_that_fails_leaves_the_store_as_it_was(tmp_path: Path, records: Sequence[Record]) -> None:
    store = Store(tmp_path / "lineage.duckdb", records)
    bad = [*records[:-1], records[-1] | {"at": "never"}]
    with pytest.raises(UnavailableError):
        store.rebuild(bad)
    assert store.count() == len(records)
    assert store.rebuild(records) == len(records)
    store.close()


def test_a_rebuild_mends_a_store_that_takes_nothing_more(tmp_path: Path, records: Sequence[Record]) -> None:
    path = tmp_path / "lineage.duckdb"
    store = Store(path, records[:5])
    store._db.close()
    store.add(records[5])
    with pytest.raises(UnavailableError) as caught:
        store.query("releases")
    assert "plimsoll audit rebuild" in caught.value.message
    assert store.rebuild(records) == len(records)
    assert store.query("releases")
    store.close()


# Over HTTP


def test_operators_and_auditors_may_have_it_rebuilt(settings: Settings, clock: ManualClock) -> None:
    with open_service(settings, clock) as service:
        service.writer.champion()
        before = dump(service.context.store._opened())
        for who in ("operator", "auditor"):
            answer = service.http.post("/v1/store/rebuild", headers=service.headers(who))
            assert answer.status_code == 200, answer.text
            assert answer.json()["records"] == len(service.context.ledger.records)
            assert answer.json()["seconds"] >= 0
        assert dump(service.context.store._opened()) == before
        service.writer.record("AlertRaised", summary="after it")
        assert service.get("query/alerts").json()["rows"][0]["summary"] == "after it"
        for who in ("scientist", "validator", "controller"):
            answer = service.http.post("/v1/store/rebuild", headers=service.headers(who))
            assert (answer.status_code, answer.json()["code"]) == (403, "role")
            refusal = service.get("query/refusals").json()["rows"][0]
            assert (refusal["actor"], refusal["attempted"]) == (who, "StoreRebuild platform")
        assert service.http.post("/v1/store/rebuild", headers=service.headers("client")).status_code == 403
        assert service.http.post("/v1/store/rebuild").status_code == 401
