"""Buttons, words and calls of a kill switch, of one model or of all.

Pure. Which actions there are and which are possible is the ledger's answer; the words are the console's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from console import safety_text
from console.actions import Button, Preview, traffic
from console.formatting import plural
from console.model_now import ModelNow
from console.person_ledger import ALL_MODELS, path_of
from console.review import Call, reason_given
from lineage.rules.views import Action, Offers
from lineage.state.safety import Kill

Json = dict[str, Any]
#: The order of buttons.
VERBS = ("kill", "silence", "ask-release", "confirm-release")
#: These stop something.
STOPS = frozenset({"kill", "silence"})
LETS_GO = ("ask-release", "confirm-release")
_ANSWER = {"kill": "baseline", "silence": "nothing"}
_UNDO = "Two people: one asks for its release, a second person confirms."


@dataclass(frozen=True)
class Switch:
    """A kill switch and what it is about.

    Attributes:
        subject: the model, or `ALL_MODELS`.
        kill: how it is pulled, None where it is not.
        now: the model; None for all models.
        running: how many models answer while all models are not stopped, and how many are stopped by their own switch.
    """

    subject: str
    kill: Kill | None
    now: ModelNow | None = None
    running: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        """The model, or `all models`."""
        return safety_text.ALL if self.subject == ALL_MODELS else self.subject


def label(verb: str, switch: Switch) -> str:
    """The button's words: the verb with its effect."""
    match verb:
        case "kill" if switch.kill:
            return f"Keep {switch.name} killed, take the request back"
        case "kill":
            return f"Kill {switch.name}, baseline answers"
        case "silence" if switch.kill and switch.kill.answer == "nothing":
            return f"Keep {switch.name} without answers, take the request back"
        case "silence":
            return f"Answer nothing for {switch.name}" if switch.kill else f"Kill {switch.name}, no answers"
        case "ask-release":
            return f"Ask to release {switch.name}"
        case _:
            return f"Release {switch.name}"


def buttons(switch: Switch, offers: Offers) -> list[Button]:
    """The buttons of a switch: what applies as it stands."""
    known = [(verb, offers.get(verb)) for verb in VERBS]
    return [
        Button(verb, switch.subject, label(verb, switch), action.why_not)
        for verb, action in known
        if action is not None and action.applies
    ]


def preview(action: Action, switch: Switch, hourly: float | None = None) -> Preview:
    """What the review dialog says about an action on a switch."""
    kill, text, before = switch.kill, label(action.verb, switch), _before(switch, hourly)
    if action.verb in STOPS:
        said = {
            "kill": "The baseline answers every request, and each decision says so.",
            "silence": "Customers get no decision: every request is refused.",
        }[action.verb]
        more = " New models are stopped too." if switch.subject == ALL_MODELS else ""
        after = _after(switch, _ANSWER[action.verb], hourly)
        return Preview(text, before, after, f"{said}{more} No release takes traffic meanwhile.", "", _UNDO, text)
    pulled = f"{safety_text.killed(kill)} (“{kill.reason}”)" if kill else "not pulled"
    if action.verb == "ask-release":
        effect = "Nothing changes until a second person confirms."
        undo = "Kill it again: that takes the request back."
        return Preview(text, [pulled], [pulled, "a second person is asked"], effect, "", undo, text)
    asked = safety_text.waiting(kill) if kill else ""
    effect = "The champion answers again, and releases may take traffic."
    if switch.now is None:
        effect = "Champions answer again where no switch of their own is pulled, and releases may take traffic."
    elif switch.now.kill_of_all:
        effect = f"The switch of {switch.name} is released; the one of all models stays pulled."
    after = _after(switch, None, hourly)
    return Preview(text, [pulled, asked], after, effect, "", "Kill it again at any moment.", text)


def call(verb: str, subject: str, reason: str) -> Call:
    """The ledger call of a verb.

    Raises:
        ValueError: the reason is too short.
    """
    path = path_of(subject) if subject == ALL_MODELS else f"{path_of(subject)}/kill"
    body: Json = {"reason": reason_given(reason)}
    if verb in STOPS:
        return Call(path, body | {"answer": _ANSWER[verb]})
    return Call(f"{path}/{'ask-release' if verb == 'ask-release' else 'release'}", body)


def _before(switch: Switch, hourly: float | None) -> list[str]:
    if switch.now is not None:
        return traffic(switch.now, hourly)
    return [safety_text.killed(switch.kill) if switch.kill else _running(switch)]


def _after(switch: Switch, answer: str | None, hourly: float | None) -> list[str]:
    """What answers once the switch is pulled to this answer, or released (None)."""
    if switch.now is None:
        return [f"{safety_text.answers(answer)}, for every model" if answer else _running(switch)]
    kill = Kill("", "", 0, None, answer, "") if answer else None
    return traffic(switch.now.with_kill(kill), hourly)


def _running(switch: Switch) -> str:
    running, own = switch.running
    return f"{plural(running, 'model')} running" + (f", {own} stopped by a switch of their own" if own else "")
