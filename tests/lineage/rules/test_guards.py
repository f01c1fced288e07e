"""The guards: each rule is broken once, and says what would make it acceptable."""

from __future__ import annotations

from typing import Any

import pytest

from lineage.errors import InvalidError, PlimsollError, RefusedError, UnknownError
from lineage.facts.eras import LATEST
from lineage.facts.registry import FACTS
from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.rules.draft import Draft
from lineage.rules.eras import RULES
from lineage.rules.proposal import Actor
from lineage.rules.roles import PEOPLE_MAY
from tests.support.sample_facts import (
    AUTHOR,
    CONTROLLER,
    MODEL,
    OPERATOR,
    POLICY,
    TRAINER,
    VALIDATOR,
    Teller,
    digest,
    judgement,
    sample,
)


def refused(teller: Teller, code: str, kind: str, release: str | None, *actor: Any, **data: Any) -> RefusedError:
    before = len(teller.ledger.records)
    with pytest.raises(RefusedError) as caught:
        teller.say(kind, release, *actor, **data)
    assert caught.value.code == code, caught.value.message
    assert len(teller.ledger.records) == before
    return caught.value


def test_nothing_is_validated_while_a_check_is_missing_or_failed(teller: Teller) -> None:
    release = teller.train()
    refused(teller, "checks", "CandidateValidated", release)
    teller.say("CheckCompleted", release)
    error = refused(teller, "checks", "CandidateValidated", release)
    assert error.detail["checks"] == ["group_fairness"]
    teller.check(release, "not_evaluated")
    refused(teller, "checks", "CandidateValidated", release)
    teller.check(release)
    teller.say("CandidateValidated", release)


def test_the_latest_result_of_a_check_counts(teller: Teller) -> None:
    release = teller.train()
    teller.check(release)
    teller.say("CheckCompleted", release, status="fail")
    refused(teller, "checks", "CandidateValidated", release)


@pytest.mark.parametrize("policy", [{}, {"validation": {}}, {"validation": {"checks": []}}])
def test_an_empty_list_of_checks_is_not_a_pass(policy: dict[str, Any], teller: Teller) -> None:
    release = teller.train(policy=policy)
    refused(teller, "checks", "CandidateValidated", release)


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"validation": {"checks": "all"}}, "policy.validation.checks"),
        ({"validation": None}, "policy.validation"),
        ({"canary": {"steps": [0.5, 0.25]}}, "policy.canary.steps"),
        ({"canary": {"steps": [0.0]}}, "policy.canary.steps.0"),
        ({"rollout": {"steps": ["1.0"]}}, "policy.rollout.steps.0"),
        ({"review": {"required": "no"}}, "policy.review.required"),
    ],
)
def test_a_policy_that_the_rules_cannot_read_is_refused(policy: dict[str, Any], field: str, teller: Teller) -> None:
    with pytest.raises(InvalidError) as caught:
        teller.train(policy=policy)
    assert caught.value.field == field
    assert teller.ledger.records == []


def test_a_check_under_another_policy_does_not_count(teller: Teller) -> None:
    refused(teller, "policy", "CheckCompleted", teller.train(), policy_digest=digest("another"))


def test_registered_bytes_are_the_trained_ones(teller: Teller) -> None:
    release = teller.bring(State.VALIDATED)
    refused(teller, "digest", "ReleaseRegistered", release, digest=digest("others"))


def test_one_release_of_a_model_is_in_flight(teller: Teller) -> None:
    second = teller.register()
    first = teller.bring(State.CANARY)
    error = refused(teller, "in_flight", "CanaryStarted", second, OPERATOR)
    assert first in error.message


def test_models_do_not_wait_for_each_other(ledger: Ledger) -> None:
    Teller(ledger, "one").bring(State.CANARY)
    Teller(ledger, "two").bring(State.CANARY)


def test_a_canary_is_compared_with_who_answers_now(teller: Teller) -> None:
    champion = teller.champion()
    release = teller.register()
    refused(teller, "control", "CanaryStarted", release, OPERATOR, control="baseline")
    teller.say("CanaryStarted", release, OPERATOR, control=champion)


def test_the_same_bytes_never_compete_with_themselves(teller: Teller) -> None:
    champion = teller.champion()
    again = teller.train(digest=teller.digest(champion))
    teller.check(again)
    teller.say("CandidateValidated", again)
    teller.say("ReleaseRegistered", again, digest=teller.digest(again))
    refused(teller, "same_bytes", "CanaryStarted", again, OPERATOR, control=champion)
    teller.champion()
    now = teller.ledger.state.models[MODEL].champion
    error = refused(teller, "same_bytes", "CanaryStarted", again, OPERATOR, control=now)
    assert champion in error.message, "it stands by and may come back"


