"""The verbs canary, promote, rollback and monitor, tick by tick, without Ray."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lineage.state.alerts import Alert
from lineage.state.entities import Hold, Job, Model, Release, Rollback
from serve import canary, promote, rollback
from serve.controller import training_jobs as jobs
from serve.controller.training_jobs import JobView
from serve.judge.verdict import Judgement
from serve.ledger_view import LedgerView
from serve.monitor import candidates_waiting, drift_intentions, fairness_intentions
from serve.rollback import Replay
from tests.support.decision_records import NOW
from tests.support.entries import a_model, a_release

POLICY = {
    "canary": {"steps": [0.1, 0.25], "deadline_minutes": 60},
    "review": {"required": True, "sla_hours": 24},
    "rollout": {"steps": [0.5, 1.0], "minimum_subjects": 50},
    "monitor": {"drift": {"retrain": True}},
}


def judgement(verdict: Any, *reasons: str) -> Judgement:
    return Judgement(verdict, list(reasons) or ["because"], 0.1, NOW, 1.0, [], {}, {"alpha_of_each_gate": 0.01})


def release(state: str = "canary", **changes: Any) -> Release:
    now = NOW.isoformat()
    given = {"policy": POLICY, "share": 0.1, "control": "m@1", "canary_started_at": now, "stepped_at": now}
    return a_release(state=state, **(given | changes))


def model(**changes: Any) -> Model:
    return a_model(**({"champion": "m@1", "challenger": "m@2"} | changes))


def view_of(*releases: Release) -> LedgerView:
    return LedgerView(releases={one.release: one for one in releases})


def alert(kind: str, about: str) -> Alert:
    return Alert(kind, about, "m@1", "ticket", "moved", NOW.isoformat(), 7, "")


def step(view: Release, verdict: Judgement, minutes: float = 1.0, **changes: Any) -> Any:
    now = NOW + timedelta(minutes=minutes)
    return canary.step(model(**changes), view, verdict, now) or promote.step(view, verdict, now)


def test_one_step_at_a_time_then_a_second_person() -> None:
    first = step(release(), judgement("ADVANCE"))
    assert (first.kind, first.data["share"]) == ("CanaryStepped", 0.25)
    last = step(release(share=0.25), judgement("ADVANCE"))
    assert last.kind == "ReviewRequested"
    assert last.data["due_at"] == (NOW + timedelta(hours=24, minutes=1)).isoformat()


def test_a_hold_is_said_once_for_each_reason() -> None:
    held = step(release(), judgement("HOLD", "too few"))
    assert (held.kind, held.data["why"]) == ("CanaryHeld", "too few")
    known = release(hold=Hold("too few", NOW.isoformat()))
    assert step(known, judgement("HOLD", "too few")) is None
    assert step(known, judgement("HOLD", "silent")).kind == "CanaryHeld"
    assert step(known, judgement("HOLD", "silent"), minutes=0.05) is None


@pytest.mark.parametrize("state", ["canary", "review", "approved", "rollout"])
def test_harm_ends_a_release_at_every_stage(state: str) -> None:
    ended = step(release(state), judgement("ABORT", "wrong decisions"))
    assert (ended.kind, ended.data["why"]) == ("CanaryAborted", "wrong decisions")


def test_a_hold_ends_at_the_deadline_with_the_champion_kept() -> None:
    ended = step(release(), judgement("HOLD"), minutes=61)
    assert ended.kind == "CanaryAborted"
    assert "60 minutes" in ended.data["why"]
    assert step(release("rollout", share=0.5), judgement("HOLD"), minutes=61).kind == "CanaryAborted"


def test_a_release_whose_champion_has_left_is_ended() -> None:
    assert step(release(), judgement("ADVANCE"), champion="m@0").kind == "CanaryAborted"


@pytest.mark.parametrize("state", ["review", "approved"])
@pytest.mark.parametrize("verdict", ["ADVANCE", "HOLD"])
def test_while_people_deliberate_nothing_moves(state: str, verdict: str) -> None:
    assert step(release(state, share=0.25), judgement(verdict), minutes=600) is None


def test_without_a_wanted_review_the_controller_takes_the_first_step() -> None:
    policy = POLICY | {"review": {"required": False, "sla_hours": 24}}
    taken = step(release("review", share=0.25, policy=policy), judgement("ADVANCE"))
    assert (taken.kind, taken.data["share"]) == ("RolloutStepped", 0.5)


def test_the_rollout_ramps_while_it_is_judged() -> None:
    assert step(release("rollout", share=0.5), judgement("HOLD")).kind == "CanaryHeld"
    taken = step(release("rollout", share=0.5), judgement("ADVANCE"))
    assert (taken.kind, taken.data["share"]) == ("RolloutStepped", 1.0)
    full = release("rollout", share=1.0)
    assert step(full, judgement("ADVANCE")) is None
    assert promote.is_ready(full, judgement("ADVANCE"))
    assert not promote.is_ready(full, judgement("HOLD"))


def test_promotion_needs_every_golden_row() -> None:
    whole = promote.promotion(model(), release("rollout"), {"count": 8, "matched": 8, "digest": "d"})
    assert (whole.kind, whole.data["replaced"]) == ("ReleasePromoted", "m@1")
    for golden in ({"count": 8, "matched": 7, "digest": "d"}, {"count": 0, "matched": 0, "digest": "d"}):
        assert promote.promotion(model(), release("rollout"), golden).kind == "CanaryAborted"


def test_the_former_champion_retires_and_the_champion_does_not() -> None:
    view = view_of(release("champion", release="m@1", number=1), release("champion"))
    (retired,) = promote.retirements(model(champion="m@2"), view)
    assert (retired.kind, retired.subject, retired.data) == ("ChampionRetired", "m@1", {"replaced_by": "m@2"})


ORDER = Rollback("m@2", "m@1", NOW.isoformat(), 9)
ROW = {"score": (0.25).hex(), "decision": "approve"}


def _replay(*answers: tuple[str, float, str]) -> Replay:
    replay = Replay(1, "m@1")
    for name, value, replica in answers:
        replay.note(0, ROW, {"release": name, "score": value, "decision": "approve"}, replica)
    return replay


def test_a_rollback_is_done_when_all_have_acknowledged_and_proven_by_golden_rows() -> None:
    view = model(champion="m@1", rollback=ORDER)
    releases = {"m@2": release("rolling_back"), "m@1": release("retired", release="m@1")}
    done = rollback.rolled_back(view, releases, NOW + timedelta(milliseconds=20), 2)
    assert done is not None
    assert (done.kind, done.data) == ("ReleaseRolledBack", {"to": "m@1", "milliseconds": 20.0, "replicas": 2})
    proof = rollback.reinstated(view, releases, _replay(("m@1", 0.25, "r1"), ("m@1", 0.25, "r2")), NOW)
    assert proof is not None
    assert (proof.kind, proof.data["golden"]["matched"]) == ("ChampionReinstated", 1)


@pytest.mark.parametrize("answers", [[], [("m@1", 0.26, "r1")], [("m@2", 0.25, "r1")]])
def test_golden_rows_that_do_not_come_back_page_somebody(answers: list[Any]) -> None:
    releases = {"m@2": release("rolled_back"), "m@1": release("retired", release="m@1")}
    alert = rollback.reinstated(model(rollback=ORDER), releases, _replay(*answers), NOW)
    assert alert is not None
    assert (alert.kind, alert.data["severity"]) == ("AlertRaised", "page")


def _fall_back(replay: Replay, fallback: str) -> None:
    """The baseline answers with the very score and decision of the golden row."""
    reply = {"release": "m@1", "score": 0.25, "decision": "approve", "fallback": fallback}
    replay.note(0, ROW, reply, "r1")


def test_a_late_explanation_has_the_golden_row_asked_again() -> None:
    replay = _replay()
    _fall_back(replay, "explanation_timeout")
    assert (replay.complete, replay.wrong) == (False, {})
    replay.note(0, ROW, {"release": "m@1", "score": 0.25, "decision": "approve", "fallback": None}, "r1")
    assert (replay.complete, replay.golden()["matched"]) == (True, 1)


@pytest.mark.parametrize(("fallback", "times"), [("champion_failed", 1), ("explanation_timeout", 4)])
def test_what_the_baseline_answers_never_proves_the_champion(fallback: str, times: int) -> None:
    replay = _replay()
    for _ in range(times):
        _fall_back(replay, fallback)
    assert (replay.complete, replay.golden()["matched"]) == (True, 0)
    assert f"the baseline of m@1 ({fallback})" in replay.wrong[0]


class Jobs:
    """Ray's jobs in memory."""

    def __init__(self) -> None:
        self.known: dict[str, JobView] = {}
        self.submitted: list[str] = []

    def find(self, job_id: str) -> JobView | None:
        return self.known.get(job_id)

    def submit(self, job_id: str, entrypoint: str) -> None:
        self.submitted.append(entrypoint)
        self.known[job_id] = JobView("RUNNING", "")


