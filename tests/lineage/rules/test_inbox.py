"""What waits for whom: by role and person, worst first, and nothing that the ledger would refuse."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lineage.lifecycle import State
from lineage.rules.inbox import Item, inbox
from lineage.rules.proposal import Actor
from tests.support.sample_facts import AUTHOR, OPERATOR, VALIDATOR, Hand, Teller

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
    state: State, who: Actor, expected: list[str], teller: Teller, clock: Hand
) -> None:
    release = teller.bring(state)
    items = inbox(teller.ledger.state, who, clock())
    assert kinds(items) == expected
    assert all(item.release == release for item in items)


def test_a_registered_release_that_the_ledger_would_refuse_does_not_wait(teller: Teller, clock: Hand) -> None:
    digest = teller.digest(teller.champion())
    release = teller.train(digest=digest)
    teller.check(release)
    teller.say("CandidateValidated", release)
    teller.say("ReleaseRegistered", release, digest=digest)
    assert kinds(inbox(teller.ledger.state, OPERATOR, clock())) == []


def test_of_a_model_the_newest_registered_release_waits(teller: Teller, clock: Hand) -> None:
    teller.register()
    newest = teller.register()
    (item,) = inbox(teller.ledger.state, OPERATOR, clock())
    assert item.release == newest


def test_while_it_is_killed_nothing_waits_to_take_traffic(teller: Teller, clock: Hand) -> None:
    teller.bring(State.APPROVED)
    teller.say("KillSwitchPulled", None, OPERATOR)
    assert kinds(inbox(teller.ledger.state, OPERATOR, clock())) == []


def test_the_release_of_a_kill_switch_waits_for_a_second_person(teller: Teller, clock: Hand) -> None:
    teller.champion()
    pulled = teller.say("KillSwitchPulled", None, OPERATOR)
    teller.say("KillReleaseRequested", None, OPERATOR, pulled=pulled["seq"])
    assert kinds(inbox(teller.ledger.state, OPERATOR, clock())) == []
    assert kinds(inbox(teller.ledger.state, VALIDATOR, clock())) == ["kill_release"]
    assert kinds(inbox(teller.ledger.state, AUTHOR, clock())) == []


def test_alerts_wait_until_they_are_closed(teller: Teller, clock: Hand) -> None:
    champion = teller.champion()
    teller.say("AlertRaised", alert="fairness", about="SEX", severity="page")
    teller.say("AlertRaised", alert="drift", about=champion)
    assert kinds(inbox(teller.ledger.state, OPERATOR, clock())) == ["alert", "alert"]
    (drift,) = inbox(teller.ledger.state, AUTHOR, clock())
    assert drift.alert is not None
    assert drift.alert.alert == "drift", "a scientist can retrain, and cannot stop anything"
    teller.say("DriftMeasured", release=champion, verdict="ok")
    (fairness,) = inbox(teller.ledger.state, OPERATOR, clock())
    assert fairness.alert is not None
    assert (fairness.rank, fairness.alert.about) == (2, "SEX")


def test_the_worst_comes_first_and_an_overdue_review_is_worse(teller: Teller, clock: Hand) -> None:
    teller.bring(State.REVIEW)
    (item,) = inbox(teller.ledger.state, VALIDATOR, clock())
    (late,) = inbox(teller.ledger.state, VALIDATOR, clock() + timedelta(days=2))
    assert (item.rank, late.rank) == (1, 1) or late.rank < item.rank


def test_what_was_quarantined_yesterday_is_listed_no_more(teller: Teller, clock: Hand) -> None:
    teller.bring(State.QUARANTINED)
    assert kinds(inbox(teller.ledger.state, OPERATOR, clock() + timedelta(hours=25))) == []
