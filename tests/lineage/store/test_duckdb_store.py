"""The lineage store: a view of the log that can be lost, rebuilt and asked."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from benchmarks.faults import store_damage
from benchmarks.faults.store_damage import dump
from lineage.errors import InvalidError, RefusedError, UnavailableError, UnknownError
from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.privacy.decisions import PERSONAL_FIELDS
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.settings import Settings
from lineage.store import rows
from lineage.store.duckdb_store import Store
from lineage.store.rows import QUERIES, named_queries
from tests.support.ledger_service import open_service
from tests.support.sample_facts import AUTHOR, CONTROLLER, MODEL, OPERATOR, VALIDATOR, FactWriter, ManualClock, sample

Record = dict[str, Any]
FIRST, SECOND = f"{MODEL}@1", f"{MODEL}@2"
#: How segments were written before there were keys of persons, and since.
OLD = {"key": "4711", "key_hash_share": 0.5, "features": [1.0, 2.0], "reasons": ["R1"], "error": "ValueError: 4711"}
NEW = {"subject": "f00d", "sealed": b"\x00\x01", "route_version": 7}


class Segments:
    """Segment files of a ledger, on record or not."""

    def __init__(self, folder: Path, writer: FactWriter) -> None:
        self.folder, self.writer = folder, writer

    def put(
        self, name: str, *, count: int = 2, recorded: bool = True, release: str = FIRST, hour: int = 10, **more: Any
    ) -> Path:
        """A segment of `count` decisions and one outcome."""
        decisions = [
            {"type": "decision", "decision_id": f"{name}-{number}", "at": f"2026-11-23T{hour}:00:0{number}.5+00:00"}
            | {"model": MODEL, "release": release, "score": number / 10, **more}
            for number in range(count)
        ]
        outcome = {
            "type": "outcome",
            "decision_id": f"{name}-0",
            "at": f"2026-11-23T{hour}:30:00.5+00:00",
            "model": MODEL,
        }
        path = self.folder / MODEL / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame([*decisions, outcome | {"outcome": 1}], infer_schema_length=None).write_parquet(path)
        if recorded:
            times = {"from": f"2026-11-23T{hour}:00:00.5+00:00", "to": f"2026-11-23T{hour}:30:00.5+00:00"}
            self.writer.record(
                "DecisionsSealed", segment=name, rows=count, outcomes=1, releases={release: count}, **times
            )
        return path


@pytest.fixture
def segments(tmp_path: Path, writer: FactWriter) -> Segments:
    return Segments(tmp_path / "decisions", writer)


@pytest.fixture(scope="module")
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


def stopped_and_let_go(ledger: Ledger, model: str | None) -> None:
    """The baseline, then nothing; let go by two people; stopped again."""

    def say(kind: str, actor: Actor, **data: Any) -> int:
        return int(ledger.append(Draft(kind, actor, data, model, None, "because"))["seq"])

    say("KillSwitchPulled", VALIDATOR, answer="baseline")
    pulled = say("KillSwitchPulled", OPERATOR, answer="nothing")
    asked = say("KillReleaseRequested", OPERATOR, pulled=pulled)
    say("KillSwitchReleased", VALIDATOR, pulled=pulled, requested=asked)
    say("KillSwitchPulled", OPERATOR, answer="baseline")


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


def answers(store: Store) -> dict[str, list[Record]]:
    return {name: store.query(name) for name in QUERIES}


# What the queries say


def test_every_named_query_answers(store: Store) -> None:
    for name, found in answers(store).items():
        assert found, name
        assert store.query(name, limit=1) == found[:1]
        mine = store.query(name, model=MODEL)
        assert mine
        everybody = [None] if name == "kills" else []  # whoever stops all models stops each
        assert all(row.get("model", MODEL) in [MODEL, *everybody] for row in mine)
        assert all(row["model"] in everybody for row in store.query(name, model="nobody"))


def test_what_the_queries_say(store: Store) -> None:
    first = store.query("lineage", release=FIRST)[0]
    assert (first["author"], first["approved_by"]) == ("scientist", "validator")
    assert first["promoted_at"].endswith("Z")
    assert {row["release"] for row in store.query("lead_times")} == {FIRST, SECOND}
    assert store.query("checks", release=FIRST)[0]["findings"][0]["relation"] == ">=", "JSON comes as JSON"
    newest = [row["seq"] for row in store.query("rollouts")]
    assert newest == sorted(newest, reverse=True)
    refusal = store.query("refusals", release=FIRST)[0]
    assert (refusal["actor"], refusal["code"]) == ("scientist", "four_eyes")


def test_what_they_say_about_who_was_stopped_and_by_whom(store: Store) -> None:
    whose = ("model", "answer", "actor", "asked_by", "released_by")
    told = [tuple(row[name] for name in whose) for row in store.query("kills", model=MODEL)]
    each = [("baseline", "operator", None, None), ("nothing", "operator", "operator", "validator")]
    each.append(("baseline", "validator", None, None))
    assert told == [(model, *one) for model in (None, MODEL) for one in each]
    assert [row["ended_at"] is None for row in store.query("kills")] == [True, False, False] * 2


def test_what_they_say_about_breakers_and_the_shadow(store: Store) -> None:
    found = store.query("breakers", release=FIRST)
    assert [(row["replica"], row["ended_by"]) for row in found][1:] == [("a1b2c3", None), ("a1b2c3", "trial passed")]
    assert (found[-1]["cause"], found[-1]["answers"], found[-1]["evidence"]["rows"]) == ("constant_scores", 340, 50)
    shadow = store.query("shadows", release=FIRST)[0]
    assert (shadow["actor"], shadow["ended_kind"], shadow["ended_by"]) == ("operator", "CanaryStarted", "operator")


# An outcome names its decision only, and a kill switch stops a model whatever its releases are.
@pytest.mark.parametrize("name", sorted(QUERIES.keys() - {"outcomes", "kills"}))
def test_of_a_release_each_query_tells_what_is_about_it_and_nothing_else(name: str, store: Store) -> None:
    first, second = (store.query(name, release=release) for release in (FIRST, SECOND))
    assert first
    assert store.query(name, release=f"{MODEL}@99") == []
    one_each = {"approvals": 1, "checks": 2, "decisions": 2, "lead_times": 1, "lineage": 1, "releases": 1, "runs": 1}
    if name in one_each:
        assert len(first) == len(second) == one_each[name]
        assert not [row for row in first if row in second]


def test_the_history_of_a_release_is_every_record_about_it(store: Store, records: Sequence[Record]) -> None:
    measured = ("DriftMeasured", "FairnessMeasured", "AlertRaised", "BreakerOpened", "BreakerClosed")
    mine = [r for r in records if r["kind"] in measured and r["model"] == MODEL]
    mine = [r for r in mine if r["data"].get("release", FIRST) == FIRST]
    expected = [r for r in records if r["release"] == FIRST or r in mine]
    told = store.query("history", release=FIRST)
    assert [row["seq"] for row in told] == [record["seq"] for record in reversed(expected)]
    assert told[0]["data"] == expected[-1]["data"]
    assert told[0]["at"] == expected[-1]["at"].replace(".000000", "")


@pytest.mark.parametrize("state", list(State))
def test_the_state_of_a_release_is_that_of_the_fold(state: State, writer: FactWriter, ledger: Ledger) -> None:
    release = writer.bring(state)
    if state in (State.CANARY, State.REVIEW, State.APPROVED, State.ROLLOUT):
        writer.record("CanaryHeld", release)  # moves nothing
    store = Store(":memory:", ledger.records)
    told = {row["release"]: row["state"] for row in store.query("releases")}
    assert told == {name: str(view.state) for name, view in ledger.state.releases.items()}
    assert told[release] == state
    store.close()


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_pages_hold_each_row_once(name: str, store: Store) -> None:
    whole = store.query(name, limit=10_000)
    paged = [store.query(name, limit=1, offset=offset)[0] for offset in range(len(whole))]
    assert paged == whole
    assert store.query(name, offset=len(whole)) == []
    seqs = sorted({row["seq"] for row in whole}, reverse=True)
    for seq in seqs:
        assert [row for row in whole if row["seq"] < seq] == store.query(name, before_seq=seq, limit=10_000)


def test_both_ends_of_a_time_belong_to_it(writer: FactWriter, clock: ManualClock) -> None:
    moments = []
    for _ in range(3):
        moments.append(clock())
        writer.record("AlertRaised")
        clock.later(seconds=1)
    store = Store(":memory:", writer.ledger.records)
    assert len(store.query("alerts", since=moments[1])) == 2
    assert len(store.query("alerts", until=moments[1])) == 2
    assert len(store.query("alerts", since=moments[1], until=moments[1])) == 1
    assert store.query("alerts", since=moments[2] + timedelta(microseconds=1)) == []
    store.close()


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"offset": -1}, "offset"),
        ({"before_seq": 0}, "before_seq"),
        ({"since": datetime(2026, 1, 1)}, "since"),
        ({"until": datetime(2026, 1, 1)}, "until"),
        ({"decision_id": "x"}, "decision_id"),
    ],
)
def test_a_wrong_filter_is_named(filters: Any, field: str, store: Store) -> None:
    with pytest.raises(InvalidError) as caught:
        store.query("drift", **filters)
    assert caught.value.field == field


def test_an_unknown_query_is_named(store: Store) -> None:
    with pytest.raises(UnknownError) as caught:
        store.query("drifts")
    assert caught.value.field == "name"
    assert "drift" in caught.value.message


def test_each_query_is_described_and_takes_every_filter() -> None:
    text = (Path(__file__).parents[3] / "lineage" / "store" / "queries.sql").read_text()
    assert len(re.findall(r"^-- name: \w+\n-- .+\.$", text, flags=re.M)) == len(QUERIES)
    for statement in QUERIES.values():
        for name in ("model", "release", "since", "until", "before_seq", "limit", "offset"):
            assert f"${name}" in statement
    assert named_queries("-- name: a\nSELECT 1\n\n-- name: b\nSELECT 2\n") == {"a": "SELECT 1", "b": "SELECT 2"}


@pytest.mark.parametrize("text", ["a\0b", "'; DROP TABLE records; --", "\u202e", "x" * 4_000, "🚢"])
def test_whatever_people_write_is_kept(text: str, writer: FactWriter) -> None:
    writer.record("AlertRaised", None, CONTROLLER, text, summary=text)
    store = Store(":memory:", writer.ledger.records)
    assert store.query("alerts")[0]["summary"] == text
    assert store.query("history")[0]["reason"] == text
    assert store.query("alerts", model=text, release=text) == []
    store.close()


def test_one_odd_value_does_not_keep_the_others_from_being_read(writer: FactWriter) -> None:
    writer.record("DecisionsSealed", **{"from": "yesterday", "to": "", "rows": 2**63})
    writer.record("DecisionsSealed")
    store = Store(":memory:", writer.ledger.records)
    assert [row["first_at"] is None for row in store.query("segments")] == [False, True]
    store.close()


# Decisions, read where they lie


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
    with pytest.raises(UnavailableError) as caught:
        own_store.query("decisions", since=eleven)
    assert "two.parquet" in caught.value.message
    assert own_store.query("segments"), "the store itself answers on"


def test_a_segment_on_record_that_is_gone_is_told(own_store: Store, segments: Segments) -> None:
    (segments.folder / MODEL / "one.parquet").unlink()
    with pytest.raises(UnavailableError) as caught:
        own_store.query("decisions")
    assert (caught.value.field, "one" in caught.value.message) == ("segment", True)
    assert len(own_store.query("decisions", release=SECOND)) == 2


def test_too_many_segments_are_refused_and_not_cut_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lineage.store.duckdb_store._MOST_SEGMENTS", 1)
    with pytest.raises(InvalidError) as caught:
        store.query("decisions")
    assert "1 segments" in caught.value.message
    assert len(store.query("decisions", release=SECOND)) == 2


# What a query cannot do


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


# Feeding it


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


class Watched(Sequence[Record]):
    """A log that is read from disk: nobody may take much of it at a time, and `meanwhile` happens once on the way."""

    def __init__(self, records: list[Record], meanwhile: Any = None) -> None:
        self.records, self.meanwhile, self.most = records, meanwhile, 0

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            self.most = max(self.most, len(range(*index.indices(len(self)))))
            then, self.meanwhile = self.meanwhile, None
            if then is not None:
                then()
        return self.records[index]


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


# Opening and rebuilding


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
    "a name": "UPDATE records SET actor = 'somebody' WHERE seq = 3",
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
def test_whoever_edits_the_file_changes_nothing(
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
        before = dump(service.context.store)
        for who in ("operator", "auditor"):
            answer = service.http.post("/v1/store/rebuild", headers=service.headers(who))
            assert answer.status_code == 200, answer.text
            assert answer.json()["records"] == len(service.context.ledger.records)
            assert answer.json()["seconds"] >= 0
        assert dump(service.context.store) == before
        service.writer.record("AlertRaised", summary="after it")
        assert service.get("query/alerts").json()["rows"][0]["summary"] == "after it"
        for who in ("scientist", "validator", "controller"):
            answer = service.http.post("/v1/store/rebuild", headers=service.headers(who))
            assert (answer.status_code, answer.json()["code"]) == (403, "role")
            refusal = service.get("query/refusals").json()["rows"][0]
            assert (refusal["actor"], refusal["attempted"]) == (who, "StoreRebuild platform")
        assert service.http.post("/v1/store/rebuild", headers=service.headers("client")).status_code == 403
        assert service.http.post("/v1/store/rebuild").status_code == 401


def test_facts_of_megabytes_do_not_fill_the_memory_that_the_store_has(tmp_path: Path) -> None:
    large = {"summary": "x" * 4_000_000}  # 70 twice are more than the memory that DuckDB is given
    records = [record | {"data": record["data"] | large} for record in many(70)]
    store = Store(tmp_path / "lineage.duckdb", records)
    assert store.count() == 70
    for record in [one | {"seq": one["seq"] + 70} for one in records]:
        store.add(record)
    assert store.count() == 140
    store.close()
