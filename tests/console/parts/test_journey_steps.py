"""The step rail and the words of records."""

from __future__ import annotations

from typing import Any

import pytest

from console.formatting import interval, line, number, percent, span
from console.parts.journey_steps import steps
from lineage.facts.registry import FACTS
from lineage.lifecycle import JOURNEY, State
from lineage.state.entities import Approval, ReleaseSummary, Step


def release(state: str, *kinds: str, **more: Any) -> ReleaseSummary:
    history = [Step(kind, seq, f"2026-11-23T10:0{seq}:00Z", "a") for seq, kind in enumerate(kinds)]
    known = {"digest": "", "policy_digest": "", "trained_at": "", "threshold": 0.5, "family": ""}
    known |= {"release": "m@1", "model": "m", "number": 1, "author": "a", "steps": history}
    return ReleaseSummary(state=State(state), **(known | more))


def rail(one: ReleaseSummary) -> dict[str, str]:
    return {step.verb: step.state for step in steps(one)}


def test_the_rail_has_the_verbs_of_the_journey_in_order() -> None:
    assert list(rail(release("trained", "ModelTrained"))) == [verb.name for verb in JOURNEY]


@pytest.mark.parametrize("state", [state.value for state in State])
def test_every_state_has_a_rail(state: str) -> None:
    assert set(rail(release(state, "ModelTrained")).values()) <= {"done", "now", "bad", "todo", "none"}


def test_a_release_in_review_stands_at_review() -> None:
    found = rail(release("review", "ModelTrained", "CandidateValidated", "ReleaseRegistered", "CanaryStarted"))
    assert found["canary"] == "done"
    assert found["review"] == "now"
    assert found["promote"] == "todo"
    assert found["rollback"] == "none"


def test_what_stopped_a_release_is_marked_and_nothing_is_to_come() -> None:
    rejected = rail(release("rejected", "ModelTrained", "CandidateRejected"))
    assert (rejected["validate"], rejected["canary"]) == ("bad", "none")
    aborted = rail(release("quarantined", "ModelTrained", "CanaryStarted", "CanaryAborted"))
    assert (aborted["canary"], aborted["promote"]) == ("bad", "none")
    refused = release("rejected", "ReviewRequested", "ReviewDecided", approvals=[Approval("v", "reject", "", None)])
    assert rail(refused)["review"] == "bad"


def test_every_kind_of_fact_has_a_sentence() -> None:
    for kind in FACTS:
        tone, text = line({"kind": kind, "data": {}})
        assert tone in ("good", "warn", "bad", "info", "quiet")
        assert text


def test_a_bad_outcome_is_never_shown_as_good() -> None:
    record = {"kind": "JobFinished", "data": {"status": "failed", "message": "no rows"}}
    assert line(record) == ("bad", "training job failed: no rows")
    assert line({"kind": "ReviewDecided", "data": {"decision": "reject"}})[0] == "bad"
    assert line({"kind": "SomethingNew", "data": {}}) == ("quiet", "SomethingNew")


def test_numbers_read_well() -> None:
    assert percent(0.029) == "2.9\u00a0%"
    assert percent(0.25) == "25\u00a0%"
    assert percent(1.0) == "100\u00a0%"
    assert percent(None) == "–"
    assert interval([0.012, 0.034]) == "1.2\u00a0–\u00a03.4\u00a0%"
    assert number(12345) == "12,345"
    assert number(0.32345) == "0.323"
    assert span(5520) == "1\u00a0h\u00a032\u00a0min"
