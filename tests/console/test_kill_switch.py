"""The kill switch in the console: the lines about it, the buttons, the sheets and the calls."""

from __future__ import annotations

from typing import Any

import pytest

from console import safety_text as stops
from console.kill_switch import EVERYBODY, STOPS, VERBS, call, options, sheet
from console.parts.safety_banner import banner, switch_panel
from console.session import Person
from lineage.facts.registry import FACTS
from lineage.rules.roles import PEOPLE_MAY
from tests.support.console_home import text

Json = dict[str, Any]
AT = "2026-11-23T10:05:00.000000Z"
REASON = "scores look wrong"
SUBJECTS = pytest.mark.parametrize("subject", ["m", EVERYBODY])


def kill(answer: str = "baseline", asked_by: str | None = None, **more: Any) -> Json:
    asked = {"asked_by": asked_by, "asked_at": AT if asked_by else None, "asked_seq": 8 if asked_by else None}
    told = {"by": "validator", "at": AT, "since": AT, "seq": 7, "answer": answer, "reason": REASON}
    return told | asked | {"asked_reason": "mended" if asked_by else None} | more


def fold(one: Json | None = None, everybody: Json | None = None, **more: Any) -> Json:
    model = {"model": "m", "champion": "m@1", "previous": None, "challenger": None, "share": 0.0, "etag": 5}
    model |= {"kill": one, "breakers": {}, "shadow": None} | more
    return {"seq": 9, "etag": 6, "kill": everybody, "models": {"m": model}, "releases": {}}


def of(subject: str, pulled: Json | None, **more: Any) -> Json:
    return fold(everybody=pulled, **more) if subject == EVERYBODY else fold(pulled, **more)


def person(name: str, role: str | None = None) -> Person:
    return Person(name, role or name, "", "2099-01-01T00:00:00Z", "")


def offered(subject: str, pulled: Json | None, name: str) -> dict[str, str | None]:
    return {one.verb: one.why_not for one in options(subject, pulled, name, name)}


def test_every_verb_states_a_fact_that_people_may_state() -> None:
    assert set(VERBS.values()) <= set(PEOPLE_MAY) & set(FACTS)
    assert {VERBS[verb] for verb in STOPS} == {"KillSwitchPulled"}


@SUBJECTS
def test_what_is_offered_follows_how_it_stands(subject: str) -> None:
    assert offered(subject, None, "operator") == {"kill": None, "silence": None}
    assert offered(subject, kill(), "operator") == {"silence": None, "ask-release": None}
    assert offered(subject, kill("nothing"), "validator") == {"ask-release": None}
    assert offered(subject, kill("nothing", "operator"), "validator") == {"confirm-release": None}
    own = offered(subject, kill("nothing", "operator"), "operator")
    assert own == {"confirm-release": "You asked for the release. A second person has to confirm."}


@pytest.mark.parametrize("role", ["auditor", "scientist"])
def test_others_see_who_can(role: str) -> None:
    for pulled in (None, kill(), kill("nothing", "operator")):
        assert set(offered("m", pulled, role).values()) == {f"Your role is {role}. An operator or validator can."}


@SUBJECTS
@pytest.mark.parametrize("verb", list(VERBS))
def test_every_sheet_says_what_changes_and_what_undoes_it(subject: str, verb: str) -> None:
    pulled = None if verb in STOPS else kill(asked_by="operator" if verb == "confirm-release" else None)
    said = sheet(verb, subject, of(subject, pulled), 1200.0)
    assert all([said.title, said.before, said.after, said.effect, said.undo, said.button])
    assert said.failure == "", "no judge says anything about it"
    assert ("all models" if subject == EVERYBODY else "m") in said.button


