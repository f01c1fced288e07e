"""Decisions are read from their segments; a query reaches these and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from benchmarks.faults.store_damage import dump
from lineage.digest import digest_bytes
from lineage.errors import InvalidError, RefusedError, UnavailableError
from lineage.ledger import Ledger
from lineage.privacy.decisions import PERSONAL_FIELDS
from lineage.store import rows
from lineage.store.duckdb_store import Store
from tests.support.sample_facts import MODEL
from tests.support.store_history import FIRST, SECOND, Record, Segments


def test_segments_of_every_generation_are_read_and_lead_to_no_person(store: Store) -> None:
    found = store.query("decisions")
    assert [row["decision_id"] for row in found] == ["two-1", "two-0", "one-1", "one-0"]
    assert [row["segment"] for row in found] == ["two", "two", "one", "one"]
    assert {row["route_version"] for row in found} == {7, None}
    assert found[-1]["error"] == "ValueError", "what was sent is not repeated"
    for row in found:
        assert not row.keys() & ({*PERSONAL_FIELDS, "subject", "sealed"} - {"error"})
    assert store.query("decisions", decision_id="one-1")[0]["score"] == 0.1
    assert [row["outcome"] for row in store.query("outcomes", decision_id="two-0")] == [1]
    assert store.query("outcomes", release=FIRST) == []


def test_only_what_is_on_record_is_shown(segments: Segments, ledger: Ledger) -> None:
    path = segments.put("unknown", recorded=False)
    stray = segments.put("stray")
    elsewhere = segments.folder / "other" / "stray.parquet"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(path.read_bytes())
    store = Store(":memory:", ledger.records, decisions=segments.folder)
    assert {row["segment"] for row in store.query("decisions")} == {stray.stem}
    assert len(store.query("decisions")) == 2, "a file of another model by the same name is not read"
    store.close()


def test_segments_are_found_once_they_are_sealed(segments: Segments, ledger: Ledger) -> None:
    segments.writer.record("AlertRaised")
    store = Store(":memory:", ledger.records, decisions=segments.folder)
    ledger.follow(store.add)
    assert store.query("decisions") == []
    segments.put("one")
    assert len(store.query("decisions")) == 2
    store.close()


def test_without_a_folder_there_are_no_decisions(records: Sequence[Record]) -> None:
    store = Store(":memory:", records)
    assert store.query("decisions") == []
    store.close()


def test_only_segments_that_can_hold_the_answer_are_opened(own_store: Store, segments: Segments) -> None:
    (segments.folder / MODEL / "two.parquet").write_bytes(b"no Parquet")
    eleven = datetime(2026, 11, 23, 11, 0, tzinfo=UTC)
    assert len(own_store.query("decisions", until=eleven)) == 2
    assert len(own_store.query("decisions", release=FIRST)) == 2
    rows, missing = own_store.answer("decisions", since=eleven)
    assert (rows, [one.segment for one in missing]) == ([], ["two"])
    assert own_store.query("segments"), "the store itself answers on"


def _other_columns(path: Path) -> bytes:
    pl.DataFrame({"x": [1]}).write_parquet(path)
    return path.read_bytes()


def _other_types(path: Path) -> bytes:
    pl.read_parquet(path).with_columns(score=pl.lit("high")).write_parquet(path)
    return path.read_bytes()


def _broken_pages(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    return bytes(data)


_DAMAGE: dict[str, Callable[[Path], bytes | None]] = {
    "missing": lambda path: None,
    "truncated": lambda path: path.read_bytes()[:-9],
    "empty": lambda path: b"",
    "changed": lambda path: path.read_bytes()[:-1] + b"?",
    "no Parquet": lambda path: b"PAR1 rows PAR1",
    "other columns": _other_columns,
    "other types": _other_types,
    "broken pages": _broken_pages,
}


@pytest.mark.parametrize("stated", ["digest of before", "digest of the damaged bytes"])
@pytest.mark.parametrize("damage", sorted(_DAMAGE))
def test_a_segment_that_cannot_be_used_is_named_and_all_others_are_read(
    damage: str, stated: str, segments: Segments, ledger: Ledger
) -> None:
    segments.writer.record("AlertRaised")
    path = segments.put("one", recorded=stated == "digest of before")
    content = _DAMAGE[damage](path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    if stated != "digest of before":
        digest = digest_bytes(content) if content is not None else "sha256:" + "0" * 64
        segments.writer.record("DecisionsSealed", segment="one", digest=digest, releases={FIRST: 2})
    sealed = ledger.records[-1]["seq"]
    segments.put("two", release=SECOND)
    store = Store(":memory:", ledger.records, decisions=segments.folder)
    for _ in range(2):  # what was found out is kept
        rows, missing = store.answer("decisions")
        assert [row["segment"] for row in rows] == ["two", "two"]
        assert [(one.record, one.model, one.segment) for one in missing] == [(sealed, MODEL, "one")]
    assert len(store.answer("outcomes")[1]) == 1
    assert store.answer("decisions", release=SECOND)[1] == [], "it cannot hold any of these"
    store.close()


def test_a_segment_that_was_put_back_is_read_again(own_store: Store, segments: Segments) -> None:
    path = segments.folder / MODEL / "one.parquet"
    sound = path.read_bytes()
    path.unlink()
    assert len(own_store.query("decisions")) == 2
    path.write_bytes(sound)
    rows, missing = own_store.answer("decisions")
    assert (len(rows), missing) == (4, [])


@pytest.mark.parametrize(
    "uri", ["{folder}/../{model}/one.parquet", "/etc/passwd", "https://127.0.0.1/one.parquet", "decisions/../x.parquet"]
)
def test_a_segment_named_elsewhere_is_not_looked_for(uri: str, segments: Segments, ledger: Ledger) -> None:
    segments.writer.record("AlertRaised")
    segments.put("one")
    named = uri.format(folder=segments.folder, model=MODEL)
    segments.writer.record("DecisionsSealed", segment="../x", uri=named, releases={FIRST: 2})
    store = Store(":memory:", ledger.records, decisions=segments.folder)
    rows, missing = store.answer("decisions")
    assert (len(rows), [one.segment for one in missing]) == (2, ["../x"])
    store.close()


def test_a_second_record_of_one_file_adds_no_rows(segments: Segments, ledger: Ledger) -> None:
    segments.writer.record("AlertRaised")
    path = segments.put("one")
    again = {"segment": "one", "digest": digest_bytes(path.read_bytes()), "releases": {FIRST: 2}}
    segments.writer.record("DecisionsSealed", **again)
    segments.writer.record("DecisionsSealed", **(again | {"digest": "sha256:" + "0" * 64}))
    store = Store(":memory:", ledger.records, decisions=segments.folder)
    rows, missing = store.answer("decisions")
    assert {row["seq"] for row in rows} == {2}
    assert (len(rows), [one.record for one in missing]) == (2, [3, 4])
    store.close()


def test_too_many_segments_are_refused_and_not_cut_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lineage.store.duckdb_store._MOST_SEGMENTS", 1)
    with pytest.raises(InvalidError) as caught:
        store.query("decisions")
    assert "1 segments" in caught.value.message
    assert len(store.query("decisions", release=SECOND)) == 2


def test_a_query_reaches_the_segments_and_nothing_else(
    tmp_path: Path, records: Sequence[Record], segments: Segments
) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    beside = segments.folder.with_name("decisions-too") / "x.csv"
    beside.parent.mkdir()
    beside.write_text("a\n1\n")
    (segments.folder / "link.csv").symlink_to(outside)
    store = Store(tmp_path / "lineage.duckdb", records, decisions=segments.folder)
    inside = segments.folder / MODEL / "one.parquet"
    assert store._db.read_parquet(str(inside)).fetchall()
    for statement in (
        "FROM read_csv('/etc/passwd')",
        "FROM read_text('/etc/passwd')",
        "FROM read_blob('/proc/self/environ')",
        "FROM glob('/etc/*')",
        f"FROM '{outside}'",
        f"FROM '{beside}'",
        f"FROM '{segments.folder}/../outside.csv'",
        f"FROM '{segments.folder}/{MODEL}/../../outside.csv'",
        f"FROM '{segments.folder}/link.csv'",
        f"FROM read_text('{tmp_path}/lineage.duckdb')",
        f"ATTACH '{tmp_path}/other.duckdb'",
        f"COPY records TO '{tmp_path}/x.csv'",
        f"EXPORT DATABASE '{tmp_path}/x'",
        "INSTALL httpfs",
        "LOAD httpfs",
        f"LOAD '{tmp_path}/x.duckdb_extension'",
        "FROM 'https://127.0.0.1/x.csv'",
        "CREATE SECRET s (TYPE s3)",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "RESET allowed_directories",
        "SET lock_configuration = false",
    ):
        with pytest.raises(duckdb.Error):
            store._db.execute(statement).fetchall()
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "COPY records TO '{folder}/copy.csv'",
        "ATTACH '{folder}/other.duckdb'",
        "DELETE FROM records",
        "DROP TABLE records",
        "SELECT 1; DELETE FROM records",
        "CREATE MACRO hash(x) AS 1",
        "PRAGMA database_list",
        "SET threads = 2",
    ],
)
def test_a_query_that_is_no_question_is_not_run(
    statement: str, own_store: Store, segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, files = dump(own_store), sorted(segments.folder.rglob("*"))
    monkeypatch.setitem(rows.QUERIES, "bad", f"{statement.format(folder=segments.folder)} -- $limit $offset")
    with pytest.raises(RefusedError) as caught:
        own_store.query("bad")
    assert caught.value.code == "not_a_query"
    assert dump(own_store) == before
    assert sorted(segments.folder.rglob("*")) == files


def test_a_query_that_takes_too_long_is_stopped(records: Sequence[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(":memory:", records, seconds=0.05)
    endless = "SELECT count(*) FROM range(1000000000000) WHERE $limit > 0 AND $offset >= 0"
    monkeypatch.setitem(rows.QUERIES, "endless", endless)
    with pytest.raises(UnavailableError) as caught:
        store.query("endless")
    assert "stopped after 0.05 s" in caught.value.message
    monkeypatch.setattr(store, "_seconds", 10.0)
    assert store.query("releases"), "the next one is answered"
    store.close()
