"""The kill switch in the console: the lines about it, the buttons, the dialog and the calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from console import safety_text
from console.kill_switch import STOPS, VERBS, Switch, buttons, call, preview
from console.model_now import ModelNow
from console.parts.safety_banner import banner, switch_panel
from console.person_ledger import ALL_MODELS
from lineage.rules import available
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.rules.views import Action, Offers
from lineage.state.entities import ModelSummary
from lineage.state.safety import Breaker, Kill
from lineage.state.views import ModelsPage
from tests.support.accounts import in_era
from tests.support.console_home import text
from tests.support.ledger_in_memory import MemoryLedger
from tests.support.sample_facts import MODEL, FactWriter

AT = "2026-11-23T10:05:00.000000Z"
REASON = "scores look wrong"
SUBJECTS = pytest.mark.parametrize("subject", ["m", ALL_MODELS])


def kill(answer: str = "baseline", asked_by: str | None = None, **more: Any) -> Kill:
    made = Kill("validator", AT, 7, REASON, answer, AT)
    if asked_by:
        made = replace(made, asked_by=asked_by, asked_at=AT, asked_seq=8, asked_reason="mended")
    return replace(made, **more)


def model(own: Kill | None = None, **more: Any) -> ModelSummary:
    return ModelSummary("m", champion="m@1", kill=own, **more)


def switch(subject: str, pulled: Kill | None = None, of_all: Kill | None = None) -> Switch:
    if subject == ALL_MODELS:
        return Switch(subject, pulled, None, (1, 0))
    return Switch(subject, pulled, ModelNow(model(pulled), of_all))


def action(verb: str, applies: bool = True, why_not: str | None = None) -> Action:
    return Action(verb, "", why_not is None, why_not, None, applies, None, None, False, ("operator",))


def all_of(*verbs: str) -> Offers:
    return Offers(1, [action(verb, verb in verbs) for verb in VERBS])


def offered(subject: str, pulled: tuple[str, str | None] | None, name: str) -> dict[str, str | None]:
    """The buttons of a switch of a real ledger: answer and who asked for its release."""
    ledger = MemoryLedger()
    FactWriter(ledger).champion()  # type: ignore[arg-type]
    whose = MODEL if subject == "m" else None
    if pulled:
        answer, asked_by = pulled
        record = ledger.append(
            Draft("KillSwitchPulled", Actor("validator", "validator"), {"answer": answer}, whose, None, REASON)
        )
        if asked_by:
            asked = {"pulled": record["seq"]}
            ledger.append(Draft("KillReleaseRequested", Actor(asked_by, asked_by), asked, whose, None, REASON))
    state = ledger.state
    found = Offers(1, available.of_kill_switch(state, whose, in_era(state, "", Actor(name, name))))
    own = state.models[MODEL].kill if whose else state.kill
    return {one.verb: one.why_not for one in buttons(Switch(subject, own), found)}


@SUBJECTS
def test_what_is_offered_follows_the_switch(subject: str) -> None:
    assert offered(subject, None, "operator") == {"kill": None, "silence": None}
    assert offered(subject, ("baseline", None), "operator") == {"silence": None, "ask-release": None}
    assert offered(subject, ("nothing", None), "validator") == {"ask-release": None}
    assert offered(subject, ("nothing", "operator"), "validator") == {"silence": None, "confirm-release": None}
    own = offered(subject, ("nothing", "operator"), "operator")
    assert own["silence"] is None, "killing again takes the request back"
    assert "a second person has to confirm" in str(own["confirm-release"])


@pytest.mark.parametrize("role", ["auditor", "scientist"])
def test_others_see_who_can(role: str) -> None:
    for pulled in (None, ("baseline", None), ("nothing", "operator")):
        found = offered("m", pulled, role)
        assert found
        assert all("role operator or validator may" in str(why_not) for why_not in found.values())


@SUBJECTS
@pytest.mark.parametrize("verb", list(VERBS))
def test_every_preview_says_what_changes_and_what_undoes_it(subject: str, verb: str) -> None:
    pulled = None if verb in STOPS else kill(asked_by="operator" if verb == "confirm-release" else None)
    said = preview(action(verb), switch(subject, pulled), 1200.0)
    assert all([said.title, said.before, said.after, said.effect, said.undo, said.button])
    assert said.failure == "", "no judge says anything about it"
    assert ("all models" if subject == ALL_MODELS else "m") in said.button


def test_a_preview_shows_which_release_answers_before_and_after() -> None:
    said = preview(action("kill"), switch("m"), 1000.0)
    assert (said.before, said.after) == (
        ["m@1 100\u00a0%, about 1,000\u00a0decisions/h"],
        ["baseline 100\u00a0%, killed"],
    )
    assert preview(action("silence"), switch("m", kill())).after == ["nobody answers, killed"]
    asked = kill(asked_by="operator")
    assert preview(action("confirm-release"), switch("m", asked)).after == ["m@1 100\u00a0%"]
    both = switch("m", asked, kill("nothing"))
    assert preview(action("confirm-release"), both).after == ["nobody answers, killed"], "all models are stopped still"
    assert "New models are stopped too." in preview(action("kill"), switch(ALL_MODELS)).effect
    assert preview(action("kill"), switch(ALL_MODELS)).before == ["1\u00a0model running"]
    assert REASON in preview(action("ask-release"), switch("m", kill())).before[0]


def test_a_switch_that_is_asked_for_can_be_kept() -> None:
    labels = [one.label for one in buttons(switch("m", kill(asked_by="operator")), all_of("kill", "confirm-release"))]
    assert labels == ["Keep m killed, take the request back", "Release m"]


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("kill", "", {"answer": "baseline"}),
        ("silence", "", {"answer": "nothing"}),
        ("ask-release", "/ask-release", {}),
        ("confirm-release", "/release", {}),
    ],
)
def test_calls_go_where_the_ledger_listens(verb: str, path: str, body: dict[str, str]) -> None:
    for subject, start in (("m", "/v1/models/m/kill"), (ALL_MODELS, "/v1/kill")):
        asked = call(verb, subject, f" {REASON} ")
        assert (asked.path, asked.body) == (start + path, {"reason": REASON} | body)
    with pytest.raises(ValueError, match="reason"):
        call(verb, "m", "oops")


def shown(*models: ModelSummary, of_all: Kill | None = None, offers: Offers | None = None) -> list[Any]:
    page = ModelsPage(list(models), len(models), of_all)
    known = {one.model: offers or all_of() for one in models} | {ALL_MODELS: offers or all_of()}
    return banner(page, known)


def test_the_line_says_who_since_when_and_what_answers() -> None:
    said = text(shown(model(kill()), offers=all_of("ask-release", "silence")))
    assert "m KILLED by validator since 23\u00a0Nov 10:05\u00a0UTC: the baseline answers" in said
    assert "Two people release it" in said
    assert "Ask to release m" in said
    assert "Answer nothing" not in said, "the line lets go, it stops nothing more"
    refused = Offers(1, [action("confirm-release", why_not="a second person has to confirm")])
    said = text(shown(of_all=kill("nothing", "operator"), offers=refused))
    assert "All models KILLED by validator since" in said
    assert ": nothing is answered" in said
    assert "Release asked for by operator at" in said
    assert "(mended); a second person must confirm." in said
    assert "Release all models" not in said, "what is refused is not offered"
    more = kill("nothing", at="2026-11-23T11:00:00.000000Z")
    assert "m KILLED since 23\u00a0Nov 10:05\u00a0UTC, last by validator" in text(shown(model(more)))
    assert shown() == []


def breaker(cause: str = "constant_scores", since: str = AT) -> Breaker:
    return Breaker("m@1", cause, since, 1, 9)


def test_breakers_are_listed_by_cause() -> None:
    open_ = {"a": breaker(), "b": breaker(since="2026-11-23T09:00:00.000000Z"), "c": breaker("no_such_cause")}
    assert safety_text.breakers(open_) == [
        "the baseline answers on 2\u00a0replicas: constant scores since 23\u00a0Nov 09:00\u00a0UTC",
        "the baseline answers on 1\u00a0replica: no such cause since 23\u00a0Nov 10:05\u00a0UTC",
    ]
    said = text(shown(model(breakers={"a": breaker()})))
    assert "m breaker open, the baseline answers on 1\u00a0replica: constant scores since" in said


def test_many_lines_do_not_hide_the_page() -> None:
    some = [replace(model(kill()), model=f"m{number}") for number in range(100)]
    lines = banner(ModelsPage(some, 500, None), {})
    assert len(lines) == 5
    assert "and 496\u00a0more kill switches" in text(lines[-1])


def test_the_panel_says_all_that_keeps_a_champion_from_answering() -> None:
    now = ModelNow(model(kill(), breakers={"a": breaker()}, shadow="m@2"), kill("nothing"))
    said = text(switch_panel(Switch("m", now.model.kill, now), all_of()))
    for part in ("KILLED by validator", REASON, "All models: KILLED", "Breaker open:", "m@2", "scores in the shadow"):
        assert part in said
    assert "Not pulled" in text(switch_panel(switch(ALL_MODELS), all_of()))


def test_which_release_answers_in_a_few_words() -> None:
    assert safety_text.who_answers(model(), None) == "m@1"
    assert safety_text.who_answers(ModelSummary("m"), None) == "the baseline"
    assert safety_text.who_answers(model(), kill()) == "the baseline, killed"
    assert safety_text.who_answers(model(kill("nothing")), kill()) == "nobody, killed"
