"""The guards: each rule is violated once, and the refusal names what would be acceptable."""

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
from lineage.rules.roles import PEOPLE_MAY, READERS_LEAVE
from tests.support.accounts import begin_era_3
from tests.support.sample_facts import (
    AUTHOR,
    CONTROLLER,
    MACHINE,
    MODEL,
    OPERATOR,
    POLICY,
    TRAINER,
    VALIDATOR,
    FactWriter,
    digest,
    judgement,
    sample,
    sample_of,
)


def refused(writer: FactWriter, code: str, kind: str, release: str | None, *actor: Any, **data: Any) -> RefusedError:
    before = len(writer.ledger.records)
    with pytest.raises(RefusedError) as caught:
        writer.record(kind, release, *actor, **data)
    assert caught.value.code == code, caught.value.message
    assert len(writer.ledger.records) == before
    return caught.value


def test_nothing_is_validated_while_a_check_is_missing_or_failed(writer: FactWriter) -> None:
    release = writer.train()
    refused(writer, "checks", "CandidateValidated", release)
    writer.record("CheckCompleted", release)
    error = refused(writer, "checks", "CandidateValidated", release)
    assert error.detail["checks"] == ["group_fairness"]
    writer.check(release, "not_evaluated")
    refused(writer, "checks", "CandidateValidated", release)
    writer.check(release)
    writer.record("CandidateValidated", release)


def test_the_latest_result_of_a_check_counts(writer: FactWriter) -> None:
    release = writer.train()
    writer.check(release)
    writer.record("CheckCompleted", release, status="fail")
    refused(writer, "checks", "CandidateValidated", release)


@pytest.mark.parametrize("policy", [{}, {"validation": {}}, {"validation": {"checks": []}}])
def test_an_empty_list_of_checks_is_not_a_pass(policy: dict[str, Any], writer: FactWriter) -> None:
    release = writer.train(policy=policy)
    refused(writer, "checks", "CandidateValidated", release)


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
def test_a_policy_that_the_rules_cannot_read_is_refused(policy: dict[str, Any], field: str, writer: FactWriter) -> None:
    with pytest.raises(InvalidError) as caught:
        writer.train(policy=policy)
    assert caught.value.field == field
    assert writer.ledger.records == []


def test_a_check_under_another_policy_does_not_count(writer: FactWriter) -> None:
    refused(writer, "policy", "CheckCompleted", writer.train(), policy_digest=digest("another"))


def test_registered_bytes_are_the_trained_ones(writer: FactWriter) -> None:
    release = writer.bring(State.VALIDATED)
    refused(writer, "digest", "ReleaseRegistered", release, digest=digest("others"))


def test_one_release_of_a_model_is_in_flight(writer: FactWriter) -> None:
    second = writer.register()
    first = writer.bring(State.CANARY)
    error = refused(writer, "in_flight", "CanaryStarted", second, OPERATOR)
    assert first in error.message


def test_models_do_not_wait_for_each_other(ledger: Ledger) -> None:
    FactWriter(ledger, "one").bring(State.CANARY)
    FactWriter(ledger, "two").bring(State.CANARY)


def test_a_canary_is_compared_with_who_answers_now(writer: FactWriter) -> None:
    champion = writer.champion()
    release = writer.register()
    refused(writer, "control", "CanaryStarted", release, OPERATOR, control="baseline")
    writer.record("CanaryStarted", release, OPERATOR, control=champion)


def test_the_same_bytes_never_compete_with_themselves(writer: FactWriter) -> None:
    champion = writer.champion()
    again = writer.train(digest=writer.digest(champion))
    writer.check(again)
    writer.record("CandidateValidated", again)
    writer.record("ReleaseRegistered", again, digest=writer.digest(again))
    refused(writer, "same_bytes", "CanaryStarted", again, OPERATOR, control=champion)
    writer.champion()
    now = writer.ledger.state.models[MODEL].champion
    error = refused(writer, "same_bytes", "CanaryStarted", again, OPERATOR, control=now)
    assert champion in error.message, "it stands by and may come back"


@pytest.mark.parametrize("share", [0.05, 0.25, 1.0])
def test_a_canary_takes_the_first_step_of_its_policy(share: float, writer: FactWriter) -> None:
    release = writer.register()
    refused(writer, "share", "CanaryStarted", release, OPERATOR, share=share)


