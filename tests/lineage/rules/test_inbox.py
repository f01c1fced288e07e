"""The inbox by role and person: worst first, and nothing that the ledger would refuse."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lineage.lifecycle import State
from lineage.rules.inbox import Item, inbox
from lineage.rules.proposal import Actor
from tests.support.sample_facts import AUTHOR, OPERATOR, VALIDATOR, FactWriter, ManualClock

AUDITOR = Actor("auditor", "auditor")


def kinds(items: list[Item]) -> list[str]:
    return [item.kind for item in items]


@pytest.mark.parametrize(
    ("state", "who", "expected"),
    [
        (State.REVIEW, VALIDATOR, ["review"]),
        (State.REVIEW, Actor("scientist", "validator"), []),
        (State.REVIEW, OPERATOR, []),
        (State.APPROVED, OPERATOR, ["approved"]),
        (State.APPROVED, VALIDATOR, []),
        (State.REGISTERED, OPERATOR, ["registered"]),
        (State.REGISTERED, AUTHOR, []),
        (State.QUARANTINED, OPERATOR, ["quarantined"]),
        (State.QUARANTINED, AUTHOR, ["quarantined"]),
        (State.QUARANTINED, AUDITOR, []),
        (State.REJECTED, AUTHOR, ["rejected"]),
        (State.REJECTED, OPERATOR, []),
        (State.CHAMPION, OPERATOR, []),
    ],
)
def test_a_release_waits_for_those_who_can_act(
    state: State, who: Actor, expected: list[str], writer: FactWriter, clock: ManualClock
) -> None:
    release = writer.bring(state)
    items = inbox(writer.ledger.state, who, clock())
    assert kinds(items) == expected
    assert all(item.release == release for item in items)


def test_a_registered_release_that_the_ledger_would_refuse_does_not_wait(
    writer: FactWriter, clock: ManualClock
) -> None:
    digest = writer.digest(writer.champion())
    release = writer.train(digest=digest)
    writer.check(release)
    writer.record("CandidateValidated", release)
    writer.record("ReleaseRegistered", release, digest=digest)
    assert kinds(inbox(writer.ledger.state, OPERATOR, clock())) == []


def test_of_a_model_the_newest_registered_release_waits(writer: FactWriter, clock: ManualClock) -> None:
    writer.register()
    newest = writer.register()
    (item,) = inbox(writer.ledger.state, OPERATOR, clock())
    assert item.release == newest


def test_while_it_is_killed_nothing_waits_to_take_traffic(writer: FactWriter, clock: ManualClock) -> None:
    writer.bring(State.APPROVED)
    writer.record("KillSwitchPulled", None, OPERATOR)
    assert kinds(inbox(writer.ledger.state, OPERATOR, clock())) == []


def test_the_release_of_a_kill_switch_waits_for_a_second_person(writer: FactWriter, clock: ManualClock) -> None:
    writer.champion()
    pulled = writer.record("KillSwitchPulled", None, OPERATOR)
    writer.record("KillReleaseRequested", None, OPERATOR, pulled=pulled["seq"])
    assert kinds(inbox(writer.ledger.state, OPERATOR, clock())) == []
    assert kinds(inbox(writer.ledger.state, VALIDATOR, clock())) == ["kill_release"]
    assert kinds(inbox(writer.ledger.state, AUTHOR, clock())) == []


def test_alerts_wait_until_they_are_closed(writer: FactWriter, clock: ManualClock) -> None:
    champion = writer.champion()
    writer.record("AlertRaised", alert="fairness", about="SEX", severity="page")
    writer.record("AlertRaised", alert="drift", about=champion)
    assert kinds(inbox(writer.ledger.state, OPERATOR, clock())) == ["alert", "alert"]
    (drift,) = inbox(writer.ledger.state, AUTHOR, clock())
    assert drift.alert is not None
    assert drift.alert.alert == "drift", "a scientist can retrain, and cannot stop anything"
    writer.record("DriftMeasured", release=champion, verdict="ok")
    (fairness,) = inbox(writer.ledger.state, OPERATOR, clock())
    assert fairness.alert is not None
    assert (fairness.rank, fairness.alert.about) == (2, "SEX")


def test_the_worst_comes_first_and_an_overdue_review_is_worse(writer: FactWriter, clock: ManualClock) -> None:
    writer.bring(State.REVIEW)
    (item,) = inbox(writer.ledger.state, VALIDATOR, clock())
    (late,) = inbox(writer.ledger.state, VALIDATOR, clock() + timedelta(days=2))
    assert (item.rank, late.rank) == (1, 1) or late.rank < item.rank


def test_what_was_quarantined_yesterday_is_listed_no_more(writer: FactWriter, clock: ManualClock) -> None:
    writer.bring(State.QUARANTINED)
    assert kinds(inbox(writer.ledger.state, OPERATOR, clock() + timedelta(hours=25))) == []
