"""Traffic is drawn as that of the release which answered: a baseline's decisions are the baseline's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from console.parts.measurements import hourly_rate, kills, traffic_series
from lineage.lifecycle import State
from lineage.rules.draft import Draft
from tests.support.ledger_in_memory import START, MemoryLedger
from tests.support.sample_facts import CONTROLLER, MODEL, OPERATOR, VALIDATOR, FactWriter

BASELINE = f"{MODEL} baseline"


@pytest.fixture
def writer() -> FactWriter:
    return FactWriter(MemoryLedger())  # type: ignore[arg-type]


def seal(writer: FactWriter, **rows: int) -> None:
    """A minute of sealed decisions, beginning with the next record; `r1=5` are five of the first release."""
    stamps = [
        (START + timedelta(seconds=writer.ledger.state.seq + 1 + more)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for more in (0, 0.5)
    ]
    releases = {f"{MODEL}@{name[1:]}": count for name, count in rows.items()}
    data = {"from": stamps[0], "to": stamps[1], "releases": releases, "rows": sum(rows.values())}
    writer.record("DecisionsSealed", **data)


def drawn(writer: FactWriter) -> dict[str, int]:
    """How many segments each series has points of."""
    records: list[dict[str, Any]] = list(reversed(writer.ledger.records))
    sealed = [record for record in records if record["kind"] == "DecisionsSealed"]
    switched = [record for record in records if record["kind"] in ("KillSwitchPulled", "KillSwitchReleased")]
    found = traffic_series(sealed, writer.ledger.state.releases, kills(switched))
    return {name: len(points) for name, points in found.items()}


def test_after_a_quarantine_the_baseline_answers(writer: FactWriter) -> None:
    release = writer.bring(State.CANARY)
    seal(writer, r1=20)
    assert drawn(writer) == {f"{release} and baseline": 1}, "both are counted under the release on trial"
    writer.record("CanaryAborted", release)
    seal(writer, r1=20)
    seal(writer, r1=20)
    assert drawn(writer) == {f"{release} and baseline": 1, BASELINE: 2}


def test_before_any_canary_the_baseline_answers(writer: FactWriter) -> None:
    writer.register()
    seal(writer, r1=20)
    assert drawn(writer) == {BASELINE: 1}


def test_a_champion_and_its_challenger_are_drawn_apart(writer: FactWriter) -> None:
    first, second = writer.champion(), writer.bring(State.CANARY)
    seal(writer, r1=90, r2=10)
    assert drawn(writer) == {first: 1, second: 1}


def test_a_rejected_release_answers_no_more(writer: FactWriter) -> None:
    release = writer.bring(State.REVIEW)
    data = {"decision": "reject", "digest": writer.digest(release)}
    writer.ledger.append(Draft("ReviewDecided", VALIDATOR, data, MODEL, release, "misleading reasons"))
    seal(writer, r1=20)
    assert drawn(writer) == {BASELINE: 1}


@pytest.mark.parametrize("model", [MODEL, None])
def test_while_it_is_killed_the_baseline_answers(writer: FactWriter, model: str | None) -> None:
    champion = writer.champion()
    pulled = writer.ledger.append(Draft("KillSwitchPulled", OPERATOR, {"answer": "baseline"}, model, None, "odd"))
    seal(writer, r1=20)
    asked = {"pulled": pulled["seq"]}
    request = writer.ledger.append(Draft("KillReleaseRequested", OPERATOR, asked, model, None, "mended"))
    asked["requested"] = request["seq"]
    writer.ledger.append(Draft("KillSwitchReleased", VALIDATOR, asked, model, None, "mended"))
    seal(writer, r1=20)
    assert drawn(writer) == {BASELINE: 1, champion: 1}


def test_after_a_rollback_to_the_baseline_and_to_a_release(writer: FactWriter) -> None:
    first, second = writer.champion(), writer.champion()
    writer.record("RollbackOrdered", second, OPERATOR, to=first)
    writer.record("ReleaseRolledBack", second, CONTROLLER, to=first)
    writer.record("ChampionReinstated", first)
    seal(writer, r1=20)
    assert drawn(writer) == {first: 1}
    writer.record("RollbackOrdered", first, OPERATOR, to="baseline")
    seal(writer, r1=20)
    assert drawn(writer) == {first: 1, BASELINE: 1}


def test_a_release_that_is_not_known_is_drawn_by_its_name(writer: FactWriter) -> None:
    writer.champion()
    seal(writer, r9=5)
    assert drawn(writer) == {f"{MODEL}@9": 1}


def test_an_hourly_rate_needs_two_segments(writer: FactWriter) -> None:
    writer.champion()
    seal(writer, r1=10)
    assert hourly_rate(writer.ledger.records[-1:]) is None
    seal(writer, r1=10)
    rate = hourly_rate([record for record in reversed(writer.ledger.records) if record["kind"] == "DecisionsSealed"])
    assert rate == pytest.approx(20 / 1.5 * 3600)