def test_only_a_judgement_to_advance_opens_the_next_step(writer: FactWriter) -> None:
    release = writer.bring(State.CANARY)
    for wrong in ({}, judgement("HOLD"), judgement("ABORT"), {"verdict": "advance"}):
        refused(writer, "judgement", "CanaryStepped", release, judgement=wrong)
    refused(writer, "share", "ReviewRequested", release)
    writer.record("CanaryStepped", release)
    refused(writer, "judgement", "ReviewRequested", release, judgement=judgement("HOLD"))


def test_the_author_never_decides_even_as_a_validator(writer: FactWriter) -> None:
    release = writer.train(author="validator")
    error = refused(writer, "four_eyes", "ReviewDecided", release, VALIDATOR)
    assert error.status == 403


def test_no_machine_reviews(writer: FactWriter) -> None:
    release = writer.bring(State.REVIEW)
    for machine in (CONTROLLER, TRAINER):
        refused(writer, "role", "ReviewDecided", release, machine, digest=writer.digest(release))


def test_the_reviewed_bytes_are_those_on_record(writer: FactWriter) -> None:
    release = writer.bring(State.REVIEW)
    refused(writer, "digest", "ReviewDecided", release, VALIDATOR, digest=digest("others"))


def test_a_rejection_is_final(writer: FactWriter) -> None:
    release = writer.bring(State.REVIEW)
    writer.record("ReviewDecided", release, VALIDATOR, decision="reject", digest=writer.digest(release))
    view = writer.ledger.state
    assert view.releases[release].state is State.REJECTED
    assert view.models[MODEL].challenger is None
    refused(writer, "barred", "ModelTrained", None, digest=writer.digest(release))


def test_a_review_is_skipped_only_where_the_policy_says_so(ledger: Ledger) -> None:
    writer = FactWriter(ledger)
    release = writer.bring(State.REVIEW)
    refused(writer, "approval", "RolloutStepped", release, OPERATOR)
    refused(writer, "approval", "RolloutStepped", release, CONTROLLER)
    free = FactWriter(ledger, "free", POLICY | {"review": {"required": False}})
    free.rollout(free.bring(State.REVIEW))


def test_the_further_steps_of_a_rollout_are_the_controllers(writer: FactWriter) -> None:
    release = writer.bring(State.ROLLOUT)
    refused(writer, "under_way", "RolloutStepped", release, OPERATOR, share=1.0)


def test_promotion_takes_the_whole_rollout_golden_rows_and_the_right_predecessor(writer: FactWriter) -> None:
    release = writer.bring(State.ROLLOUT)
    good = {"digest": writer.digest(release)}
    refused(writer, "share", "ReleasePromoted", release, **good)
    writer.record("RolloutStepped", release, share=1.0)
    refused(writer, "champion", "ReleasePromoted", release, replaced="credit-default@7", **good)
    refused(writer, "digest", "ReleasePromoted", release, digest=digest("others"))
    for count, matched in ((0, 0), (32, 31), (32, 0), (31, 32)):
        golden = {"count": count, "matched": matched, "digest": digest("golden")}
        refused(writer, "golden", "ReleasePromoted", release, golden=golden, **good)
    writer.record("ReleasePromoted", release, **good)


@pytest.mark.parametrize(
    "golden", [{}, {"count": "32", "matched": "32"}, {"count": True, "matched": True}, {"count": -1}]
)
def test_golden_rows_are_counted_in_numbers(golden: dict[str, Any], writer: FactWriter) -> None:
    release = writer.bring(State.ROLLOUT)
    with pytest.raises(InvalidError):
        writer.record("ReleasePromoted", release, digest=writer.digest(release), golden=golden)


def test_a_champion_does_not_retire_before_another_is_promoted(writer: FactWriter) -> None:
    release = writer.champion()
    with pytest.raises(RefusedError):
        writer.record("ChampionRetired", release)


def test_a_rollback_leads_to_the_previous_champion_or_the_baseline(writer: FactWriter) -> None:
    first, second = writer.champion(), writer.champion()
    refused(writer, "target", "RollbackOrdered", second, OPERATOR, to="credit-default@9")
    refused(writer, "champion", "RollbackOrdered", first, OPERATOR, to="baseline")
    writer.record("RollbackOrdered", second, OPERATOR, to=first)
    model = writer.ledger.state.models[MODEL]
    assert (model.champion, model.previous, model.rollback and model.rollback.to) == (first, None, first)
    writer.record("ReleaseRolledBack", second, to=first)
    refused(writer, "golden", "ChampionReinstated", first, golden={"count": 32, "matched": 31})
    writer.record("ChampionReinstated", first)
    assert writer.ledger.state.models[MODEL].rollback is None
    refused(writer, "target", "ChampionReinstated", first)


