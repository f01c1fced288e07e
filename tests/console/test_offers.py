"""The buttons that the console draws are those that the ledger accepts: in every state, each one is really tried."""

from __future__ import annotations

import ast
import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from console import actions as console_actions
from console import kill_switch
from console.actions import Button
from console.kill_switch import Switch
from console.model_now import ModelNow
from console.person_ledger import ALL_MODELS, path_of
from console.review import Call
from lineage.errors import PlimsollError
from lineage.lifecycle import State
from lineage.rules import actions, available
from lineage.rules.draft import Draft, check_right
from lineage.rules.proposal import Actor
from lineage.rules.views import Offers, offers_view
from lineage.settings import Settings
from lineage.state.fold import LedgerState
from tests.support.accounts import in_era
from tests.support.ledger_in_memory import PEOPLE, MemoryLedger
from tests.support.ledger_service import open_service
from tests.support.sample_facts import MODEL, OPERATOR, POLICY, VALIDATOR, FactWriter, ManualClock

Json = dict[str, Any]
REASON = "looked at the evidence"
OTHER = "card-fraud"
NO_REVIEW = POLICY | {"review": {"required": False, "sla_hours": 24}}
KINDS = {
    "canary": "CanaryStarted",
    "review": "ReviewDecided",
    "promote": "RolloutStepped",
    "abort": "CanaryAborted",
    "shadow/start": "ShadowStarted",
    "shadow/stop": "ShadowStopped",
    "rollback": "RollbackOrdered",
    "retrain": "RetrainRequested",
    "kill": "KillSwitchPulled",
    "kill/ask-release": "KillReleaseRequested",
    "kill/release": "KillSwitchReleased",
}
#: How the kill switches are: whose is pulled, to which answer, and who asked for its release.
KILLS: dict[str, tuple[str | None, str, Actor | None] | None] = {
    "runs": None,
    "killed": (MODEL, "baseline", None),
    "silenced": (MODEL, "nothing", None),
    "asked by the operator": (MODEL, "baseline", OPERATOR),
    "asked by the validator": (MODEL, "nothing", VALIDATOR),
    "all killed": (None, "baseline", None),
    "all asked": (None, "nothing", OPERATOR),
}


def bytes_shared(writer: FactWriter, other: FactWriter, release: str) -> None:
    """A release of another model has the same bytes, and answers if it may."""
    other.check(twin := other.train(digest=writer.digest(release)))
    other.record("CandidateValidated", twin)
    other.record("ReleaseRegistered", twin, digest=other.digest(twin))
    other.canary(twin)


def bytes_barred(writer: FactWriter, other: FactWriter, release: str) -> None:
    """A release of another model with the same bytes was rejected."""
    other.check(twin := other.train(digest=writer.digest(release)), "fail")
    other.record("CandidateRejected", twin)


def control_replaced(writer: FactWriter, other: FactWriter, release: str) -> None:
    """The champion against which a release in flight is judged was rolled back."""
    champion = writer.ledger.state.models[MODEL].champion
    if champion not in (None, release):
        writer.record("RollbackOrdered", champion, OPERATOR, to="baseline")


def in_the_shadow(writer: FactWriter, other: FactWriter, release: str) -> None:
    """The release scores copies."""
    writer.record("ShadowStarted", release, OPERATOR)


def another_in_the_shadow(writer: FactWriter, other: FactWriter, release: str) -> None:
    """Another release of the model scores copies."""
    writer.record("ShadowStarted", writer.register(), OPERATOR)


def another_in_flight(writer: FactWriter, other: FactWriter, release: str) -> None:
    """Another release of the model has a canary."""
    writer.canary(writer.register())


def nothing_more(writer: FactWriter, other: FactWriter, release: str) -> None:
    """As it is."""


MORE = (
    nothing_more,
    bytes_shared,
    bytes_barred,
    control_replaced,
    in_the_shadow,
    another_in_the_shadow,
    another_in_flight,
)


