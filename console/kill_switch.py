"""What a person can do to a kill switch, of one model or of all: the button, the sheet and the call of each verb.

Pure. The ledger is the authority; these texts explain its rules beforehand and never replace them.
"""

from __future__ import annotations

from typing import Any

from console import safety_text as stops
from console.actions import Option, Sheet, traffic
from console.formatting import plural
from console.review import REASON_LEAST, Call, roles
from lineage.rules.roles import PEOPLE_MAY

Json = dict[str, Any]
#: verb -> kind of fact it states; the order is the order of buttons
VERBS = {
    "kill": "KillSwitchPulled",
    "silence": "KillSwitchPulled",
    "ask-release": "KillReleaseRequested",
    "confirm-release": "KillSwitchReleased",
}
#: Stopping must always be possible: these are sent without the etag.
STOPS = frozenset({"kill", "silence"})
#: The subject that stands for all models; no model has this name.
EVERYBODY = "*"
_ANSWER = {"kill": "baseline", "silence": "nothing"}
_UNDO = "Two people: one asks for its release, a second person confirms."


def name_of(subject: str) -> str:
    """The model, or `all models`."""
    return stops.ALL if subject == EVERYBODY else subject


def kill_of(state: Json, subject: str) -> Json | None:
    """The switch that is pulled, or None."""
    kill: Json | None = state["kill"] if subject == EVERYBODY else state["models"][subject].get("kill")
    return kill


def etag_of(state: Json, subject: str) -> int:
    """What the ledger wants to be told was seen."""
    return int(state["etag"] if subject == EVERYBODY else state["models"][subject]["etag"])


def label(verb: str, subject: str, kill: Json | None) -> str:
    """The button's words: the verb with its effect."""
    whose = name_of(subject)
    match verb:
        case "kill":
            return f"Kill {whose}, baseline answers"
        case "silence":
            return f"Answer nothing for {whose}" if kill else f"Kill {whose}, no answers"
        case "ask-release":
            return f"Ask to release {whose}"
        case _:
            return f"Release {whose}"


def options(subject: str, kill: Json | None, name: str, role: str) -> list[Option]:
    """The buttons of a switch for this person."""
    fits = ["kill", "silence"] if kill is None else ["silence"] if kill["answer"] == "baseline" else []
    if kill is not None:
        fits.append("ask-release" if kill["asked_by"] is None else "confirm-release")
    return [Option(verb, subject, label(verb, subject, kill), refusal(verb, kill, name, role)) for verb in fits]


def refusal(verb: str, kill: Json | None, name: str, role: str) -> str | None:
    """Why this person cannot use the verb now, and who can; None when they can."""
    kind = VERBS[verb]
    if role not in PEOPLE_MAY[kind]:
        return f"Your role is {role}. An {roles(kind)} can."
    if verb == "confirm-release" and kill is not None and kill["asked_by"] == name:
        return "You asked for the release. A second person has to confirm."
    return None


def sheet(verb: str, subject: str, state: Json, hourly: float | None = None) -> Sheet:
    """The review sheet of a verb."""
    kill, whose = kill_of(state, subject), name_of(subject)
    text, now = label(verb, subject, kill), _now(state, subject, hourly)
    if verb in STOPS:
        after = _after(state, subject, _ANSWER[verb], hourly)
        said = {
            "kill": "The baseline answers every request, and each decision says so.",
            "silence": "Customers get no decision: every request is refused.",
        }[verb]
        more = " New models are stopped too." if subject == EVERYBODY else ""
        return Sheet(text, now, after, f"{said}{more} No release takes traffic meanwhile.", "", _UNDO, text)
    pulled = f"{stops.killed(kill)} (“{kill['reason']}”)" if kill else "not pulled"
    if verb == "ask-release":
        effect = "Nothing changes until a second person confirms."
        undo = "Kill it again: that takes the request back."
        return Sheet(text, [pulled], [pulled, "a second person is asked"], effect, "", undo, text)
    asked = stops.waiting(kill) if kill else ""
    effect = "The champion answers again, and releases may take traffic."
    if subject == EVERYBODY:
        effect = "Champions answer again where no switch of their own is pulled, and releases may take traffic."
    elif state["kill"]:
        effect = f"The switch of {whose} is released; the one of all models stays pulled."
    after = _after(state, subject, None, hourly)
    return Sheet(text, [pulled, asked], after, effect, "", "Kill it again at any moment.", text)


def call(verb: str, subject: str, reason: str) -> Call:
    """The ledger call of a verb.

    Raises:
        ValueError: the reason is too short.
    """
    if len(reason.strip()) < REASON_LEAST:
        raise ValueError(f"Give a reason of at least {REASON_LEAST} characters.")
    path = "/v1/kill" if subject == EVERYBODY else f"/v1/models/{subject}/kill"
    body: Json = {"reason": reason.strip()}
    if verb in STOPS:
        return Call(path, body | {"answer": _ANSWER[verb]})
    return Call(f"{path}/{'ask-release' if verb == 'ask-release' else 'release'}", body)


def _now(state: Json, subject: str, hourly: float | None) -> list[str]:
    if subject != EVERYBODY:
        return traffic(stops.view(state, subject), hourly)
    kill = state["kill"]
    return [stops.killed(kill) if kill else _running(state)]


def _after(state: Json, subject: str, answer: str | None, hourly: float | None) -> list[str]:
    """Who answers once the switch of this subject is pulled to this answer, or released (None)."""
    kill = {"answer": answer} if answer else None
    if subject == EVERYBODY:
        return [f"{stops.answers(answer)}, for every model" if answer else _running(state)]
    models = state["models"]
    after = {**state, "models": {**models, subject: {**models[subject], "kill": kill}}}
    return traffic(stops.view(after, subject), hourly)


def _running(state: Json) -> str:
    own = sum(1 for model in state["models"].values() if model.get("kill"))
    count = len(state["models"]) - own
    return f"{plural(count, 'model')} running" + (f", {own} stopped by a switch of their own" if own else "")