def test_a_rollback_before_the_retirement_is_on_record_ends_too(writer: FactWriter) -> None:
    first = writer.champion()
    second = writer.rollout(writer.bring(State.APPROVED))
    writer.record("RolloutStepped", second, share=1.0)
    writer.record("ReleasePromoted", second, digest=writer.digest(second), replaced=first)
    writer.record("RollbackOrdered", second, OPERATOR, to=first)
    writer.record("ReleaseRolledBack", second, to=first)
    writer.record("ChampionReinstated", first)
    assert writer.ledger.state.models[MODEL].rollback is None


def test_a_reinstated_release_that_does_not_come_back_can_be_rolled_back_in_turn(writer: FactWriter) -> None:
    first, second = writer.champion(), writer.champion()
    writer.record("RollbackOrdered", second, OPERATOR, to=first)
    writer.record("RollbackOrdered", first, OPERATOR, to="baseline")
    model = writer.ledger.state.models[MODEL]
    assert (model.champion, model.mode, model.rollback and model.rollback.release) == (None, "baseline", first)
    writer.record("ReleaseRolledBack", second, to=first)
    assert model.rollback is not None, "this was the first order; the second is still under way"
    writer.record("ReleaseRolledBack", first)
    assert model.rollback is None


def test_a_challenger_is_not_stepped_on_evidence_against_a_champion_that_left(writer: FactWriter) -> None:
    champion = writer.champion()
    release = writer.bring(State.APPROVED)
    writer.record("RollbackOrdered", champion, OPERATOR)
    model = writer.ledger.state.models[MODEL]
    assert (model.share, model.challenger) == (0.0, release)
    error = refused(writer, "control", "RolloutStepped", release, OPERATOR)
    assert "abort it" in error.message
    writer.record("CanaryAborted", release)


def test_bytes_that_were_rolled_back_never_answer_again(writer: FactWriter) -> None:
    release = writer.bring(State.ROLLING_BACK)
    error = refused(writer, "barred", "ModelTrained", None, digest=writer.digest(release))
    assert "train a new one" in error.message


def test_the_author_of_a_requested_run_is_who_asked(writer: FactWriter) -> None:
    refused(writer, "author", "ModelTrained", None, request=1)
    asked = writer.record("RetrainRequested", None, AUTHOR)["seq"]
    refused(writer, "author", "ModelTrained", None, request=asked, author="somebody")
    writer.train(request=asked)


@pytest.mark.parametrize("kind", ["JobStarted", "JobFinished"])
def test_a_job_that_nobody_requested_is_unknown(kind: str, writer: FactWriter) -> None:
    with pytest.raises(UnknownError) as caught:
        writer.record(kind, request=12)
    assert caught.value.field == "request"
    assert writer.ledger.records == []


@pytest.mark.parametrize("kind", sorted(FACTS))
@pytest.mark.parametrize("role", ["scientist", "validator", "operator", "auditor", "client", "nobody"])
def test_a_role_may_state_what_the_table_says_and_nothing_else(kind: str, role: str, ledger: Ledger) -> None:
    if role in (PEOPLE_MAY | READERS_LEAVE).get(kind, ()):
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
    begin_era_3(ledger)
    role = min(PEOPLE_MAY[kind])
    with pytest.raises(InvalidError) as caught:
        ledger.append(Draft(kind, Actor("somebody", role), sample(kind), MODEL, f"{MODEL}@1", reason))
    assert caught.value.field == "reason"


def test_rules_are_about_facts() -> None:
    assert RULES.keys() <= FACTS.keys()


@pytest.mark.parametrize("era", [1, 3])
@pytest.mark.parametrize("kind", ["LedgerOpened", "RulesActivated", "SignedIn", "ActionRefused"])
def test_what_the_ledger_did_itself_no_service_may_state(kind: str, era: int, writer: FactWriter) -> None:
    if era == 3:
        begin_era_3(writer.ledger)
    with pytest.raises(RefusedError) as caught:
        writer.ledger.append(Draft(kind, MACHINE if era == 3 else CONTROLLER, sample_of(era, kind)))
    assert caught.value.code == "role"
    assert "the ledger service itself" in caught.value.message