def situation(
    state: State, more: Callable[[FactWriter, FactWriter, str], None], kill: str, policy: Json
) -> tuple[MemoryLedger, str]:
    """A ledger with a release in this state; what the rules do not let happen beside it does not."""
    ledger = MemoryLedger()
    writer, other = FactWriter(ledger, policy=policy), FactWriter(ledger, OTHER)  # type: ignore[arg-type]
    if state not in (State.ROLLING_BACK, State.ROLLED_BACK):
        writer.champion()
    release = writer.bring(state)
    with contextlib.suppress(PlimsollError):
        more(writer, other, release)
    if switch := KILLS[kill]:
        whose, answer, asked_by = switch
        pulled = ledger.append(Draft("KillSwitchPulled", VALIDATOR, {"answer": answer}, whose, None, REASON))
        if asked_by:
            ledger.append(Draft("KillReleaseRequested", asked_by, {"pulled": pulled["seq"]}, whose, None, REASON))
    return ledger, release


def situations() -> Iterator[tuple[str, MemoryLedger, str]]:
    """Every state, with every kill switch and everything that may be beside it."""
    for state, more, kill in itertools.product(State, MORE, KILLS):
        policies = (POLICY, NO_REVIEW) if state is State.REVIEW else (POLICY,)
        for policy in policies:
            yield f"{state}, {more.__name__}, {kill}", *situation(state, more, kill, policy)


def drawn(state: LedgerState, release: str, who: Actor) -> list[Button]:
    """Every button that the console draws about the release, its model and all models."""
    model, who = state.models[MODEL], in_era(state, "", who)
    of_release = Offers(model.etag, available.of_release(state, release, who))
    of_model = Offers(model.etag, available.of_model(state, MODEL, who))
    of_all = Offers(state.etag, available.of_kill_switch(state, None, who))
    now = ModelNow(model, state.kill)
    return [
        *console_actions.release_buttons(release, now, of_release, of_model),
        *console_actions.buttons(["retrain"], MODEL, of_model),
        *kill_switch.buttons(Switch(MODEL, model.kill, now), of_model),
        *kill_switch.buttons(Switch(ALL_MODELS, state.kill), of_all),
    ]


def call_of(verb: str, subject: str, to: str) -> Call:
    """What the console sends when the button is pressed."""
    if verb in kill_switch.VERBS:
        return kill_switch.call(verb, subject, REASON)
    return console_actions.call(verb, subject, REASON, to=to, folder="examples/credit_default")


def draft_of(state: LedgerState, call: Call, who: Actor) -> Draft:
    """What the ledger service makes of a call."""
    who = in_era(state, "", who)
    if found := re.fullmatch(r"/v1/releases/([^/]+)/(.+)", call.path):
        release, way = found.groups()
        make: dict[str, Callable[[], Draft]] = {
            "canary": lambda: actions.start_canary(state, release, who, REASON),
            "review": lambda: actions.decide_review(state, release, who, REASON, call.body["decision"]),
            "promote": lambda: actions.promote(state, release, who, REASON),
            "abort": lambda: actions.abort(state, release, who, REASON),
        }
        make |= {
            f"shadow/{verb}": lambda verb=verb: actions.shadow(state, release, who, REASON, KINDS[f"shadow/{verb}"])
            for verb in ("start", "stop")
        }
        check_right(KINDS[way], who, release, state)
        return make[way]()
    found = re.fullmatch(r"/v1/(?:models/([^/]+)/)?(.+)", call.path)
    assert found, call.path
    model, way = found.groups()
    check_right(KINDS[way], who, None, state)
    makes: dict[str, Callable[[], Draft]] = {
        "rollback": lambda: actions.roll_back(state, model, who, REASON, call.body["to"]),
        "retrain": lambda: actions.retrain(model, who, REASON, call.body["folder"], {}),
        "kill": lambda: actions.kill(state, model, who, REASON, call.body["answer"]),
        "kill/ask-release": lambda: actions.ask_kill_release(state, model, who, REASON),
        "kill/release": lambda: actions.release_kill(state, model, who, REASON),
    }
    return makes[way]()


def refusal(ledger: MemoryLedger, call: Call, who: Actor) -> str | None:
    """The words in which the ledger refuses the call; None where it takes it."""
    try:
        ledger.try_(lambda state: draft_of(state, call, who))
    except PlimsollError as error:
        return error.message
    return None


def every_verb(release: str) -> list[tuple[str, str]]:
    """All that a page could offer: verb and subject."""
    of_release = [(verb, release) for verb in console_actions.ORDER if verb != "rollback"]
    of_model = [(verb, MODEL) for verb in ("rollback", "retrain", *kill_switch.VERBS)]
    return [*of_release, *of_model, *((verb, ALL_MODELS) for verb in kill_switch.VERBS)]


