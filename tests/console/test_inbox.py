"""The inbox: rows from state, records, person and time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from console.inbox import evidence, headline, needs, open_alerts

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
Json = dict[str, Any]


def at(**back: float) -> str:
    return (NOW - timedelta(**back)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def release(name: str, state: str, **more: Any) -> Json:
    base: Json = {
        "release": name,
        "model": name.partition("@")[0],
        "state": state,
        "author": "scientist",
        "trained_at": at(hours=5),
        "steps": [{"kind": "X", "seq": 1, "at": at(minutes=12), "actor": "controller"}],
        "approvals": [],
        "checks": {},
        "share": 0.25,
        "hold": None,
        "review": None,
        "judgement": None,
    }
    return base | more


def state(*releases: Json, **model: Any) -> Json:
    names = {one["model"] for one in releases} | ({"m"} if model else set())
    blank: Json = {"champion": "m@1", "challenger": None, "requests": [], "jobs": {}}
    return {
        "seq": 9,
        "models": {name: blank | {"model": name} | model for name in names},
        "releases": {one["release"]: one for one in releases},
    }


REVIEW = {"requested_at": at(hours=1), "due_at": at(hours=-23)}


def test_nothing_waits_when_nothing_is_there() -> None:
    assert needs({"models": {}, "releases": {}}, [], "operator", "operator", NOW) == []
    assert headline([], NOW) == "Nothing waits for you"


def test_a_review_waits_for_a_validator_and_for_nobody_else() -> None:
    fold = state(release("m@2", "review", review=REVIEW))
    [row] = needs(fold, [], "validator", "validator", NOW)
    assert (row.status, row.subject, row.verb, row.href) == ("Waiting for you", "m@2", "Review", "/release/m@2")
    assert "due in 23\u00a0h" in row.what
    for role in ("operator", "scientist", "auditor"):
        assert needs(fold, [], role, role, NOW) == []


def test_a_review_does_not_wait_for_the_author() -> None:
    fold = state(release("m@2", "review", review=REVIEW, author="validator"))
    assert needs(fold, [], "validator", "validator", NOW) == []


def test_an_overdue_review_is_worse_than_a_waiting_one() -> None:
    late = {"requested_at": at(hours=30), "due_at": at(hours=6)}
    fold = state(release("m@2", "review", review=REVIEW), release("n@2", "review", review=late))
    rows = needs(fold, [], "validator", "validator", NOW)
    assert [(row.subject, row.status) for row in rows] == [("n@2", "Blocked"), ("m@2", "Waiting for you")]
    assert "overdue by 6\u00a0h" in rows[0].what


def test_a_quarantine_comes_first_and_is_forgotten_after_a_day() -> None:
    judgement = {"reasons": ["wrong decisions 6.2 % (limit 4 %)"], "metrics": []}
    fold = state(release("m@3", "quarantined", judgement=judgement), release("m@2", "approved"))
    rows = needs(fold, [], "operator", "operator", NOW)
    assert [row.subject for row in rows] == ["m@3", "m@2"]
    assert rows[0].what == "Quarantined: wrong decisions 6.2 % (limit 4 %)"
    assert rows[0].calm == "All traffic is back with m@1."
    later = NOW + timedelta(hours=25)
    assert [row.subject for row in needs(fold, [], "operator", "operator", later)] == ["m@2"]


def test_a_held_canary_waits_for_the_operator() -> None:
    fold = state(release("m@2", "canary", hold={"why": "96 of 150 subjects seen", "at": at(minutes=3)}))
    [row] = needs(fold, [], "operator", "operator", NOW)
    assert (row.status, row.what, row.at) == ("Warning", "Canary held: 96 of 150 subjects seen", at(minutes=3))
    assert needs(fold, [], "validator", "validator", NOW) == []


def test_a_registered_release_waits_only_while_the_way_is_free() -> None:
    free = state(release("m@2", "registered"))
    assert [row.verb for row in needs(free, [], "operator", "operator", NOW)] == ["Start"]
    taken = state(release("m@2", "registered"), challenger="m@3")
    assert needs(taken, [], "operator", "operator", NOW) == []


def test_a_release_of_the_kill_switch_waits_for_a_second_person() -> None:
    kill: Json = {"by": "validator", "at": at(hours=1), "since": at(hours=1), "seq": 4, "answer": "baseline"}
    kill |= {"reason": "looks wrong", "asked_by": None, "asked_at": None, "asked_reason": None, "asked_seq": None}
    asked = kill | {"asked_by": "operator", "asked_at": at(minutes=5), "asked_reason": "mended", "asked_seq": 5}
    fold = state(release("m@1", "champion"), kill=asked) | {"kill": kill}
    [row] = needs(fold, [], "validator", "validator", NOW)
    assert (row.status, row.subject, row.at) == ("Waiting for you", "m", at(minutes=5))
    assert row.what == "operator asks to release the kill switch: mended"
    assert row.href == "/release/m@1"
    assert needs(fold, [], "operator", "operator", NOW) == [], "not for whoever asked"
    assert needs(fold, [], "auditor", "auditor", NOW) == []
    fold = state(release("m@1", "champion")) | {"kill": asked}
    assert [row.subject for row in needs(fold, [], "validator", "validator", NOW)] == ["all models"]


def test_while_it_is_killed_nobody_is_told_that_the_champion_answers() -> None:
    kill: Json = {"by": "validator", "at": at(hours=1), "since": at(hours=1), "answer": "baseline", "asked_by": None}
    held = release("m@4", "canary", hold={"why": "few subjects", "at": at(minutes=3)})
    fold = state(release("m@2", "registered"), release("m@3", "quarantined"), held) | {"kill": kill}
    rows = needs(fold, [], "operator", "operator", NOW)
    assert [row.subject for row in rows] == ["m@3", "m@4"], "no canary can be started"
    assert [row.calm for row in rows] == [
        "Killed: the baseline answers.",
        "Held at 25\u00a0%. Killed: the baseline answers.",
    ]


def test_an_open_breaker_is_the_operators() -> None:
    open_: Json = {"release": "m@1", "cause": "constant_scores", "since": at(minutes=4), "times": 1, "seq": 7}
    fold = state(release("m@1", "champion"), breakers={"a": open_, "b": open_ | {"since": at(minutes=2)}})
    [row] = needs(fold, [], "operator", "operator", NOW)
    assert (row.status, row.subject, row.href, row.at) == ("Failed", "m", "/release/m@1", at(minutes=4))
    assert "the baseline answers on 2\u00a0replicas: constant scores since" in row.what
    assert needs(fold, [], "validator", "validator", NOW) == []


def test_only_the_last_job_counts() -> None:
    failed: Json = {"status": "failed", "at": at(hours=1), "author": "scientist", "message": "no rows"}
    fold = state(jobs={"7": failed})
    assert needs(fold, [], "scientist", "scientist", NOW)[0].what == "Training job 7 failed: no rows"
    assert needs(fold, [], "other", "scientist", NOW) == []
    again = state(jobs={"7": failed, "12": {"status": "running", "at": at(minutes=1), "author": "scientist"}})
    assert needs(again, [], "scientist", "scientist", NOW) == []


def alert(seq: int, name: str = "drift", severity: str = "ticket") -> Json:
    data = {"alert": name, "severity": severity, "summary": "38 % of features drifted (limit 30 %)"}
    return {"seq": seq, "kind": "AlertRaised", "model": "m", "at": at(minutes=9), "data": data}


def measured(seq: int, verdict: str, kind: str = "DriftMeasured") -> Json:
    return {"seq": seq, "kind": kind, "model": "m", "at": at(minutes=1), "data": {"verdict": verdict}}


def test_an_alert_is_closed_by_a_good_measurement_of_the_same_thing() -> None:
    fold = state(release("m@1", "champion"))
    assert len(open_alerts(fold, [alert(5), measured(6, "drift")])) == 1
    assert len(open_alerts(fold, [alert(5), measured(6, "ok", "FairnessMeasured")])) == 1
    assert open_alerts(fold, [alert(5), measured(6, "ok")]) == []


def test_no_data_does_not_close_an_alert() -> None:
    assert len(open_alerts(state(release("m@1", "champion")), [alert(5), measured(6, "not_enough_data")])) == 1


def test_an_alert_is_closed_by_a_new_champion() -> None:
    promoted = release("m@2", "champion", steps=[{"kind": "ReleasePromoted", "seq": 8, "at": at(), "actor": "c"}])
    assert open_alerts(state(promoted), [alert(5)]) == []


@pytest.mark.parametrize(("severity", "status"), [("page", "Failed"), ("ticket", "Warning")])
def test_the_severity_of_an_alert_is_its_status(severity: str, status: str) -> None:
    [row] = needs(state(release("m@1", "champion")), [alert(5, severity=severity)], "operator", "operator", NOW)
    assert row.status == status
    assert row.href == "/drift?model=m"


def test_evidence_names_the_metric_closest_to_its_limit() -> None:
    def metric(title: str, rate: float | None, limit: float) -> Json:
        return {"metric": title, "title": title, "challenger": {"rate": rate}, "limit": limit}

    judgement = {"metrics": [metric("Errors", 0.01, 0.03), metric("Slow", 0.09, 0.1), metric("Wrong", None, 0.1)]}
    assert evidence(release("m@2", "review", judgement=judgement)) == "slow 9\u00a0% (limit 10\u00a0%)"
    assert evidence(release("m@2", "review")) == "no judgement on record"


def test_a_limit_relative_to_the_champion_is_shown_as_a_rate() -> None:
    metric = {"metric": "wrong", "champion": {"rate": 0.02}, "challenger": {"rate": 0.024}, "ratio_limit": 1.5}
    found = evidence(release("m@2", "review", judgement={"metrics": [metric | {"limit": None}]}))
    assert found == "wrong 2.4\u00a0% (limit 3\u00a0%)"


def test_the_headline_counts_and_dates() -> None:
    rows = needs(state(release("m@3", "quarantined")), [], "operator", "operator", NOW)
    assert headline(rows, NOW) == "1\u00a0item · oldest 12\u00a0min"
