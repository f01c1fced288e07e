"""What waits for whom: the ledger's inbox items as rows, over real histories."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest

from console.formatting import moment
from console.inbox import Row, headline, rows
from console.judgement_text import evidence
from lineage.lifecycle import State
from lineage.rules.draft import Draft
from lineage.rules.inbox import inbox
from lineage.rules.proposal import Actor
from lineage.rules.views import Inbox, inbox_view
from tests.support.accounts import in_era
from tests.support.ledger_in_memory import START, MemoryLedger
from tests.support.sample_facts import MODEL, OPERATOR, VALIDATOR, FactWriter, judgement

NOW = START + timedelta(hours=1)
AUDITOR, SCIENTIST = Actor("auditor", "auditor"), Actor("scientist", "scientist")


@pytest.fixture
def writer() -> FactWriter:
    return FactWriter(MemoryLedger())  # type: ignore[arg-type]


def asked(writer: FactWriter, who: Actor, later: timedelta = timedelta()) -> Inbox:
    """The inbox as the ledger service gives it, parsed."""
    items = inbox(writer.ledger.state, in_era(writer.ledger.state, "", who), NOW + later)
    return inbox_view(orjson.loads(orjson.dumps({"items": items, "total": len(items)})))


def shown(writer: FactWriter, who: Actor, later: timedelta = timedelta()) -> list[Row]:
    return rows(asked(writer, who, later).items, NOW + later)


def in_review(writer: FactWriter, hours: float) -> str:
    release = writer.bring(State.CANARY)
    writer.record("CanaryStepped", release)
    due = (NOW + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    writer.record("ReviewRequested", release, due_at=due)
    return release


def test_nothing_waits_when_nothing_is_there(writer: FactWriter) -> None:
    assert shown(writer, OPERATOR) == []
    assert headline(0, [], NOW) == "Nothing waits for you"


def test_a_review_waits_for_a_second_validator(writer: FactWriter) -> None:
    release = in_review(writer, 23)
    (row,) = shown(writer, VALIDATOR)
    assert (row.status, row.subject, row.verb) == ("Waiting for you", release, "Review")
    assert row.href == f"/release/{release}"
    assert "due in 23\u00a0h" in row.what
    assert row.calm == "By scientist. It carries 25\u00a0% while it waits."
    for other in (OPERATOR, AUDITOR, Actor("scientist", "validator")):
        assert shown(writer, other) == []


def test_an_overdue_review_is_worse(writer: FactWriter) -> None:
    in_review(writer, -6)
    (row,) = shown(writer, VALIDATOR)
    assert row.status == "Blocked"
    assert "overdue by 6\u00a0h" in row.what


def test_a_quarantine_comes_first_and_leaves_after_a_day(writer: FactWriter) -> None:
    release = writer.bring(State.CANARY)
    writer.record("CanaryAborted", release, judgement=judgement("ABORT") | {"reasons": ["wrong decisions 6.2 %"]})
    approved = writer.bring(State.APPROVED)
    first, second = shown(writer, OPERATOR)
    assert (first.subject, first.status, second.subject) == (release, "Blocked", approved)
    assert first.what == "Quarantined: wrong decisions 6.2 %"
    assert first.calm == "All traffic is back with the baseline."
    assert second.what == "Approved by validator, waits to be promoted"
    assert [row.subject for row in shown(writer, OPERATOR, timedelta(hours=25))] == [approved]


def test_a_rejected_release_is_its_authors(writer: FactWriter) -> None:
    release = writer.bring(State.REJECTED)
    (row,) = shown(writer, SCIENTIST)
    assert (row.subject, row.what) == (release, "Rejected: failed beats baseline, group fairness")
    assert row.calm == "No customers were affected."
    assert shown(writer, OPERATOR) == []


def test_a_held_canary_waits_for_the_operator(writer: FactWriter) -> None:
    release = writer.bring(State.CANARY)
    writer.record("CanaryHeld", release, why="96 of 150 subjects seen")
    (row,) = shown(writer, OPERATOR)
    assert (row.status, row.what) == ("Warning", "Canary held: 96 of 150 subjects seen")
    assert row.calm == "Held at 10\u00a0%. The baseline answers the rest."


def test_a_registered_release_waits_only_while_its_canary_may_start(writer: FactWriter) -> None:
    release = writer.register()
    assert [(row.verb, row.subject) for row in shown(writer, OPERATOR)] == [("Start", release)]
    writer.record("ShadowStarted", release, OPERATOR)
    assert shown(writer, OPERATOR)[0].calm == "It scores in the shadow. No customers see it yet."
    writer.ledger.state.barred.add(writer.digest(release))  # by a release of an earlier era with the same bytes
    assert shown(writer, OPERATOR) == [], "its bytes are barred now"


def test_a_release_of_the_kill_switch_waits_for_a_second_person(writer: FactWriter) -> None:
    champion = writer.champion()
    ledger = writer.ledger
    for model, subject, href in ((MODEL, MODEL, f"/release/{champion}"), (None, "all models", "/")):
        pulled = ledger.append(Draft("KillSwitchPulled", VALIDATOR, {"answer": "baseline"}, model, None, "odd"))
        ledger.append(Draft("KillReleaseRequested", OPERATOR, {"pulled": pulled["seq"]}, model, None, "mended"))
        row = next(row for row in shown(writer, VALIDATOR) if row.subject == subject)
        assert row.what == "operator asks to release the kill switch: mended"
        assert row.href == href
    assert shown(writer, OPERATOR) == [], "not for the person who asked"
    assert shown(writer, AUDITOR) == []


def test_while_it_is_killed_no_row_says_that_the_champion_answers(writer: FactWriter) -> None:
    writer.register()
    held = writer.canary(writer.register())
    writer.record("CanaryHeld", held, why="few subjects")
    writer.ledger.append(Draft("KillSwitchPulled", VALIDATOR, {"answer": "baseline"}, None, None, "odd"))
    (row,) = shown(writer, OPERATOR)
    assert (row.subject, row.calm) == (held, "Held at 10\u00a0%. Killed: the baseline answers.")


def test_open_breakers_are_one_row(writer: FactWriter) -> None:
    release = writer.champion()
    for replica in ("a", "b"):
        data: dict[str, Any] = {"release": release, "replica": replica, "cause": "constant_scores"}
        writer.record("BreakerOpened", **data, since="2026-11-23T10:05:00.000000Z")
    (row,) = shown(writer, OPERATOR)
    assert (row.status, row.subject, row.href) == ("Failed", MODEL, f"/release/{release}")
    assert "the baseline answers on 2\u00a0replicas: constant scores since" in row.what
    assert shown(writer, VALIDATOR) == []


def test_only_the_last_job_counts(writer: FactWriter) -> None:
    writer.champion()
    request = writer.record("RetrainRequested")["seq"]
    writer.record("JobFinished", request=request, job_id="1", status="failed", message="no rows")
    (row,) = shown(writer, SCIENTIST)
    assert row.what == f"Training job {request} failed: no rows"
    assert shown(writer, Actor("other", "scientist")) == []
    writer.record("RetrainRequested")
    assert shown(writer, SCIENTIST) == []


def test_evidence_names_the_metric_closest_to_its_limit() -> None:
    def metric(title: str, rate: float | None, limit: float) -> dict[str, Any]:
        return {"metric": title, "title": title, "challenger": {"rate": rate}, "limit": limit}

    metrics = [metric("Errors", 0.01, 0.03), metric("Slow", 0.09, 0.1), metric("Wrong", None, 0.1)]
    assert evidence({"metrics": metrics}) == "slow 9\u00a0% (limit 10\u00a0%)"
    assert evidence(None) == "no judgement on record"


def test_a_limit_relative_to_the_champion_is_shown_as_a_rate() -> None:
    metric = {"metric": "wrong", "champion": {"rate": 0.02}, "challenger": {"rate": 0.024}, "ratio_limit": 1.5}
    assert evidence({"metrics": [metric | {"limit": None}]}) == "wrong 2.4\u00a0% (limit 3\u00a0%)"


def test_the_headline_counts_and_dates(writer: FactWriter) -> None:
    writer.bring(State.APPROVED)
    found = asked(writer, OPERATOR)
    age = NOW - moment(found.items[0].at)
    assert headline(found.total, found.items, NOW).startswith("1\u00a0item · oldest ")
    assert headline(70, found.items, NOW) == f"70\u00a0items · oldest {int(age.total_seconds()) // 60}\u00a0min"
