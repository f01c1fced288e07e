"""Review: a second person decides on the canary's evidence, and not on their own release."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll import Refused
from tests.support.bank import FIRST, Bank, facts_of


def offer(bank: Bank, person: str) -> dict[str, Any]:
    """What the ledger says to this person about approving the first release."""
    return next(action for action in bank.person(person).actions(FIRST) if action["verb"] == "approve")


def test_the_author_is_refused_and_a_second_person_approves(in_review: Bank) -> None:
    bank = in_review

    # Given a release of the scientist's whose canary was judged good enough
    asked = bank.fact("ReviewRequested")
    assert asked["actor"]["name"] == "controller"
    assert asked["data"]["judgement"]["verdict"] == "ADVANCE"

    # When its author approves it, then that is refused, and the attempt is on record
    with pytest.raises(Refused) as refused:
        bank.person("scientist").review(FIRST, "approve", "I know it is good")
    assert refused.value.code == "four_eyes"
    attempt = bank.fact("ActionRefused")
    assert (attempt["actor"]["name"], attempt["data"]["code"]) == ("scientist", "four_eyes")
    assert attempt["data"]["attempted"] == f"ReviewDecided {FIRST}"
    assert "author" in offer(bank, "scientist")["why_not"]
    assert bank.release(FIRST).state == "review"

    # When an operator wants to begin the rollout without an approval, then that is refused too
    with pytest.raises(Refused) as refused:
        bank.operator.promote(FIRST, "we are in a hurry")
    assert refused.value.code == "approval"

    # When a validator, who did not make it, approves
    assert offer(bank, "validator")["possible"]
    bank.person("validator").review(FIRST, "approve", "wrong decisions are proven to be fewer")

    # Then the approval names the person, the reason and the very bytes
    decided = bank.fact("ReviewDecided")
    assert (decided["actor"]["name"], decided["actor"]["role"]) == ("validator", "validator")
    assert decided["reason"] == "wrong decisions are proven to be fewer"
    assert decided["data"] == {"decision": "approve", "digest": bank.release(FIRST).digest}
    assert bank.release(FIRST).state == "approved"
    assert bank.recorded("review") == ["ReviewRequested", "ReviewDecided"]
    assert set(bank.recorded("review")) == facts_of("review")


def test_a_rejected_release_leaves_traffic_at_once_and_for_good(in_review: Bank) -> None:
    bank = in_review

    # Given a release in review, which keeps its share while people deliberate
    assert bank.model.share == 0.5

    # When the validator rejects it
    bank.person("validator").review(FIRST, "reject", "the reasons given to customers mislead")

    # Then the baseline answers everybody again, and the digest is barred
    assert bank.recorded("review") == ["ReviewRequested", "ReviewDecided"]
    assert bank.release(FIRST).state == "rejected"
    assert (bank.model.challenger, bank.model.share) == (None, 0.0)
    assert {answer.role for answer in bank.serve_customers(50)} == {"baseline"}
    with pytest.raises(Refused) as refused:
        bank.operator.canary(FIRST, "try again")
    assert refused.value.code == "order"
