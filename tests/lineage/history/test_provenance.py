"""Provenance of releases and data sets, from a ledger with several releases."""

from __future__ import annotations

from typing import Any

import pytest

from lineage.errors import InvalidError, UnknownError
from lineage.history.provenance import GRAPH_KINDS, graph
from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.settings import Settings
from tests.support.ledger_service import open_service
from tests.support.sample_facts import MODEL, OPERATOR, FactWriter, ManualClock, digest

Json = dict[str, Any]
FIRST, SECOND = f"{MODEL}@1", f"{MODEL}@2"
SHARED, LATER = digest("data"), digest("later data")


@pytest.fixture
def told(writer: FactWriter) -> FactWriter:
    """Two champions of a model, each on its own data set, a rollback, four segments; a candidate of another model."""
    writer.record("DatasetPinned", digest=SHARED, version=3)
    writer.champion()
    seal(writer, "one", {FIRST: 60})
    request = writer.record("RetrainRequested", None, OPERATOR, why="drift")["seq"]
    pinned = writer.record("DatasetPinned", digest=LATER, version=4)["data"]
    dataset = {name: pinned[name] for name in ("uri", "version", "digest")}
    second = writer.train(dataset=dataset, request=request, author="scientist")
    writer.check(second)
    writer.record("CandidateValidated", second, report_digest=digest("second report"))
    writer.record("ReleaseRegistered", second, digest=writer.digest(second))
    writer.canary(second)
    seal(writer, "two", {FIRST: 50, second: 10})
    writer.promote(writer.rollout(writer.approve(writer.to_review(second))))
    seal(writer, "three", {second: 70})
    writer.record("RollbackOrdered", second, OPERATOR, to=FIRST)
    seal(writer, "four", {FIRST: 5})
    FactWriter(writer.ledger, "other").bring(State.VALIDATED)
    return writer


def seal(writer: FactWriter, name: str, releases: dict[str, int]) -> None:
    uri = f"decisions/{writer.model}/{name}.parquet"
    writer.record(
        "DecisionsSealed", segment=name, uri=uri, digest=digest(name), rows=sum(releases.values()), releases=releases
    )


def of_kind(found: Json, kind: str) -> list[Json]:
    return [node for node in found["nodes"] if node["kind"] == kind]


def steps(found: Json) -> set[tuple[str, str, str]]:
    """Edges between kinds of nodes."""
    kinds = {node["id"]: node["kind"] for node in found["nodes"]}
    return {(kinds[edge["from"]], edge["kind"], kinds[edge["to"]]) for edge in found["edges"]}


def segments(found: Json) -> set[str]:
    return {node["id"].rpartition("/")[2] for node in of_kind(found, "segment")}


def test_a_release_leads_back_to_its_data_and_on_to_its_decisions(told: FactWriter) -> None:
    found = graph(told.ledger.records, release=SECOND)
    assert [node["id"] for node in of_kind(found, "release")] == [f"release:{SECOND}"]
    assert [node["digest"] for node in of_kind(found, "dataset")] == [LATER]
    assert [node["digest"] for node in of_kind(found, "artefact")] == [digest(MODEL, 2)]
    assert segments(found) == {"two", "three"}
    assert steps(found) == {
        ("request", "asked_for", "run"),
        ("dataset", "trained", "run"),
        ("run", "made", "artefact"),
        ("artefact", "is", "release"),
        ("check", "checked", "release"),
        ("report", "reports_on", "release"),
        ("approval", "decided_on", "release"),
        ("release", "carried_by", "rollout"),
        ("rollout", "answered_in", "segment"),
        ("rollout", "ended_by", "rollback"),
    }


def test_what_came_of_a_data_set(told: FactWriter) -> None:
    found = graph(told.ledger.records, dataset_digest=SHARED)
    assert {node["id"] for node in of_kind(found, "release")} == {f"release:{FIRST}", "release:other@1"}
    assert segments(found) == {"one", "two", "four"}
    assert of_kind(found, "dataset")[0]["version"] == 3
    assert len(of_kind(found, "check")) == 4, "what spoke for its releases stands beside them"
    later = graph(told.ledger.records, dataset_digest=LATER)
    assert {node["id"] for node in of_kind(later, "release")} == {f"release:{SECOND}"}
    assert len(of_kind(later, "request")) == 1


def test_all_of_a_model(told: FactWriter) -> None:
    found = graph(told.ledger.records, model=MODEL)
    assert {node["model"] for node in found["nodes"]} == {MODEL}
    assert len(of_kind(found, "release")) == 2
    assert segments(found) == {"one", "two", "three", "four"}
    both = {edge["from"] for edge in found["edges"] if edge["to"].endswith("/two")}
    assert len(both) == 2, "two releases answered in it"