def test_a_request_is_submitted_once_and_its_end_is_told() -> None:
    port = Jobs()
    options = {"trials": 4, "fault": None}
    job = Job(5, "requested", NOW.isoformat(), "examples/loan", "why", "ada", options=options)
    view = model(jobs={"5": job}, requests=[5])
    (started,) = jobs.step(view, 5, port)
    assert (started.kind, started.data) == ("JobStarted", {"request": 5, "job_id": "train-m-5"})
    jobs.step(view, 5, port)  # the fact was lost: the same job is found again
    (command,) = port.submitted
    assert command.endswith("-m training.pipeline examples/loan --request 5 --author ada --trials 4")
    view.jobs["5"] = replace(job, status="running")
    assert jobs.step(view, 5, port) == []
    port.known["train-m-5"] = JobView("FAILED", "a\nb\nValueError: no rows\n")
    (ended,) = jobs.step(view, 5, port)
    assert ended.data["status"] == "failed"
    assert "no rows" in ended.data["message"]
    port.known.clear()
    assert jobs.step(view, 5, port)[0].data["status"] == "failed"


def test_drift_asks_for_retraining_once() -> None:
    data = {"release": "m@1", "verdict": "drift", "features": [{"feature": "x", "drifted": True}]}
    job = Job(5, "succeeded", NOW.isoformat(), "examples/loan", "why", "ada")
    known = model(challenger=None, last_job=job)

    def kinds(view: Model, *waiting: str) -> list[str]:
        return [one.kind for one in drift_intentions(view, release(), waiting, data)]

    assert kinds(known) == ["DriftMeasured", "RetrainRequested", "AlertRaised"]
    assert kinds(replace(known, alerts=[alert("drift", "m@1")])) == ["DriftMeasured"]
    moved = replace(known, alerts=[alert("drift", "m@0")])
    assert kinds(moved) == ["DriftMeasured", "RetrainRequested", "AlertRaised"]
    assert kinds(replace(known, requests=[7])) == ["DriftMeasured", "AlertRaised"]
    assert kinds(known, "m@3") == ["DriftMeasured", "AlertRaised"]


@pytest.mark.parametrize(
    ("state", "number", "waits"),
    [("registered", 3, True), ("trained", 3, True), ("quarantined", 3, False), ("registered", 1, False)],
)
def test_a_newer_candidate_that_nobody_decided_on_waits(state: str, number: int, *, waits: bool) -> None:
    champion = release("champion", number=2)
    others = view_of(
        release(state, release="m@x", number=number), release("registered", release="o@3", number=3, model="o")
    )
    assert candidates_waiting(others, champion) == (["m@x"] if waits else [])


def test_a_breach_of_fairness_pages_once() -> None:
    data = {"release": "m@1", "verdict": "breach", "attribute": "age", "ratio": 0.7}
    assert [one.kind for one in fairness_intentions(model(), data)] == ["FairnessMeasured", "AlertRaised"]
    told = model(alerts=[alert("fairness", "age")])
    assert [one.kind for one in fairness_intentions(told, data)] == ["FairnessMeasured"]
