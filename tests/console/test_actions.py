"""Buttons, the review dialog and the calls of what a person may do to a release or a model."""

from __future__ import annotations

from typing import Any

import pytest

from console.actions import ORDER, VERBS, button, buttons, call, preview, release_buttons, traffic
from console.kill_switch import VERBS as SWITCH
from console.model_now import ModelNow
from console.review import decide
from lineage.lifecycle import State
from lineage.rules import available
from lineage.rules.proposal import Actor
from lineage.rules.roles import PEOPLE_MAY
from lineage.rules.views import Action, Offers
from lineage.state.entities import ModelSummary
from lineage.state.safety import Kill
from tests.support.accounts import in_era
from tests.support.ledger_in_memory import MemoryLedger
from tests.support.sample_facts import MODEL, OPERATOR, VALIDATOR, FactWriter

REASON = "evidence read, all fine"
NOW = ModelNow(ModelSummary("m", champion="m@1", challenger="m@2", share=0.25))


def action(verb: str, **more: Any) -> Action:
    known = {"kind": "", "possible": True, "why_not": None, "code": None, "applies": True, "next_share": 0.5}
    return Action(verb=verb, **(known | {"to": "m@1", "needs_etag": False, "roles": ("operator",)} | more))


def killed(answer: str) -> ModelNow:
    return ModelNow(NOW.model, Kill("validator", "", 1, None, answer, ""))


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


def offered(ledger: MemoryLedger, release: str, who: Actor) -> dict[str, str | None]:
    state, who = ledger.state, in_era(ledger.state, "", who)
    of_release = Offers(1, available.of_release(state, release, who))
    of_model = Offers(1, available.of_model(state, MODEL, who))
    now = ModelNow(state.models[MODEL], state.kill)
    return {one.verb: one.why_not for one in release_buttons(release, now, of_release, of_model)}


def test_the_console_has_words_for_every_verb_of_the_ledger(ledger: MemoryLedger) -> None:
    release = FactWriter(ledger).bring(State.REGISTERED)  # type: ignore[arg-type]
    state = ledger.state
    of_release, of_model = available.of_release(state, release, OPERATOR), available.of_model(state, MODEL, OPERATOR)
    assert {one.verb for one in (*of_release, *of_model)} == VERBS | set(SWITCH)
    of_admins = {kind for kind, roles in PEOPLE_MAY.items() if roles == {"admin"}}
    assert {one.kind for one in (*of_release, *of_model)} == set(PEOPLE_MAY) - of_admins


def test_buttons_come_in_one_order_and_only_those_that_apply(ledger: MemoryLedger) -> None:
    release = FactWriter(ledger).bring(State.REVIEW)  # type: ignore[arg-type]
    found = offered(ledger, release, VALIDATOR)
    assert list(found) == ["approve", "reject", "promote", "abort"]
    assert list(found) == sorted(found, key=ORDER.index)
    assert (found["approve"], found["abort"]) == (None, None)
    assert "role operator may" in str(found["promote"])


def test_a_refusal_is_the_guards(ledger: MemoryLedger) -> None:
    release = FactWriter(ledger).bring(State.REVIEW)  # type: ignore[arg-type]
    said = offered(ledger, release, Actor("scientist", "validator"))["approve"]
    assert said == "scientist is the author of this release; a second person has to decide"
    assert offered(ledger, release, OPERATOR)["promote"] == f"{release} has no approval by a second person"


def test_the_champion_is_rolled_back_on_its_own_page(ledger: MemoryLedger) -> None:
    writer = FactWriter(ledger)  # type: ignore[arg-type]
    first, second = writer.champion(), writer.champion()
    assert offered(ledger, second, OPERATOR) == {"rollback": None}
    assert offered(ledger, first, OPERATOR) == {}


def test_the_button_says_the_effect() -> None:
    assert button(action("rollback"), "m").label == "Roll back to m@1"
    assert button(action("rollback", to="baseline"), "m").label == "Roll back to the baseline"
    assert button(action("promote"), "m@2").label == "Promote to 50\u00a0%"
    assert button(action("canary", next_share=0.1), "m@2").label == "Start canary at 10\u00a0%"
    assert button(action("retrain"), "m").label == "Retrain m"
    assert buttons(["retrain"], "m", Offers(1, [action("retrain", applies=False)])) == []


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_preview_is_complete(verb: str) -> None:
    said = preview(action(verb), "m@2", NOW, None, 1200.0)
    assert all([said.title, said.before, said.after, said.effect, said.failure, said.undo, said.button])


def test_a_preview_says_what_the_judge_said(ledger: MemoryLedger) -> None:
    release = FactWriter(ledger).bring(State.REVIEW)  # type: ignore[arg-type]
    said = preview(action("approve"), release, NOW, ledger.state.releases[release], None)
    assert said.failure == "enough was seen"


def test_traffic_says_decisions_an_hour() -> None:
    assert traffic(NOW, 1000.0) == [
        "m@2 25\u00a0%, about 250\u00a0decisions/h",
        "m@1 75\u00a0%, about 750\u00a0decisions/h",
    ]
    assert traffic(NOW.with_challenger(None, 0.0), None) == ["m@1 100\u00a0%"]
    assert traffic(ModelNow(ModelSummary("m", challenger="m@2", share=0.25)), None) == [
        "m@2 25\u00a0%",
        "baseline 75\u00a0%",
    ]
    assert traffic(killed("baseline"), 1000.0) == ["baseline 100\u00a0%, killed"]
    assert traffic(killed("nothing"), 1000.0) == ["nobody answers, killed"]


def test_a_rollback_leads_to_the_target_that_was_shown() -> None:
    said = preview(action("rollback", to="m@1"), "m", NOW, None, None)
    assert said.after == ["m@1 100\u00a0%"]
    assert call("rollback", "m", REASON, to="m@1").body == {"reason": REASON, "to": "m@1"}


def test_calls_go_where_the_ledger_listens() -> None:
    assert call("approve", "m@2", REASON).path == "/v1/releases/m@2/review"
    assert call("approve", "m@2", REASON).body == {"decision": "approve", "reason": REASON}
    assert call("promote", "m@2", REASON).path == "/v1/releases/m@2/promote"
    assert call("shadow-start", "m@2", REASON).path == "/v1/releases/m@2/shadow/start"
    assert call("shadow-stop", "m@2", REASON).path == "/v1/releases/m@2/shadow/stop"
    assert call("retrain", "m", REASON, folder="examples/m").path == "/v1/models/m/retrain"


@pytest.mark.parametrize("reason", ["", "   ", "ok", "       x       "])
def test_a_reason_is_asked_for_before_anything_is_sent(reason: str) -> None:
    for verb in VERBS:
        with pytest.raises(ValueError, match="reason"):
            call(verb, "m@2", reason, folder="examples/m")
    with pytest.raises(ValueError, match="reason"):
        decide("m@2", "approve", reason)


def test_an_unknown_verb_is_an_error() -> None:
    with pytest.raises(ValueError, match="no verb"):
        call("delete", "m@2", REASON)
    with pytest.raises(ValueError, match="folder"):
        call("retrain", "m", REASON, folder=" ")