def test_a_sheet_shows_who_answers_before_and_after() -> None:
    said = sheet("kill", "m", fold(), 1000.0)
    assert (said.before, said.after) == (
        ["m@1 100\u00a0%, about 1,000\u00a0decisions/h"],
        ["baseline 100\u00a0%, killed"],
    )
    assert sheet("silence", "m", fold(kill())).after == ["nobody answers, killed"]
    assert sheet("confirm-release", "m", fold(kill(asked_by="operator"))).after == ["m@1 100\u00a0%"]
    both = fold(kill(asked_by="operator"), kill("nothing"))
    assert sheet("confirm-release", "m", both).after == ["nobody answers, killed"], "all models are stopped still"
    assert "New models are stopped too." in sheet("kill", EVERYBODY, fold()).effect
    assert REASON in sheet("ask-release", "m", fold(kill())).before[0]


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("kill", "", {"answer": "baseline"}),
        ("silence", "", {"answer": "nothing"}),
        ("ask-release", "/ask-release", {}),
        ("confirm-release", "/release", {}),
    ],
)
def test_calls_go_where_the_ledger_listens(verb: str, path: str, body: Json) -> None:
    for subject, start in (("m", "/v1/models/m/kill"), (EVERYBODY, "/v1/kill")):
        asked = call(verb, subject, f" {REASON} ")
        assert (asked.path, asked.body) == (start + path, {"reason": REASON} | body)
    with pytest.raises(ValueError, match="reason"):
        call(verb, "m", "oops")


def test_the_line_says_who_since_when_and_what_answers() -> None:
    said = text(banner(fold(kill()), person("operator")))
    assert "m KILLED by validator since 23\u00a0Nov 10:05\u00a0UTC: the baseline answers" in said
    assert "Two people release it" in said
    assert "Ask to release m" in said
    said = text(banner(fold(everybody=kill("nothing", "operator")), person("operator")))
    assert "All models KILLED by validator since" in said
    assert ": nothing is answered" in said
    assert "Release asked for by operator at" in said
    assert "(mended); a second person must confirm." in said
    assert "Release all models" not in said, "whoever asked is offered nothing"
    assert "Release all models" in text(banner(fold(everybody=kill(asked_by="operator")), person("validator")))
    assert "Ask to release" not in text(banner(fold(kill()), person("auditor")))
    more = kill("nothing", at="2026-11-23T11:00:00.000000Z")
    assert "m KILLED since 23\u00a0Nov 10:05\u00a0UTC, last by validator" in text(banner(fold(more), person("auditor")))
    assert banner(fold(), person("operator")) == []


def breaker(cause: str = "constant_scores", since: str = AT) -> Json:
    return {"release": "m@1", "cause": cause, "since": since, "times": 1, "seq": 9}


def test_breakers_are_told_by_cause() -> None:
    open_ = {"a": breaker(), "b": breaker(since="2026-11-23T09:00:00.000000Z"), "c": breaker("no_such_cause")}
    assert stops.breakers({"breakers": open_}) == [
        "the baseline answers on 2\u00a0replicas: constant scores since 23\u00a0Nov 09:00\u00a0UTC",
        "the baseline answers on 1\u00a0replica: no such cause since 23\u00a0Nov 10:05\u00a0UTC",
    ]
    said = text(banner(fold(breakers={"a": breaker()}), person("auditor")))
    assert "m breaker open, the baseline answers on 1\u00a0replica: constant scores since" in said


def test_many_lines_do_not_hide_the_page() -> None:
    whole = fold()
    whole["models"] = {f"m{n}": whole["models"]["m"] | {"model": f"m{n}", "kill": kill()} for n in range(500)}
    lines = banner(whole, person("operator"))
    assert len(lines) == 5
    assert "and 496\u00a0more kill switches" in text(lines[-1])


def test_the_panel_tells_all_that_keeps_a_champion_from_answering() -> None:
    whole = fold(kill(), kill("nothing"), breakers={"a": breaker()}, shadow="m@2")
    said = text(switch_panel("m", whole, person("operator")))
    for part in ("KILLED by validator", REASON, "All models: KILLED", "Breaker open:", "m@2", "scores in the shadow"):
        assert part in said
    assert "Not pulled" in text(switch_panel(EVERYBODY, fold(), person("operator")))


def test_who_answers_in_a_few_words() -> None:
    model = fold()["models"]["m"]
    assert stops.who_answers(model, None) == "m@1"
    assert stops.who_answers(model | {"champion": None}, None) == "the baseline"
    assert stops.who_answers(model, kill()) == "the baseline, killed"
    assert stops.who_answers(model | {"kill": kill("nothing")}, kill()) == "nobody, killed"