@pytest.mark.parametrize("share", [0.05, 0.25, 1.0])
def test_a_canary_takes_the_first_step_of_its_policy(share: float, teller: Teller) -> None:
    release = teller.register()
    refused(teller, "share", "CanaryStarted", release, OPERATOR, share=share)


def test_only_a_judgement_to_advance_opens_the_next_step(teller: Teller) -> None:
    release = teller.bring(State.CANARY)
    for wrong in ({}, judgement("HOLD"), judgement("ABORT"), {"verdict": "advance"}):
        refused(teller, "judgement", "CanaryStepped", release, judgement=wrong)
    refused(teller, "share", "ReviewRequested", release)
    teller.say("CanaryStepped", release)
    refused(teller, "judgement", "ReviewRequested", release, judgement=judgement("HOLD"))


def test_the_author_never_decides_even_as_a_validator(teller: Teller) -> None:
    release = teller.train(author="validator")
    error = refused(teller, "four_eyes", "ReviewDecided", release, VALIDATOR)
    assert error.status == 403


def test_no_machine_reviews(teller: Teller) -> None:
    release = teller.bring(State.REVIEW)
    for machine in (CONTROLLER, TRAINER):
        refused(teller, "role", "ReviewDecided", release, machine, digest=teller.digest(release))


def test_the_reviewed_bytes_are_those_on_record(teller: Teller) -> None:
    release = teller.bring(State.REVIEW)
    refused(teller, "digest", "ReviewDecided", release, VALIDATOR, digest=digest("others"))


def test_a_rejection_is_final(teller: Teller) -> None:
    release = teller.bring(State.REVIEW)
    teller.say("ReviewDecided", release, VALIDATOR, decision="reject", digest=teller.digest(release))
    view = teller.ledger.state
    assert view.releases[release].state is State.REJECTED
    assert view.models[MODEL].challenger is None
    refused(teller, "barred", "ModelTrained", None, digest=teller.digest(release))


def test_a_review_is_skipped_only_where_the_policy_says_so(ledger: Ledger) -> None:
    teller = Teller(ledger)
    release = teller.bring(State.REVIEW)
    refused(teller, "approval", "RolloutStepped", release, OPERATOR)
    refused(teller, "approval", "RolloutStepped", release, CONTROLLER)
    free = Teller(ledger, "free", POLICY | {"review": {"required": False}})
    free.rollout(free.bring(State.REVIEW))


def test_the_further_steps_of_a_rollout_are_the_controllers(teller: Teller) -> None:
    release = teller.bring(State.ROLLOUT)
    refused(teller, "under_way", "RolloutStepped", release, OPERATOR, share=1.0)


def test_promotion_takes_the_whole_rollout_golden_rows_and_the_right_predecessor(teller: Teller) -> None:
    release = teller.bring(State.ROLLOUT)
    good = {"digest": teller.digest(release)}
    refused(teller, "share", "ReleasePromoted", release, **good)
    teller.say("RolloutStepped", release, share=1.0)
    refused(teller, "champion", "ReleasePromoted", release, replaced="credit-default@7", **good)
    refused(teller, "digest", "ReleasePromoted", release, digest=digest("others"))
    for count, matched in ((0, 0), (32, 31), (32, 0), (31, 32)):
        golden = {"count": count, "matched": matched, "digest": digest("golden")}
        refused(teller, "golden", "ReleasePromoted", release, golden=golden, **good)
    teller.say("ReleasePromoted", release, **good)


@pytest.mark.parametrize(
    "golden", [{}, {"count": "32", "matched": "32"}, {"count": True, "matched": True}, {"count": -1}]
)
def test_golden_rows_are_counted_in_numbers(golden: dict[str, Any], teller: Teller) -> None:
    release = teller.bring(State.ROLLOUT)
    with pytest.raises(InvalidError):
        teller.say("ReleasePromoted", release, digest=teller.digest(release), golden=golden)


def test_a_champion_does_not_retire_before_another_is_promoted(teller: Teller) -> None:
    release = teller.champion()
    with pytest.raises(RefusedError):
        teller.say("ChampionRetired", release)


def test_a_rollback_leads_to_the_previous_champion_or_the_baseline(teller: Teller) -> None:
    first, second = teller.champion(), teller.champion()
    refused(teller, "target", "RollbackOrdered", second, OPERATOR, to="credit-default@9")
    refused(teller, "champion", "RollbackOrdered", first, OPERATOR, to="baseline")
    teller.say("RollbackOrdered", second, OPERATOR, to=first)
    model = teller.ledger.state.models[MODEL]
    assert (model.champion, model.previous, model.rollback and model.rollback.to) == (first, None, first)
    teller.say("ReleaseRolledBack", second, to=first)
    refused(teller, "golden", "ChampionReinstated", first, golden={"count": 32, "matched": 31})
    teller.say("ChampionReinstated", first)
    assert teller.ledger.state.models[MODEL].rollback is None
    refused(teller, "target", "ChampionReinstated", first)


