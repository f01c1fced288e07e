"""The demo from data to live traffic and back: every step succeeded and the record verifies."""

from __future__ import annotations

import time
from collections import Counter

from tests.support.demo_platform import Platform, values


def test_every_step_did_what_it_says(platform: Platform) -> None:
    failed = [step for step in platform.summary["steps"] if not step["ok"]]
    assert not failed, platform.log.read_text()[-6000:]
    assert platform.summary["ok"]


def test_no_request_failed(platform: Platform) -> None:
    requests = platform.summary["requests"]
    assert requests["failed"] == 0, requests
    assert requests["sent"] > 2_000


def test_releases_ended_where_the_story_left_them(platform: Platform) -> None:
    states = list(platform.summary["releases"].values())
    # The first came back, the better one was rolled back, the bad one is quarantined, the retrained one waits.
    assert states == ["champion", "rolled_back", "quarantined", "registered"]


def test_the_first_release_passed_the_same_gates(platform: Platform) -> None:
    with platform.person("auditor") as auditor:
        kinds = values(auditor.release("credit-default@1")["steps"], "kind")
    wanted = ["ModelTrained", "CandidateValidated", "ReleaseRegistered", "CanaryStarted", "ReviewRequested"]
    wanted += ["ReviewDecided", "RolloutStepped", "ReleasePromoted"]
    assert [kind for kind in kinds if kind in wanted and kind != "RolloutStepped"] == [
        kind for kind in wanted if kind != "RolloutStepped"
    ]
    assert Counter(kinds)["CheckCompleted"] == 4
    assert Counter(kinds)["RolloutStepped"] == 2


def test_the_authors_approval_was_refused_and_recorded(platform: Platform) -> None:
    with platform.person("auditor") as auditor:
        refusals = auditor.audit(kind="ActionRefused", actor="scientist")
    assert [r["data"]["code"] for r in refusals] == ["four_eyes", "four_eyes"]


def test_the_judge_aborted_the_bad_release_by_itself(platform: Platform) -> None:
    with platform.person("auditor") as auditor:
        aborted = auditor.audit(kind="CanaryAborted", release="credit-default@3")
    assert [record["actor"]["name"] for record in aborted] == ["controller"]
    judgement = aborted[0]["data"]["judgement"]
    assert judgement["verdict"] == "ABORT"
    assert any(metric["verdict"] == "ABORT" for metric in judgement["metrics"])


def test_drift_led_to_an_alert_and_a_training_run(platform: Platform) -> None:
    with platform.person("auditor") as auditor:
        rows = auditor.query("drift", model="credit-default", limit=1_000)
        assert "drift" in values(rows, "verdict")
        assert [alert for alert in auditor.query("alerts", limit=1_000) if alert["alert"] == "drift"]
        asked = auditor.audit(kind="RetrainRequested", actor="controller")
        assert len(asked) == 1
        ended = [r for r in auditor.audit(kind="JobFinished") if r["data"]["request"] == asked[0]["seq"]]
        assert [record["data"]["status"] for record in ended] == ["succeeded"]


def test_rollback_reached_every_replica_and_golden_vectors_came_back(platform: Platform) -> None:
    assert platform.summary["rollback_ms"] is not None
    with platform.person("auditor") as auditor:
        back = auditor.audit(kind="ChampionReinstated")[0]["data"]["golden"]
        rolled = auditor.audit(kind="ReleaseRolledBack")[0]["data"]
    assert back["count"] > 0
    assert back["matched"] == back["count"]
    assert back["replicas"] == rolled["replicas"] == platform.settings.gateway_replicas


def test_answered_requests_are_decisions_on_record(platform: Platform) -> None:
    sent = platform.summary["requests"]["sent"]
    with platform.person("auditor") as auditor:
        sealed, head, deadline = 0, 0, time.monotonic() + 60
        while sealed < sent and time.monotonic() < deadline:  # the last ones are sealed a few seconds later
            sealed = sum(row["rows"] for row in auditor.query("segments", limit=10_000))
            if sealed < sent:
                news = auditor.audit(after=head, kind="DecisionsSealed", wait=5.0)
                head = news[-1]["seq"] if news else head
    assert sealed >= sent