def test_nodes_say_where_they_stand_on_record(told: FactWriter) -> None:
    records = told.ledger.records
    kinds = {
        "dataset": "DatasetPinned",
        "request": "RetrainRequested",
        "run": "ModelTrained",
        "artefact": "ModelTrained",
        "release": "ModelTrained",
        "check": "CheckCompleted",
        "report": "CandidateValidated",
        "approval": "ReviewDecided",
        "rollout": "CanaryStarted",
        "rollback": "RollbackOrdered",
        "segment": "DecisionsSealed",
    }
    found = graph(records, model=MODEL)
    assert {node["kind"] for node in found["nodes"]} == kinds.keys()
    for node in found["nodes"]:
        record = records[node["seq"] - 1]
        assert (record["kind"], record["at"]) == (kinds[node["kind"]], node["at"])
        assert node["label"]
    assert [node["seq"] for node in found["nodes"]] == sorted(node["seq"] for node in found["nodes"])
    names = {node["id"] for node in found["nodes"]}
    assert len(names) == len(found["nodes"])
    assert {edge[end] for edge in found["edges"] for end in ("from", "to")} <= names


@pytest.mark.parametrize("state", list(State))
def test_a_release_says_its_state(state: State, writer: FactWriter, ledger: Ledger) -> None:
    release = writer.bring(state)
    found = graph(ledger.records, model=MODEL)
    states = {node["label"]: node["state"] for node in of_kind(found, "release")}
    assert states == {name: str(view.state) for name, view in ledger.state.releases.items()}
    assert graph(ledger.records, release=release)["edges"]


def test_how_a_rollout_ended_is_told(told: FactWriter) -> None:
    labels = {node["id"]: node["label"] for node in graph(told.ledger.records, model=MODEL)["nodes"]}
    ends = [label for name, label in labels.items() if name.startswith(("rollout", "rollback"))]
    assert ends == ["promoted, all traffic", "promoted, all traffic", f"rolled back to {FIRST} by operator"]
    told.record("CanaryAborted", told.canary(told.register()), why="harm was seen")
    assert "aborted: harm was seen" in [n["label"] for n in graph(told.ledger.records, model=MODEL)["nodes"]]


def test_many_segments_are_counted_and_none_is_left_out(told: FactWriter) -> None:
    for number in range(5):
        seal(told, f"more-{number}", {FIRST: 10})
    found = graph(told.ledger.records, release=FIRST, most_segments=2)
    assert segments(found) == {"more-3", "more-4"}
    rest = of_kind(found, "segments")[0]
    assert (rest["count"], rest["rows"]) == (6, 60 + 60 + 5 + 30)
    assert rest["label"] == "6 earlier segments, 155 decisions"
    assert of_kind(graph(told.ledger.records, release=FIRST, most_segments=0), "segments")[0]["count"] == 8


def test_a_baseline_that_answered_without_a_rollout_is_shown_too(writer: FactWriter) -> None:
    release = writer.register()
    seal(writer, "early", {release: 3})
    found = graph(writer.ledger.records, release=release)
    assert ("release", "answered_in", "segment") in steps(found)


def test_bytes_that_two_runs_made_lead_back_to_both(writer: FactWriter) -> None:
    writer.train(digest=digest("same"))
    writer.train(digest=digest("same"))
    found = graph(writer.ledger.records, release=FIRST)
    assert len(of_kind(found, "run")) == 2
    assert [node["id"] for node in of_kind(found, "release")] == [f"release:{FIRST}"]


def test_some_records_are_enough(told: FactWriter) -> None:
    records = told.ledger.records
    few = records.find(kinds=GRAPH_KINDS, model=MODEL).records
    assert graph(few, release=SECOND) == graph(records, release=SECOND)
    assert len(few) < len(records)


def test_what_is_not_on_record_is_named(told: FactWriter) -> None:
    for asked, field in (
        ({"release": f"{MODEL}@9"}, "release"),
        ({"dataset_digest": digest("no data")}, "dataset"),
        ({"model": "nobody"}, "model"),
    ):
        with pytest.raises(UnknownError) as caught:
            graph(told.ledger.records, **asked)
        assert caught.value.field == field
    for several in ({}, {"release": FIRST, "model": MODEL}):
        with pytest.raises(InvalidError):
            graph(told.ledger.records, **several)


def test_what_takes_too_long_to_read_is_refused(
    settings: Settings, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineage.service.history._MOST_RECORDS", 12)
    with open_service(settings, clock) as service:
        service.writer.champion()
        FactWriter(service.context.ledger, "other").train()
        assert service.get(f"provenance?release={FIRST}").status_code == 200
        answer = service.get(f"provenance?dataset={SHARED}")
        assert (answer.status_code, answer.json()["field"]) == (422, "dataset")


def test_the_service_tells_it(settings: Settings, clock: ManualClock) -> None:
    with open_service(settings, clock) as service:
        service.writer.champion()
        FactWriter(service.context.ledger, "other").bring(State.VALIDATED)
        records = service.context.ledger.records
        for query, asked in (
            (f"release={FIRST}", {"release": FIRST}),
            (f"dataset={SHARED}", {"dataset_digest": SHARED}),
            ("model=other", {"model": "other"}),
        ):
            answer = service.get(f"provenance?{query}")
            assert answer.status_code == 200, answer.text
            assert answer.json() == graph(records, **asked)
        for query, status in (("model=nobody", 404), ("dataset=x", 404), ("release=x@1", 404), ("", 422)):
            answer = service.get(f"provenance?{query}")
            assert (answer.status_code, bool(answer.json()["error"])) == (status, True)
        assert service.get(f"provenance?release={FIRST}&model={MODEL}").status_code == 422
        assert service.get("provenance?model=other", who="client").status_code == 403
        assert service.http.get("/v1/provenance?model=other").status_code == 401
