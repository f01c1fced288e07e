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
from tests.support.sample_facts import MODEL, OPERATOR, FactWriter

FIRST, SECOND = f"{MODEL}@1", f"{MODEL}@2"


@pytest.fixture
def writer() -> FactWriter:
    made = FactWriter(MemoryLedger())  # type: ignore[arg-type]
    made.bring(State.CHAMPION)
    return made


def model(writer: FactWriter) -> ModelSummary:
    """The model as `GET /v1/models` gives it, parsed."""
    page = models_page(writer.ledger.state)
    return models_view(orjson.loads(orjson.dumps({"models": page.entries, "total": 1, "kill": None}))).models[0]


def in_inbox(writer: FactWriter) -> set[str]:
    now = START + timedelta(hours=1)
    items = inbox(writer.ledger.state, OPERATOR, now)
    found = inbox_view(orjson.loads(orjson.dumps({"items": items, "total": len(items)})))
    alerts = [item for item in found.items if item.alert]
    assert len(rows(alerts, now)) == len(alerts)
    return {row.what for row in rows(alerts, now)}


def on_pages(writer: FactWriter) -> set[str]:
    """The open alerts' summaries that are found on the drift page and on the fairness page."""
    seen = model(writer)
    page = text(drift.response(seen, [])) + text(fairness.one_model(seen, []))
    known = {record["data"]["summary"] for record in writer.ledger.records if record["kind"] == "AlertRaised"}
    return {summary for summary in known if summary in page}


def check(writer: FactWriter, *open_: str) -> None:
    """The fold has these alerts open, and everything that shows alerts shows these."""
    alerts = writer.ledger.state.models[MODEL].alerts
    assert {alert.summary for alert in alerts} == set(open_)
    assert in_inbox(writer) == set(open_)
    measured = {alert.summary for alert in alerts if alert.alert in ("drift", "fairness")}
    assert on_pages(writer) == measured
    for alert in alerts:
        if alert.alert in ("drift", "fairness"):
            seen = model(writer)
            page = drift.response(seen, []) if alert.alert == "drift" else fairness.one_model(seen, [])
            assert f"Closed by {alert.closes}" in text(page)


def breach(writer: FactWriter, attribute: str) -> str:
    summary = f"approvals differ by {attribute}"
    writer.record("AlertRaised", alert="fairness", about=attribute, release=FIRST, severity="page", summary=summary)
    return summary


def measured(
    writer: FactWriter, attribute: str, verdict: str = "ok", stage: str = "live", release: str = FIRST
) -> None:
    writer.record("FairnessMeasured", attribute=attribute, verdict=verdict, stage=stage, release=release)


def test_two_attributes_are_two_alerts(writer: FactWriter) -> None:
    sex, age = breach(writer, "SEX"), breach(writer, "AGE")
    check(writer, sex, age)
    measured(writer, "SEX")
    check(writer, age)
    measured(writer, "AGE")
    check(writer)


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
def test_a_breach_stays_open_after_a_measurement_of(writer: FactWriter, other: dict[str, Any]) -> None:
    sex = breach(writer, "SEX")
    measured(writer, **other)
    check(writer, sex)


def test_drift_of_a_release_is_closed_by_that_release(writer: FactWriter) -> None:
    writer.record("AlertRaised", alert="drift", about=FIRST, summary="half of the features drifted")
    writer.record("DriftMeasured", release=SECOND, verdict="ok")
    check(writer, "half of the features drifted")
    writer.record("DriftMeasured", release=FIRST, verdict="ok")
    check(writer)


def test_aliases_that_were_moved_by_hand(writer: FactWriter) -> None:
    writer.record("AlertRaised", alert="mlflow_aliases", about=None, summary="the alias champion was moved")
    writer.bring(State.CHAMPION)
    check(writer, "the alias champion was moved")
    writer.record("AlertClosed", alert="mlflow_aliases", about=None)
    check(writer)


def test_a_rollback_that_was_not_proven(writer: FactWriter) -> None:
    second = writer.bring(State.CHAMPION)
    writer.record("RollbackOrdered", second, OPERATOR, to=FIRST)
    said = "golden rows do not match on one replica"
    writer.record("AlertRaised", alert="rollback_not_proven", about=None, severity="page", summary=said)
    check(writer, said)
    writer.record("ReleaseRolledBack", second, to=FIRST)
    check(writer, said)
    writer.record("ChampionReinstated", FIRST)
    check(writer)


def test_another_champion_closes_what_was_measured_of_the_one_before(writer: FactWriter) -> None:
    breach(writer, "SEX")
    writer.record("AlertRaised", alert="drift", about=FIRST, summary="half of the features drifted")
    writer.bring(State.CHAMPION)
    check(writer)
