"""Facts as OpenLineage events: valid, built from earlier records only, with no name but the author's."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.openlineage.events import NAMESPACE, Translator, encode
from lineage.openlineage.facets import Event
from lineage.settings import Settings
from tests.support.sample_facts import MODEL, SAMPLES, VALIDATOR, FactWriter, ManualClock, record_of, sample
from validators.check import Finding

SCHEMA = json.loads((Path(__file__).parents[2] / "support" / "assets" / "openlineage-2-0-2.json").read_text())
FORMATS = FormatChecker(["uuid"])
ENDS = {"COMPLETE", "FAIL", "ABORT"}
TOLD = {
    "DatasetPinned",
    "ModelTrained",
    "CheckCompleted",
    "CandidateValidated",
    "CandidateRejected",
    "ReleaseRegistered",
    "CanaryStarted",
    "CanaryStepped",
    "CanaryAborted",
    "RolloutStepped",
    "ReleasePromoted",
    "DecisionsSealed",
    "DriftMeasured",
    "FairnessMeasured",
    "RollbackOrdered",
    "ReleaseRolledBack",
    "ChampionReinstated",
    "JobStarted",
    "JobFinished",
}
each_state = pytest.mark.parametrize("state", list(State))


@FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@FORMATS.checks("uri")
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or bool(urlsplit(value).scheme)


CHECKER = Draft202012Validator(SCHEMA, format_checker=FORMATS)


def told(ledger: Ledger, namespace: str = NAMESPACE) -> list[Event]:
    """All that is told of a ledger."""
    translator = Translator(ledger.records, namespace)
    return [event for record in ledger.records for event in translator.events(record)]


def of_job(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event.get("job", {}).get("name") == f"{MODEL}.{name}"]


def runs(events: list[Event]) -> dict[str, list[Event]]:
    found = defaultdict(list)
    for event in events:
        if "run" in event:
            found[event["run"]["runId"]].append(event)
    return found


def states(events: list[Event]) -> list[str]:
    return [event["eventType"] for event in events]


def tags(facets: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in facets["tags"]["tags"]}


def assertions(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dataset["inputFacets"]["dataQualityAssertions"]["assertions"]
    return found


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


@pytest.fixture
def journey(writer: FactWriter, clock: ManualClock) -> Callable[[State], list[Event]]:
    """A requested training whose release comes to a state, its decisions and what was measured of them."""

    def tell(state: State) -> list[Event]:
        request = writer.record("RetrainRequested")["seq"]
        clock.later(seconds=1)
        writer.record("JobStarted", request=request)
        clock.later(seconds=1)
        writer.record("DatasetPinned")
        clock.later(seconds=12)
        writer.bring(state)
        writer.record("JobFinished", request=request, status="succeeded", message="done")
        for kind in ("DecisionsSealed", "DriftMeasured", "FairnessMeasured"):
            writer.record(kind)
        return told(writer.ledger)

    return tell


@each_state
def test_every_event_is_what_the_specification_asks_for(state: State, journey: Callable[[State], list[Event]]) -> None:
    events = journey(state)
    faults = [(list(error.path), error.message) for event in events for error in CHECKER.iter_errors(event)]
    assert faults == []
    assert {event["schemaURL"].rpartition("/")[2] for event in events} == {"RunEvent", "DatasetEvent"}


@each_state
def test_every_run_starts_once_and_ends_at_most_once(state: State, journey: Callable[[State], list[Event]]) -> None:
    for events in runs(journey(state)).values():
        assert states(events)[0] == "START"
        assert states(events).count("START") == 1
        assert not ENDS & set(states(events)[:-1]), "nothing is told of a run that has ended"
        assert len({event["job"]["name"] for event in events}) == 1
        assert [event["eventTime"] for event in events] == sorted(event["eventTime"] for event in events)


@each_state
def test_a_record_is_told_from_those_before_it_and_always_the_same(
    state: State, journey: Callable[[State], list[Event]], ledger: Ledger, settings: Settings, clock: ManualClock
) -> None:
    live: list[bytes] = []
    translator = Translator(ledger.records)
    ledger.follow(lambda record: live.extend(encode(event) for event in translator.events(record)))
    journey(state)
    afterwards = [encode(event) for event in told(ledger)]
    assert afterwards == live
    ledger.close()
    again = Ledger(settings.log_folder, clock=clock)
    assert [encode(event) for event in told(again)] == live
    again.close()


def test_which_facts_are_told(ledger: Ledger) -> None:
    translator = Translator(ledger.records)
    FactWriter(ledger).record("RetrainRequested")
    told_of = {kind for kind in SAMPLES if translator.events(record_of(kind) | {"seq": 2})}
    assert told_of == TOLD, "what is about people, accounts and subjects stays here"


def test_run_ids_are_of_this_ledger_and_namespace_and_never_change(ledger: Ledger, tmp_path: Path) -> None:
    FactWriter(ledger).champion()
    ids = set(runs(told(ledger)))
    assert {UUID(run).version for run in ids} == {5}
    assert ids == set(runs(told(ledger)))
    assert not ids & set(runs(told(ledger, "elsewhere")))
    clock = ManualClock()
    clock.later(microseconds=1)
    other = Ledger(tmp_path / "other", clock=clock)
    FactWriter(other).champion()
    assert not ids & set(runs(told(other)))
    other.close()


def test_a_training_leads_from_the_pinned_data_to_the_model(journey: Callable[[State], list[Event]]) -> None:
    events = journey(State.REGISTERED)
    started, completed = of_job(events, "train")
    assert (started["eventTime"], completed["eventTime"]) == (
        "2026-11-23T10:00:02.000000Z",
        "2026-11-23T10:00:14.000000Z",
    )
    (source,), (model,) = completed["inputs"], completed["outputs"]
    assert [field["name"] for field in source["facets"]["schema"]["fields"]] == SAMPLES["DatasetPinned"]["columns"]
    assert source["facets"]["version"]["datasetVersion"] == "3"
    assert source["inputFacets"]["inputStatistics"]["rowCount"] == 30_000
    assert source["facets"]["symlinks"]["identifiers"] == [{"namespace": NAMESPACE, "name": "uci", "type": "TABLE"}]
    assert (model["namespace"], model["name"]) == (NAMESPACE, f"{MODEL}.model")
    assert model["facets"]["version"]["datasetVersion"] == f"{MODEL}@1"
    facets = completed["run"]["facets"]
    assert {"key": "max_depth", "value": "4"} in facets["executionParameters"]["parameters"]
    assert facets["processing_engine"]["version"] == SAMPLES["ModelTrained"]["environment_digest"]
    assert completed["job"]["facets"]["sourceCodeLocation"]["version"] == SAMPLES["ModelTrained"]["code_digest"]
    assert completed["job"]["facets"]["ownership"]["owners"] == [{"name": "user:scientist", "type": "AUTHOR"}]


def test_training_and_validation_are_children_of_the_run_that_answers_the_request(writer: FactWriter) -> None:
    request = writer.record("RetrainRequested")["seq"]
    writer.record("JobStarted", request=request)
    release = writer.train(request=request)
    writer.check(release)
    events = told(writer.ledger)
    (retrain,) = of_job(events, "retrain")
    assert retrain["run"]["facets"]["nominalTime"]["nominalStartTime"] == writer.ledger.records[0]["at"]
    for event in of_job(events, "train") + of_job(events, "validate"):
        parent = event["run"]["facets"]["parent"]
        assert parent["run"] == {"runId": retrain["run"]["runId"]}
        assert parent["job"] == {"namespace": NAMESPACE, "name": f"{MODEL}.retrain"}


def test_data_pinned_by_another_training_of_the_model_is_not_taken_for_this_ones(writer: FactWriter) -> None:
    writer.record("DatasetPinned", version=9, rows=1, digest="sha256:other")
    writer.train()
    started, completed = of_job(told(writer.ledger), "train")
    assert started["eventTime"] == completed["eventTime"]
    (source,) = completed["inputs"]
    assert source["facets"]["version"]["datasetVersion"] == "3"
    assert "schema" not in source["facets"]
    assert "inputFacets" not in source


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("datasets/credit-default", (NAMESPACE, "datasets/credit-default")),
        ("file:///srv/data/a%20b", ("file", "/srv/data/a b")),
        ("file://store/share/a", ("file://store", "/share/a")),
        ("s3://bucket/some/key", ("s3://bucket", "some/key")),
        ("hdfs://node:8020/data", ("hdfs://node:8020", "/data")),
        ("abfss://box@bank.dfs.core.windows.net/a", ("abfss://box@bank.dfs.core.windows.net", "a")),
        ("https://user:secret@host/a", ("https://host", "a")),
    ],
)
def test_data_is_named_by_where_it_lies(uri: str, name: tuple[str, str], writer: FactWriter) -> None:
    writer.record("DatasetPinned", uri=uri)
    (event,) = told(writer.ledger)
    assert (event["dataset"]["namespace"], event["dataset"]["name"]) == name


def test_the_same_data_has_the_same_name_whichever_fact_speaks_of_it(journey: Callable[[State], list[Event]]) -> None:
    events = journey(State.TRAINED)
    (pinned,) = [event["dataset"] for event in events if "dataset" in event]
    for event in of_job(events, "train"):
        assert event["inputs"][0]["facets"] == pinned["facets"]
        assert (event["inputs"][0]["namespace"], event["inputs"][0]["name"]) == (pinned["namespace"], pinned["name"])


def test_a_validation_ends_with_everything_that_was_checked(writer: FactWriter) -> None:
    release = writer.train()
    found = Finding("difference of AUC", 0.02, 0.0, ">=", True, 900, "enough")
    missed = Finding("ratio of groups", 0.7, 0.8, ">=", False, 900, "too little")
    writer.record("CheckCompleted", release, check="beats_baseline", findings=[found.to_dict()])
    writer.record("CheckCompleted", release, check="group_fairness", status="fail", findings=[missed.to_dict()])
    writer.record("CandidateRejected", release)
    events = of_job(told(writer.ledger), "validate")
    assert states(events) == ["START", "RUNNING", "FAIL"]
    lines = assertions(events[-1]["inputs"][0])
    assert [(line["assertion"], line["success"]) for line in lines] == [
        ("beats_baseline", True),
        ("beats_baseline", True),
        ("group_fairness", False),
        ("group_fairness", False),
    ]
    assert lines[3] | {"name": "ratio of groups", "expected": ">= 0.8", "actual": "0.7"} == lines[3]
    assert events[-1]["run"]["facets"]["errorMessage"]["message"] == "did not pass: group_fairness"
    assert events[-1]["outputs"][0]["name"] == f"{MODEL}.report"


def test_what_could_not_be_evaluated_is_no_success(writer: FactWriter) -> None:
    release = writer.train()
    writer.record("CheckCompleted", release, status="not_evaluated", findings=[])
    (event,) = of_job(told(writer.ledger), "validate")
    (line,) = assertions(event["inputs"][0])
    assert (line["success"], line["actual"]) == (False, "not_evaluated")


def test_a_rejection_without_any_check_still_starts_its_run(writer: FactWriter) -> None:
    release = writer.train()
    writer.record("CandidateRejected", release, failed=["no checks"])
    assert states(of_job(told(writer.ledger), "validate")) == ["START", "FAIL"]


@pytest.mark.parametrize(("status", "state"), [("failed", "FAIL"), ("stopped", "ABORT")])
def test_a_job_that_ends_early_ends_the_validation_it_was_in(status: str, state: str, writer: FactWriter) -> None:
    request = writer.record("RetrainRequested")["seq"]
    writer.record("JobStarted", request=request)
    release = writer.train(request=request)
    writer.record("CheckCompleted", release, check="beats_baseline")
    writer.record("JobFinished", request=request, status=status, message="x" * 9_000 + " out of memory")
    events = told(writer.ledger)
    for job in ("validate", "retrain"):
        last = of_job(events, job)[-1]
        assert last["eventType"] == state
        message = last["run"]["facets"]["errorMessage"]["message"]
        assert message.endswith("out of memory")
        assert len(message) == 2_000


def test_a_job_that_fails_before_or_after_its_validation_ends_only_itself(writer: FactWriter) -> None:
    request = writer.record("RetrainRequested")["seq"]
    writer.record("JobStarted", request=request)
    writer.record("JobFinished", request=request)
    assert states(told(writer.ledger)) == ["START", "FAIL"]
    request = writer.record("RetrainRequested")["seq"]
    writer.record("JobStarted", request=request)
    release = writer.train(request=request)
    writer.check(release)
    writer.record("CandidateValidated", release)
    writer.record("JobFinished", request=request)
    assert states(of_job(told(writer.ledger), "validate")) == ["START", "RUNNING", "COMPLETE"]


def test_a_promotion_leads_from_the_model_to_its_route(writer: FactWriter) -> None:
    writer.champion()
    events = of_job(told(writer.ledger), "rollout")
    assert states(events) == ["START", "RUNNING", "RUNNING", "RUNNING", "COMPLETE"]
    assert [tags(event["run"]["facets"]).get("share") for event in events] == ["0.1", "0.25", "0.5", "1.0", None]
    last = events[-1]
    assert last["inputs"][0]["facets"]["version"]["datasetVersion"] == f"{MODEL}@1"
    assert last["outputs"][0]["name"] == f"{MODEL}.route"
    assert last["outputs"][0]["facets"]["version"]["datasetVersion"] == f"{MODEL}@1"
    assert assertions(last["inputs"][0]) == [
        {"assertion": "golden_rows", "success": True, "expected": "32", "actual": "32"}
    ]
    assert all("version" not in event["outputs"][0]["facets"] for event in events[:-1]), "it does not have it all yet"


def test_a_canary_ends_with_the_reason_of_the_judge_and_a_review_without_that_of_the_person(writer: FactWriter) -> None:
    writer.bring(State.QUARANTINED)
    release = writer.bring(State.REVIEW)
    writer.record("ReviewDecided", release, VALIDATOR, "I know her", decision="reject", digest=writer.digest(release))
    aborted, rejected = [event for event in of_job(told(writer.ledger), "rollout") if event["eventType"] == "ABORT"]
    assert aborted["run"]["facets"]["errorMessage"]["message"] == "twice the wrong decisions"
    assert rejected["run"]["facets"]["errorMessage"]["message"] == "rejected in review"


def test_a_rollback_gives_the_route_to_who_takes_over(writer: FactWriter) -> None:
    first = writer.champion()
    second = writer.champion()
    writer.record("RollbackOrdered", second, to=first)
    writer.record("ReleaseRolledBack", second, to=first)
    writer.record("ChampionReinstated", first)
    events = told(writer.ledger)
    ordered, done = of_job(events, "rollback")
    assert states([ordered, done]) == ["START", "COMPLETE"]
    for event in (ordered, done):
        assert event["inputs"][0]["facets"]["version"]["datasetVersion"] == first
        assert event["outputs"][0]["facets"]["version"]["datasetVersion"] == first
    started, shown = of_job(events, "reinstate")
    assert started["run"]["runId"] == shown["run"]["runId"]
    assert assertions(shown["inputs"][0])[0]["success"] is True


def test_a_segment_counts_all_its_rows_and_says_who_answered(writer: FactWriter) -> None:
    writer.record("DecisionsSealed", rows=7, outcomes=2, releases={f"{MODEL}@1": 4, f"{MODEL}@2": 3})
    _, event = told(writer.ledger)
    assert (
        event["outputs"][0]["outputFacets"]["outputStatistics"] | {"rowCount": 9, "fileCount": 1}
        == (event["outputs"][0]["outputFacets"]["outputStatistics"])
    )
    assert tags(event["run"]["facets"]) | {"decisions": "7", "outcomes": "2", f"answered.{MODEL}@2": "3"} == (
        tags(event["run"]["facets"])
    )
    assert [dataset["name"] for dataset in event["inputs"]] == [f"{MODEL}.model", f"{MODEL}.route"]
    assert "version" not in event["inputs"][0]["facets"], "two releases answered"
    span = event["run"]["facets"]["nominalTime"]
    assert (span["nominalStartTime"], span["nominalEndTime"]) == (sample("DecisionsSealed")["from"],) * 2


def test_a_segment_of_outcomes_only_was_answered_by_nobody(writer: FactWriter) -> None:
    writer.record("DecisionsSealed", rows=0, outcomes=2, releases={})
    assert [dataset["name"] for dataset in told(writer.ledger)[1]["inputs"]] == [f"{MODEL}.route"]


def test_drift_is_told_by_feature_and_too_little_data_is_no_success(writer: FactWriter) -> None:
    writer.record("DriftMeasured")
    writer.record("DriftMeasured", verdict="not_enough_data", features=[], share_drifted=None)
    drifted, unknown = (event for event in told(writer.ledger) if event["eventType"] == "COMPLETE")
    whole, feature = assertions(drifted["inputs"][0])
    assert feature | {"column": "PAY_0", "success": False, "expected": "PSI < 0.1", "actual": "0.4"} == feature
    assert whole["success"] is False
    assert [line["success"] for line in assertions(unknown["inputs"][0])] == [False]


def test_fairness_of_live_decisions_is_told_and_that_of_a_candidate_is_left_to_its_checks(writer: FactWriter) -> None:
    writer.record("FairnessMeasured", stage="validation")
    assert told(writer.ledger) == []
    writer.record("FairnessMeasured")
    line = assertions(told(writer.ledger)[0]["inputs"][0])[0]
    assert line | {"assertion": "fairness", "column": "SEX", "success": True, "expected": "ratio >= 0.8"} == line


def test_no_reason_and_no_name_but_the_authors_leaves(writer: FactWriter) -> None:
    writer.bring(State.ROLLED_BACK)
    writer.bring(State.REVIEW)
    assert {record["reason"] for record in writer.ledger.records} == {"because"}
    words = set(strings(told(writer.ledger)))
    assert not [word for word in words if "because" in word]
    assert not words & {"operator", "validator", "controller", "trainer"}
    assert "user:scientist" in words