def test_what_is_drawn_is_what_the_ledger_takes() -> None:
    count, offered, seen = Counter[str](), 0, set()
    differences: list[str] = []
    for name, ledger, release in situations():
        before, model = ledger.state.seq, ledger.state.models[MODEL].copy()
        to = model.previous or "baseline"
        for who in PEOPLE:
            buttons = {(one.verb, one.subject): one.why_not for one in drawn(ledger.state, release, who)}
            for verb, subject in every_verb(release):
                said = refusal(ledger, call_of(verb, subject, to), who)
                hidden = (verb, subject) not in buttons
                shown_elsewhere = verb == "rollback" and model.champion != release
                if hidden and said is None and not shown_elsewhere:
                    differences.append(f"{name}: {who} may {verb} {subject}, and is not offered it")
                if not hidden and buttons[verb, subject] != said:
                    differences.append(f"{name}: {who} {verb} {subject}: {buttons[verb, subject]!r}, not {said!r}")
            count["drawn"] += len(buttons)
            offered += sum(why_not is None for why_not in buttons.values())
            seen |= {(verb, why_not is None) for (verb, _), why_not in buttons.items()}
        count["situations"] += len(PEOPLE)
        assert ledger.state.seq == before, "trying leaves nothing"
    assert differences == []
    assert count["drawn"] >= 8_892, count
    assert count["situations"] >= 894, count
    assert 0 < offered < count["drawn"]
    verbs = {*console_actions.VERBS, *kill_switch.VERBS}
    assert {verb for verb, _ in seen} == verbs
    assert {verb for verb, possible in seen if possible} == verbs, "each is possible somewhere"


PRESSED = (State.REGISTERED, State.CANARY, State.REVIEW, State.APPROVED, State.CHAMPION)


def test_a_press_over_http_has_the_outcome_that_the_button_said(settings: Settings) -> None:
    """A sample, each on a model of its own, through the routes of the ledger service and the console's own calls."""
    pressed = Counter[bool]()
    with open_service(settings, ManualClock()) as story:
        numbers = itertools.count()
        for state, who in itertools.product(PRESSED, ("operator", "validator", "scientist", "auditor")):
            for place in itertools.count():
                writer = FactWriter(story.context.ledger, f"m{next(numbers)}")
                release = writer.bring(state)
                headers = story.headers(who)

                def offers(subject: str, headers: Json = headers) -> Offers:
                    return offers_view(story.http.get(f"{path_of(subject)}/actions", headers=headers).json())

                of_release, of_model = offers(release), offers(writer.model)
                now = ModelNow(story.context.ledger.state.models[writer.model], None)
                buttons = console_actions.release_buttons(release, now, of_release, of_model)
                buttons += console_actions.buttons(["retrain"], writer.model, of_model)
                buttons += kill_switch.buttons(Switch(writer.model, None, now), of_model)
                if place == len(buttons):
                    break
                button = buttons[place]
                known = of_release if "@" in button.subject else of_model
                action = known.get(button.verb)
                assert action is not None
                call = call_of(button.verb, button.subject, action.to or "baseline")
                if action.needs_etag:
                    headers |= {"If-Match": f'"{known.etag}"'}
                answer = story.http.post(call.path, json=call.body, headers=headers)
                assert (answer.status_code == 201) == (button.why_not is None), (state, who, button, answer.text)
                if button.why_not is not None:
                    assert answer.json()["error"] == button.why_not
                pressed[button.why_not is None] += 1
    assert min(pressed[True], pressed[False]) >= 20, pressed


def test_the_console_has_no_rules_of_its_own() -> None:
    """It reads what the rules say as values, and imports no guard, no role and no table of what may follow what."""
    root = Path(__file__).parents[2] / "console"
    found = set()
    for path in root.rglob("*.py"):
        if "terminal" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lineage.rules"):
                found.add(node.module)
            if isinstance(node, ast.ImportFrom) and node.module == "lineage.lifecycle":
                assert not {alias.name for alias in node.names} & {"TRANSITIONS", "allowed", "after"}, path
    assert found == {"lineage.rules.views"}