def test_a_rollback_before_the_retirement_is_on_record_ends_too(teller: Teller) -> None:
    first = teller.champion()
    second = teller.rollout(teller.bring(State.APPROVED))
    teller.say("RolloutStepped", second, share=1.0)
    teller.say("ReleasePromoted", second, digest=teller.digest(second), replaced=first)
    teller.say("RollbackOrdered", second, OPERATOR, to=first)
    teller.say("ReleaseRolledBack", second, to=first)
    teller.say("ChampionReinstated", first)
    assert teller.ledger.state.models[MODEL].rollback is None


def test_a_reinstated_release_that_does_not_come_back_can_be_rolled_back_in_turn(teller: Teller) -> None:
    first, second = teller.champion(), teller.champion()
    teller.say("RollbackOrdered", second, OPERATOR, to=first)
    teller.say("RollbackOrdered", first, OPERATOR, to="baseline")
    model = teller.ledger.state.models[MODEL]
    assert (model.champion, model.mode, model.rollback and model.rollback.release) == (None, "baseline", first)
    teller.say("ReleaseRolledBack", second, to=first)
    assert model.rollback is not None, "this was the first order; the second is still under way"
    teller.say("ReleaseRolledBack", first)
    assert model.rollback is None


def test_a_challenger_is_not_stepped_on_evidence_against_a_champion_that_left(teller: Teller) -> None:
    champion = teller.champion()
    release = teller.bring(State.APPROVED)
    teller.say("RollbackOrdered", champion, OPERATOR)
    model = teller.ledger.state.models[MODEL]
    assert (model.share, model.challenger) == (0.0, release)
    error = refused(teller, "control", "RolloutStepped", release, OPERATOR)
    assert "abort it" in error.message
    teller.say("CanaryAborted", release)


def test_bytes_that_were_rolled_back_never_answer_again(teller: Teller) -> None:
    release = teller.bring(State.ROLLING_BACK)
    error = refused(teller, "barred", "ModelTrained", None, digest=teller.digest(release))
    assert "train a new one" in error.message


def test_the_author_of_a_requested_run_is_who_asked(teller: Teller) -> None:
    refused(teller, "author", "ModelTrained", None, request=1)
    asked = teller.say("RetrainRequested", None, AUTHOR)["seq"]
    refused(teller, "author", "ModelTrained", None, request=asked, author="somebody")
    teller.train(request=asked)


@pytest.mark.parametrize("kind", ["JobStarted", "JobFinished"])
def test_a_job_that_nobody_requested_is_unknown(kind: str, teller: Teller) -> None:
    with pytest.raises(UnknownError) as caught:
        teller.say(kind, request=12)
    assert caught.value.field == "request"
    assert teller.ledger.records == []


@pytest.mark.parametrize("kind", sorted(FACTS))
@pytest.mark.parametrize("role", ["scientist", "validator", "operator", "auditor", "client", "nobody"])
def test_a_role_may_state_what_the_table_says_and_nothing_else(kind: str, role: str, ledger: Ledger) -> None:
    if role in PEOPLE_MAY.get(kind, ()):
        return
    about = None if kind == "ModelTrained" else f"{MODEL}@1"
    ledger.state.era = LATEST  # as after its activation
    with pytest.raises(PlimsollError) as caught:
        ledger.append(Draft(kind, Actor("somebody", role), sample(kind), MODEL, about, "because"))
    assert (caught.value.status, caught.value.code) == (403, "role")
    assert ledger.records == []


@pytest.mark.parametrize("kind", sorted(PEOPLE_MAY))
@pytest.mark.parametrize("reason", [None, "", "  \n"])
def test_people_say_why(kind: str, reason: str | None, ledger: Ledger) -> None:
    role = min(PEOPLE_MAY[kind])
    with pytest.raises(InvalidError) as caught:
        ledger.append(Draft(kind, Actor("somebody", role), sample(kind), MODEL, f"{MODEL}@1", reason))
    assert caught.value.field == "reason"


def test_rules_are_about_facts() -> None:
    assert RULES.keys() <= FACTS.keys()


@pytest.mark.parametrize("kind", ["LedgerOpened", "AccountAdded", "PasswordReset", "SignedIn", "ActionRefused"])
def test_what_the_ledger_did_itself_no_service_may_state(kind: str, teller: Teller) -> None:
    with pytest.raises(RefusedError) as caught:
        teller.ledger.append(Draft(kind, CONTROLLER, sample(kind)))
    assert caught.value.code == "role"
    assert "the ledger service itself" in caught.value.message
