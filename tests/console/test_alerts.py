"""Inbox, drift page and fairness page show the alerts that the fold has open, and no others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest

from console.inbox import rows
from console.pages import drift, fairness
from lineage.lifecycle import State
from lineage.rules.inbox import inbox
from lineage.rules.views import inbox_view
from lineage.state.entities import ModelSummary
from lineage.state.summaries import models_page
from lineage.state.views import models_view
from tests.support.console_home import text
from tests.support.ledger_in_memory import START, MemoryLedger
from tests.support.sample_facts import MODEL, OPERATOR, Teller

FIRST, SECOND = f"{MODEL}@1", f"{MODEL}@2"


@pytest.fixture
def teller() -> Teller:
    made = Teller(MemoryLedger())  # type: ignore[arg-type]
    made.bring(State.CHAMPION)
    return made


def model(teller: Teller) -> ModelSummary:
    """The model as `GET /v1/models` gives it, parsed."""
    page = models_page(teller.ledger.state)
    return models_view(orjson.loads(orjson.dumps({"models": page.entries, "total": 1, "kill": None}))).models[0]


def in_inbox(teller: Teller) -> set[str]:
    now = START + timedelta(hours=1)
    items = inbox(teller.ledger.state, OPERATOR, now)
    found = inbox_view(orjson.loads(orjson.dumps({"items": items, "total": len(items)})))
    alerts = [item for item in found.items if item.alert]
    assert len(rows(alerts, now)) == len(alerts)
    return {row.what for row in rows(alerts, now)}


def on_pages(teller: Teller) -> set[str]:
    """The open alerts' summaries that are found on the drift page and on the fairness page."""
    seen = model(teller)
    page = text(drift.response(seen, [])) + text(fairness.one_model(seen, []))
    known = {record["data"]["summary"] for record in teller.ledger.records if record["kind"] == "AlertRaised"}
    return {summary for summary in known if summary in page}


def check(teller: Teller, *open_: str) -> None:
    """The fold has these alerts open, and everything that shows alerts shows these."""
    alerts = teller.ledger.state.models[MODEL].alerts
    assert {alert.summary for alert in alerts} == set(open_)
    assert in_inbox(teller) == set(open_)
    measured = {alert.summary for alert in alerts if alert.alert in ("drift", "fairness")}
    assert on_pages(teller) == measured
    for alert in alerts:
        if alert.alert in ("drift", "fairness"):
            seen = model(teller)
            page = drift.response(seen, []) if alert.alert == "drift" else fairness.one_model(seen, [])
            assert f"Closed by {alert.closes}" in text(page)


def breach(teller: Teller, attribute: str) -> str:
    summary = f"approvals differ by {attribute}"
    teller.say("AlertRaised", alert="fairness", about=attribute, release=FIRST, severity="page", summary=summary)
    return summary


def measured(teller: Teller, attribute: str, verdict: str = "ok", stage: str = "live", release: str = FIRST) -> None:
    teller.say("FairnessMeasured", attribute=attribute, verdict=verdict, stage=stage, release=release)


def test_two_attributes_are_two_alerts(teller: Teller) -> None:
    sex, age = breach(teller, "SEX"), breach(teller, "AGE")
    check(teller, sex, age)
    measured(teller, "SEX")
    check(teller, age)
    measured(teller, "AGE")
    check(teller)


@pytest.mark.parametrize(
    "other",
    [
        {"attribute": "AGE"},
        {"attribute": "SEX", "stage": "validation"},
        {"attribute": "SEX", "release": SECOND},
        {"attribute": "SEX", "verdict": "not_enough_data"},
    ],
    ids=["another attribute", "at validation", "another release", "too little data"],
)
def test_a_breach_stays_open_after_a_measurement_of(teller: Teller, other: dict[str, Any]) -> None:
    sex = breach(teller, "SEX")
    measured(teller, **other)
    check(teller, sex)


def test_drift_of_a_release_is_closed_by_that_release(teller: Teller) -> None:
    teller.say("AlertRaised", alert="drift", about=FIRST, summary="half of the features drifted")
    teller.say("DriftMeasured", release=SECOND, verdict="ok")
    check(teller, "half of the features drifted")
    teller.say("DriftMeasured", release=FIRST, verdict="ok")
    check(teller)


def test_aliases_that_were_moved_by_hand(teller: Teller) -> None:
    teller.say("AlertRaised", alert="mlflow_aliases", about=None, summary="the alias champion was moved")
    teller.bring(State.CHAMPION)
    check(teller, "the alias champion was moved")
    teller.say("AlertClosed", alert="mlflow_aliases", about=None)
    check(teller)


def test_a_rollback_that_was_not_proven(teller: Teller) -> None:
    second = teller.bring(State.CHAMPION)
    teller.say("RollbackOrdered", second, OPERATOR, to=FIRST)
    said = "golden rows do not match on one replica"
    teller.say("AlertRaised", alert="rollback_not_proven", about=None, severity="page", summary=said)
    check(teller, said)
    teller.say("ReleaseRolledBack", second, to=FIRST)
    check(teller, said)
    teller.say("ChampionReinstated", FIRST)
    check(teller)


def test_another_champion_closes_what_was_measured_of_the_one_before(teller: Teller) -> None:
    breach(teller, "SEX")
    teller.say("AlertRaised", alert="drift", about=FIRST, summary="half of the features drifted")
    teller.bring(State.CHAMPION)
    check(teller)
