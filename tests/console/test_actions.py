"""Buttons, their reasons, the review sheet and the calls: the console shows what the ledger would allow."""

from __future__ import annotations

from typing import Any

import pytest

from console.actions import VERBS, call, options, refusal, sheet, traffic
from console.kill_switch import VERBS as SWITCH
from console.review import decide, why_not
from lineage.facts.registry import FACTS
from lineage.rules.roles import PEOPLE_MAY

Json = dict[str, Any]
POLICY = {"canary": {"steps": [0.1, 0.25]}, "rollout": {"steps": [0.5, 1.0]}, "review": {"required": True}}
REASON = "evidence read, all fine"


def release(state: str, **more: Any) -> Json:
    return {"release": "m@2", "state": state, "author": "scientist", "policy": POLICY, "share": 0.25} | more


MODEL: Json = {"model": "m", "champion": "m@1", "previous": None, "challenger": "m@2", "share": 0.25}


def verbs(offered: list[Any]) -> dict[str, str | None]:
    return {option.verb: option.why_not for option in offered}


def test_every_verb_states_a_fact_that_people_may_state() -> None:
    assert {*VERBS.values(), *SWITCH.values()} == set(PEOPLE_MAY)
    assert not VERBS.keys() & SWITCH.keys()
    assert set(VERBS.values()) <= set(FACTS)


def test_a_validator_may_decide_on_the_work_of_others() -> None:
    found = verbs(options(release("review"), MODEL, "validator", "validator"))
    assert found["approve"] is None
    assert found["reject"] is None
    assert found["abort"] is None
    assert found["promote"] == "m@2 has no approval by a second person yet."


def test_nobody_decides_on_their_own_release() -> None:
    own = release("review", author="validator")
    assert why_not(own, "validator", "validator") == "You are the author of m@2. A second person has to decide."


def test_a_refusal_says_who_can() -> None:
    assert why_not(release("review"), "operator", "operator") == "Your role is operator. A validator can decide."
    said = refusal("promote", release("approved"), MODEL, "auditor", "auditor")
    assert said == "Your role is auditor. An operator can."


def test_promotion_waits_for_an_approval_unless_the_policy_wants_none() -> None:
    assert refusal("promote", release("approved"), MODEL, "operator", "operator") is None
    free = release("review", policy=POLICY | {"review": {"required": False}})
    assert refusal("promote", free, MODEL, "operator", "operator") is None


def test_a_canary_waits_for_the_one_in_flight() -> None:
    blocked = refusal("canary", release("registered"), MODEL | {"challenger": "m@9"}, "operator", "operator")
    assert blocked == "m@9 is in flight; one release of a model at a time."


def test_nothing_takes_traffic_while_it_is_killed_and_the_way_back_stays_open() -> None:
    killed = MODEL | {"stopped": "baseline"}
    for verb, state in (("canary", "registered"), ("promote", "approved")):
        said = refusal(verb, release(state), killed | {"challenger": None}, "operator", "operator")
        assert said == "m is killed: no release takes traffic until two people let go."
    assert refusal("rollback", release("champion"), killed | {"champion": "m@2"}, "operator", "operator") is None
    assert refusal("abort", release("canary"), killed, "operator", "operator") is None
    assert traffic(killed, 1000.0) == ["baseline 100\u00a0%, killed"]
    assert traffic(killed | {"stopped": "nothing"}, 1000.0) == ["nobody answers, killed"]


def test_a_registered_release_may_run_in_the_shadow_when_nothing_else_does() -> None:
    free = MODEL | {"challenger": None, "shadow": None}
    assert verbs(options(release("registered"), free, "operator", "operator")) == {"canary": None, "shadow": None}
    running = free | {"shadow": "m@2"}
    assert verbs(options(release("registered"), running, "operator", "operator")) == {"canary": None, "unshadow": None}
    other = verbs(options(release("registered"), free | {"shadow": "m@9"}, "operator", "operator"))
    assert set(other.values()) == {"m@9 scores in the shadow; stop that first."}
    assert call("shadow", release("registered"), free, REASON).path == "/v1/releases/m@2/shadow/start"
    assert call("unshadow", release("registered"), running, REASON).path == "/v1/releases/m@2/shadow/stop"


def test_a_retired_release_offers_nothing() -> None:
    assert options(release("retired"), MODEL, "operator", "operator") == []


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_sheet_is_complete(verb: str) -> None:
    said = sheet(verb, release("approved"), MODEL, 1200.0)
    assert all([said.title, said.before, said.after, said.effect, said.failure, said.undo, said.button])


def test_the_button_repeats_the_effect() -> None:
    assert sheet("promote", release("approved"), MODEL).button == "Promote to 50\u00a0%"
    assert sheet("rollback", release("champion"), MODEL | {"previous": "m@1"}).button == "Roll back to m@1"


def test_traffic_says_decisions_an_hour() -> None:
    assert traffic(MODEL, 1000.0) == [
        "m@2 25\u00a0%, about 250\u00a0decisions/h",
        "m@1 75\u00a0%, about 750\u00a0decisions/h",
    ]
    assert traffic(MODEL | {"challenger": None}, None) == ["m@1 100\u00a0%"]
    assert traffic(MODEL | {"champion": None}, None) == ["m@2 25\u00a0%", "baseline 75\u00a0%"]


def test_calls_go_where_the_ledger_listens() -> None:
    assert call("approve", release("review"), MODEL, REASON).path == "/v1/releases/m@2/review"
    assert call("approve", release("review"), MODEL, REASON).body == {"decision": "approve", "reason": REASON}
    assert call("promote", release("approved"), MODEL, REASON).path == "/v1/releases/m@2/promote"
    assert call("rollback", release("champion"), MODEL, REASON).body["to"] == "baseline"
    assert call("retrain", release("champion"), MODEL, REASON, "examples/m").path == "/v1/models/m/retrain"


@pytest.mark.parametrize("reason", ["", "   ", "ok", "       x       "])
def test_a_reason_is_asked_for_before_anything_is_sent(reason: str) -> None:
    for verb in VERBS:
        with pytest.raises(ValueError, match="reason"):
            call(verb, release("review"), MODEL, reason, "examples/m")
    with pytest.raises(ValueError, match="reason"):
        decide(release("review"), "approve", reason)


def test_an_unknown_verb_is_an_error() -> None:
    with pytest.raises(ValueError, match="no verb"):
        call("delete", release("review"), MODEL, REASON)
    with pytest.raises(ValueError, match="folder"):
        call("retrain", release("champion"), MODEL, REASON, " ")
