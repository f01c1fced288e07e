"""Rules of accounts: two admins give, one takes away, and no account acts that the record does not know as active."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lineage.errors import InvalidError, PlimsollError, RefusedError, UnknownError
from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.rules import account_actions as acts
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.state.fold import LedgerState
from lineage.state.people import Account
from tests.support.accounts import PLATFORM_ACTOR, begin_era_3, in_era
from tests.support.sample_facts import MACHINE, MODEL, FactWriter, sample

WHY = "as agreed in the meeting"
ADMIN, SECOND, THIRD = (Actor(name, "admin") for name in ("admin", "second-admin", "third-admin"))
PEOPLE = [
    Actor("scientist", "scientist"),
    Actor("validator", "validator"),
    Actor("operator", "operator"),
    Actor("auditor", "auditor"),
    Actor("omar", "operator"),
    Actor("omar", "validator"),
    Actor("omar", "scientist"),
    ADMIN,
    SECOND,
]


class Bureau:
    """A ledger in era 3 with people; `who` is the account of a name."""

    def __init__(self, ledger: Ledger) -> None:
        begin_era_3(ledger, PEOPLE)
        self.ledger, self.writer = ledger, FactWriter(ledger)

    @property
    def state(self) -> LedgerState:
        return self.ledger.state

    def account(self, name: str) -> Account:
        found = self.state.people.named(name)
        assert found is not None
        return found

    def actor(self, who: Actor | str) -> Actor:
        account = self.account(who if isinstance(who, str) else who.name)
        return Actor(account.name, account.roles[0], account.id, account.roles[1:])

    def do(self, who: Actor | str, make: Callable[..., Draft], *arguments: Any) -> Any:
        actor = self.actor(who)
        needs_state = make.__code__.co_varnames[0] == "state"
        return self.ledger.append(make(*((self.state,) if needs_state else ()), actor, WHY, *arguments))

    def add(self, name: str, *roles: str, kind: str = "person", by: Actor = ADMIN, second: Actor = SECOND) -> Account:
        asked = self.do(by, acts.request_account, name, kind, roles, None)
        self.do(second, acts.confirm_request, asked["seq"])
        return self.account(name)

    def refused(self, code: str, who: Actor | str, make: Callable[..., Draft], *arguments: Any) -> None:
        before = len(self.ledger.records)
        with pytest.raises(RefusedError) as caught:
            self.do(who, make, *arguments)
        assert caught.value.code == code, caught.value.message
        assert len(self.ledger.records) == before


@pytest.fixture
def bureau(ledger: Ledger) -> Bureau:
    return Bureau(ledger)


def test_one_admin_requests_and_another_confirms(bureau: Bureau) -> None:
    asked = bureau.do(ADMIN, acts.request_account, "R.Okafor", "person", ["validator", "operator"], None)
    assert bureau.state.people.named("r.okafor") is None, "a request gives nothing"
    bureau.refused("four_eyes", ADMIN, acts.confirm_request, asked["seq"])
    added = bureau.do(SECOND, acts.confirm_request, asked["seq"])
    account = bureau.account("r.okafor")
    assert (account.roles, account.kind, account.bootstrap) == (("validator", "operator"), "person", False)
    assert account.id.startswith("p-")
    assert (added["actor"]["name"], added["data"]["requested"]) == ("second-admin", asked["seq"])
    with pytest.raises(UnknownError, match="no open request"):
        bureau.do(SECOND, acts.confirm_request, asked["seq"])


def test_without_a_request_nothing_is_given(bureau: Bureau) -> None:
    data = sample("AccountAdded", account="p-new", name="new.person", bootstrap=False)
    for kind, given in (
        ("AccountAdded", data),
        ("RolesChanged", {"account": "p-auditor", "roles": ["auditor", "validator"], "requested": None}),
        ("PasswordReset", {"account": "p-auditor", "requested": None}),
    ):
        with pytest.raises(RefusedError) as caught:
            bureau.ledger.append(Draft(kind, bureau.actor(ADMIN), given, reason=WHY))
        assert caught.value.code in ("two_admins", "bootstrap"), caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"roles": ["operator"]},
        {"name": "x.okafor"},
        {"account": "p-other"},
        {"kind": "machine"},
        {"identity": "https://a#b"},
    ],
)
def test_a_confirmation_repeats_the_request_word_for_word(change: dict[str, Any], bureau: Bureau) -> None:
    asked = bureau.do(ADMIN, acts.request_account, "r.okafor", "person", ["validator"], None)
    draft = acts.confirm_request(bureau.state, bureau.actor(SECOND), WHY, asked["seq"])
    with pytest.raises(PlimsollError):
        bureau.ledger.append(Draft(draft.kind, draft.actor, draft.data | change, reason=WHY))
    assert bureau.state.people.named("r.okafor") is None


def test_a_request_confirms_only_what_it_asks_for(bureau: Bureau) -> None:
    asked = bureau.do(ADMIN, acts.request_change, "auditor", "reset")
    data = {"account": "p-auditor", "roles": ["auditor", "validator"], "requested": asked["seq"]}
    with pytest.raises(RefusedError) as caught:
        bureau.ledger.append(Draft("RolesChanged", bureau.actor(SECOND), data, reason=WHY))
    assert caught.value.code == "request"


def test_a_withdrawn_request_gives_nothing(bureau: Bureau) -> None:
    asked = bureau.do(ADMIN, acts.request_account, "r.okafor", "person", ["validator"], None)
    bureau.do(SECOND, acts.withdraw_request, asked["seq"])
    with pytest.raises(UnknownError):
        bureau.do(SECOND, acts.confirm_request, asked["seq"])
    bureau.add("r.okafor", "validator")


def test_an_open_request_is_not_made_twice(bureau: Bureau) -> None:
    bureau.do(ADMIN, acts.request_account, "r.okafor", "person", ["validator"], None)
    bureau.refused("asked", SECOND, acts.request_account, "r.okafor", "person", ["operator"], None)


def test_taking_away_takes_one_admin_and_giving_back_two(bureau: Bureau) -> None:
    bureau.do(ADMIN, acts.change_roles, "omar", ["operator"])
    assert bureau.account("omar").roles == ("operator",)
    asked = bureau.do(ADMIN, acts.change_roles, "omar", ["operator", "validator"])
    assert (asked["kind"], bureau.account("omar").roles) == ("AccountRequested", ("operator",))
    bureau.do(SECOND, acts.confirm_request, asked["seq"])
    assert bureau.account("omar").roles == ("operator", "validator")
    bureau.do(ADMIN, acts.disable, "omar")
    assert not bureau.account("omar").active
    bureau.refused("order", ADMIN, acts.disable, "omar")
    back = bureau.do(ADMIN, acts.request_change, "omar", "enable")
    assert not bureau.account("omar").active
    bureau.do(SECOND, acts.confirm_request, back["seq"])
    assert bureau.account("omar").active


def test_a_disabled_account_does_nothing(bureau: Bureau) -> None:
    release = bureau.writer.bring(State.REGISTERED)
    operator = bureau.actor("operator")
    bureau.do(ADMIN, acts.disable, "operator")
    with pytest.raises(RefusedError, match="is disabled"):
        bureau.ledger.append(Draft("KillSwitchPulled", operator, {"answer": "baseline"}, MODEL, None, WHY))
    with pytest.raises(RefusedError, match="is disabled"):
        bureau.ledger.append(Draft("CanaryStarted", operator, sample("CanaryStarted"), MODEL, release, WHY))


@pytest.mark.parametrize(
    "actor",
    [
        Actor("validator", "validator"),
        Actor("validator", "validator", "p-operator"),
        Actor("Validator", "validator", "p-validator"),
        Actor("validator ", "validator", "p-validator"),
        Actor("vаlidator", "validator", "p-validator"),
        Actor("root", "validator", "p-root"),
        Actor("operator", "validator", "p-operator"),
        Actor("admin", "validator", "p-admin"),
        Actor("controller", "validator", "m-controller"),
    ],
)
def test_an_actor_is_the_account_with_the_role(actor: Actor, bureau: Bureau) -> None:
    release = bureau.writer.bring(State.REVIEW)
    data = {"decision": "approve", "digest": bureau.writer.digest(release)}
    with pytest.raises(RefusedError) as caught:
        bureau.ledger.append(Draft("ReviewDecided", actor, data, MODEL, release, WHY))
    assert caught.value.status == 403


def test_an_author_with_every_role_moves_no_release_of_their_own(bureau: Bureau) -> None:
    release = bureau.writer.train(author="omar")
    bureau.writer.check(release)
    bureau.writer.record("CandidateValidated", release)
    bureau.writer.record("ReleaseRegistered", release, digest=bureau.writer.digest(release))
    author = bureau.actor("omar")
    with pytest.raises(RefusedError) as caught:
        bureau.ledger.append(Draft("CanaryStarted", author, sample("CanaryStarted"), MODEL, release, WHY))
    assert (caught.value.code, caught.value.status) == ("four_eyes", 403)
    bureau.writer.to_review(bureau.writer.canary(release))
    digest = bureau.writer.digest(release)
    for decision in ("approve", "reject"):
        data = {"decision": decision, "digest": digest}
        with pytest.raises(RefusedError) as caught:
            bureau.ledger.append(Draft("ReviewDecided", author, data, MODEL, release, WHY))
        assert caught.value.code == "four_eyes"
    bureau.writer.approve(release)
    with pytest.raises(RefusedError) as caught:
        bureau.ledger.append(Draft("RolloutStepped", author, sample("RolloutStepped"), MODEL, release, WHY))
    assert caught.value.code == "four_eyes"
    bureau.ledger.append(Draft("CanaryAborted", author, sample("CanaryAborted"), MODEL, release, WHY))


def test_the_role_on_record_is_the_one_that_may(bureau: Bureau) -> None:
    release = bureau.writer.bring(State.REVIEW)
    data = {"decision": "approve", "digest": bureau.writer.digest(release)}
    decided = bureau.ledger.append(Draft("ReviewDecided", bureau.actor("omar"), data, MODEL, release, WHY))
    assert decided["actor"] == {"id": "p-omar", "name": "omar", "role": "validator"}
    stepped = bureau.ledger.append(
        Draft("RolloutStepped", bureau.actor("omar"), sample("RolloutStepped"), MODEL, release, WHY)
    )
    assert stepped["actor"]["role"] == "operator"


def test_no_service_takes_the_step_that_the_policy_gives_to_people(bureau: Bureau) -> None:
    release = bureau.writer.register()
    with pytest.raises(RefusedError) as caught:
        bureau.ledger.append(Draft("CanaryStarted", MACHINE, sample("CanaryStarted"), MODEL, release))
    assert caught.value.code == "role"
    bureau.writer.approve(bureau.writer.to_review(bureau.writer.canary(release)))
    with pytest.raises(RefusedError, match="an operator takes the first step"):
        bureau.ledger.append(Draft("RolloutStepped", MACHINE, sample("RolloutStepped"), MODEL, release))


def test_a_machine_states_only_its_own_kinds(bureau: Bureau) -> None:
    trainer = Actor("trainer", "trainer", "m-trainer")
    release = bureau.writer.bring(State.CANARY)
    for kind, machine in (("CanaryStepped", trainer), ("ReleasePromoted", trainer), ("CheckCompleted", MACHINE)):
        with pytest.raises(RefusedError) as caught:
            bureau.ledger.append(Draft(kind, machine, sample(kind), MODEL, release))
        assert caught.value.code == "role", kind


@pytest.mark.parametrize(
    ("roles", "kind"),
    [
        (["admin", "validator"], "person"),
        (["root"], "person"),
        (["validator", "validator"], "person"),
        (["controller"], "machine"),
        (["validator"], "machine"),
        (["client"], "person"),
    ],
)
def test_roles_that_do_not_exist_or_must_not_meet(roles: list[str], kind: str, bureau: Bureau) -> None:
    with pytest.raises(InvalidError) as caught:
        bureau.do(ADMIN, acts.request_account, "new.person", kind, roles, None)
    assert caught.value.field == "roles"


def test_an_admin_does_nothing_to_their_own_account(bureau: Bureau) -> None:
    bureau.refused("four_eyes", ADMIN, acts.disable, "admin")
    bureau.refused("four_eyes", ADMIN, acts.request_change, "admin", "reset")
    bureau.refused("four_eyes", ADMIN, acts.change_roles, "admin", ["auditor"])
    bureau.refused("four_eyes", ADMIN, acts.recertify, "admin", ["admin"])


@pytest.mark.parametrize("who", ["scientist", "validator", "operator", "auditor", "omar"])
def test_accounts_are_for_admins(who: str, bureau: Bureau) -> None:
    bureau.refused("role", who, acts.request_account, "new.person", "person", ["validator"], None)
    bureau.refused("role", who, acts.disable, "auditor")


@pytest.mark.parametrize("kind", ["CanaryStarted", "RetrainRequested", "KillSwitchPulled"])
def test_an_admin_has_no_part_in_the_life_of_a_release(kind: str, bureau: Bureau) -> None:
    release = bureau.writer.register()
    about = release if kind == "CanaryStarted" else None
    with pytest.raises(RefusedError) as caught:
        bureau.ledger.append(Draft(kind, bureau.actor(ADMIN), sample(kind), MODEL, about, WHY))
    assert caught.value.code == "role"


def test_the_platform_makes_people_only_at_its_first_start(bureau: Bureau) -> None:
    data = sample("AccountAdded", account="p-late", name="late.person", roles=["validator"])
    with pytest.raises(RefusedError) as caught:
        bureau.ledger.append(Draft("AccountAdded", PLATFORM_ACTOR, data))
    assert caught.value.code == "bootstrap"


def test_recovery_needs_fewer_than_two_admins_and_a_second_one_to_confirm(bureau: Bureau) -> None:
    recovery = Actor("recovery", "recovery", "m-recovery")

    def recover(name: str) -> Any:
        return bureau.ledger.append(acts.recover(bureau.state, recovery, WHY, name))

    with pytest.raises(RefusedError, match="2 admins are active"):
        recover("admin")
    bureau.do(ADMIN, acts.disable, "second-admin")
    with pytest.raises(RefusedError, match="no admin"):
        recover("operator")
    recovered = recover("second-admin")
    assert bureau.account("second-admin").recovered == recovered["seq"]
    bureau.refused("four_eyes", SECOND, acts.confirm_recovery, recovered["seq"])
    bureau.do(ADMIN, acts.confirm_recovery, recovered["seq"])
    assert bureau.account("second-admin").recovered is None
    bureau.refused("order", ADMIN, acts.confirm_recovery, recovered["seq"])


def test_recertification_confirms_the_roles_that_there_are(bureau: Bureau) -> None:
    bureau.refused("stale", ADMIN, acts.recertify, "omar", ["operator"])
    done = bureau.do(ADMIN, acts.recertify, "omar", ["operator", "validator", "scientist"])
    assert bureau.account("omar").certified_at == done["at"]


def test_a_request_for_training_is_in_ones_own_name(bureau: Bureau) -> None:
    data = sample("RetrainRequested", author="scientist")
    with pytest.raises(RefusedError) as caught:
        bureau.ledger.append(Draft("RetrainRequested", bureau.actor("omar"), data, MODEL, None, WHY))
    assert caught.value.code == "author"
    bureau.writer.train()
    with pytest.raises(RefusedError, match="author of no release"):
        bureau.ledger.append(Draft("RetrainRequested", MACHINE, data | {"author": "omar"}, MODEL))
    bureau.ledger.append(Draft("RetrainRequested", MACHINE, data, MODEL))
    assert bureau.state.models[MODEL].last_job is not None
    assert bureau.state.models[MODEL].last_job.author_id == "p-scientist"


def test_an_undone_group_leaves_accounts_as_they_were(bureau: Bureau) -> None:
    before = bureau.state.people
    bureau.state.begin()
    bureau.state.apply(
        {
            "seq": bureau.state.seq + 1,
            "at": "2026-11-23T10:00:00.000000Z",
            "kind": "AccountDisabled",
            "model": None,
            "release": None,
            "actor": {"id": "p-admin", "name": "admin", "role": "admin"},
            "reason": WHY,
            "data": {"account": "p-operator"},
        }
    )
    assert not bureau.account("operator").active
    bureau.state.roll_back()
    assert bureau.state.people is before


def test_people_of_an_earlier_era_go_on_under_their_names(ledger: Ledger) -> None:
    for name in ("scientist", "validator", "operator"):
        ledger.append(Draft("AccountAdded", PLATFORM_ACTOR, {"account": name, "role": name}))
    writer = FactWriter(ledger)
    review = writer.bring(State.REVIEW)
    begin_era_3(ledger, [])
    own = in_era(ledger.state, "ReviewDecided", Actor("validator", "validator"))
    assert own.id == "validator"
    data = {"decision": "approve", "digest": writer.digest(review)}
    ledger.append(Draft("ReviewDecided", own, data, MODEL, review, WHY))
    assert ledger.state.releases[review].author_id == "scientist"
