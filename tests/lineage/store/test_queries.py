"""What the named queries answer, by release, time, page and filter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lineage.errors import InvalidError, UnknownError
from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.store.duckdb_store import Store
from lineage.store.rows import QUERIES, named_queries
from tests.support.sample_facts import CONTROLLER, MODEL, FactWriter, ManualClock
from tests.support.store_history import FIRST, SECOND, Record, answers


def test_every_named_query_answers(store: Store) -> None:
    for name, found in answers(store).items():
        assert found, name
        assert store.query(name, limit=1) == found[:1]
        mine = store.query(name, model=MODEL)
        assert mine
        of_all = [None] if name == "kills" else []  # the switch of all models stops each of them
        assert all(row.get("model", MODEL) in [MODEL, *of_all] for row in mine)
        assert all(row["model"] in of_all for row in store.query(name, model="unknown"))


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
