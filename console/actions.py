"""Buttons, their words and their calls for what a person may do to a release or a model.

Pure. Which actions there are, which are possible and why not is the ledger's answer; the words are the console's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from console.formatting import NB, percent
from console.judgement_text import reasons
from console.model_now import ModelNow
from console.review import Call, Decision, decide, reason_given
from lineage.rules.views import Action, Offers
from lineage.state.entities import Release

Json = dict[str, Any]
#: The order of buttons.
ORDER = ("rollback", "approve", "reject", "promote", "canary", "abort", "shadow-start", "shadow-stop")
VERBS = frozenset({*ORDER, "retrain"})
#: Actions that lead to a safer place carry the filled button; the last two are of `console.kill_switch`.
SAFE = frozenset({"rollback", "abort", "reject", "kill", "silence"})
GONE = "None for these bytes: train a new release."
_DECISIONS: dict[str, Decision] = {"approve": "approve", "reject": "reject"}
_PATHS = {"shadow-start": "shadow/start", "shadow-stop": "shadow/stop"}


@dataclass(frozen=True)
class Button:
    """One button: what it says, and why it cannot be used (None when it can)."""

    verb: str
    subject: str
    label: str
    why_not: str | None


@dataclass(frozen=True)
class Preview:
    """What the review dialog says before anything is done. `button` repeats the effect."""

    title: str
    before: list[str]
    after: list[str]
    effect: str
    failure: str
    undo: str
    button: str


def label(action: Action, subject: str) -> str:
    """The button's words: the verb with its effect."""
    match action.verb:
        case "rollback":
            return f"Roll back to {_target(action)}"
        case "abort":
            return "Abort, all traffic back"
        case "promote":
            return f"Promote to {percent(action.next_share)}"
        case "canary":
            return f"Start canary at {percent(action.next_share)}"
        case "shadow-start":
            return "Start in the shadow"
        case "shadow-stop":
            return "Stop the shadow"
        case _:
            return f"{action.verb.capitalize()} {subject}"


def _target(action: Action) -> str:
    return "the baseline" if action.to in (None, "baseline") else str(action.to)


def button(action: Action, subject: str) -> Button:
    """The button of an action on a release or model."""
    return Button(action.verb, subject, label(action, subject), action.why_not)


def release_buttons(release: str, now: ModelNow, of_release: Offers, of_model: Offers) -> list[Button]:
    """The buttons of a release page: what applies to the release, and the rollback on the page of the champion."""
    offered = {action.verb: (action, release) for action in of_release.actions}
    if now.model.champion == release:
        offered |= {action.verb: (action, now.model.model) for action in of_model.actions}
    known = (offered[verb] for verb in ORDER if verb in offered)
    return [button(action, subject) for action, subject in known if action.applies]


def buttons(verbs: Iterable[str], subject: str, offers: Offers) -> list[Button]:
    """The buttons of some verbs on a subject, where they apply."""
    found = (offers.get(verb) for verb in verbs)
    return [button(action, subject) for action in found if action is not None and action.applies]


def traffic(now: ModelNow, hourly: float | None) -> list[str]:
    """Which release answers how much, challenger first: `["credit-default@2 25 %", …]`.

    Args:
        hourly: decisions an hour of the model; None where that is not known.
    """
    model = now.model
    if now.stopped:
        return ["nobody answers, killed" if now.stopped == "nothing" else f"baseline {percent(1.0)}, killed"]
    rest = model.champion or "baseline"

    def part(release: str, portion: float) -> str:
        return f"{release} {percent(portion)}" + (f", about {hourly * portion:,.0f}{NB}decisions/h" if hourly else "")

    if not model.challenger or model.share == 0:
        return [part(rest, 1.0)]
    if model.share >= 1:
        return [part(model.challenger, 1.0)]
    return [part(model.challenger, model.share), part(rest, 1 - model.share)]


def preview(action: Action, subject: str, now: ModelNow, release: Release | None, hourly: float | None) -> Preview:
    """What the review dialog says about an action.

    Args:
        release: the release that it is about; the champion for a rollback.
    """
    text, before = label(action, subject), traffic(now, hourly)
    failure = "; ".join(reasons(release.judgement if release else None)) or "None on record."
    name = release.release if release else subject
    match action.verb:
        case "rollback":
            to = action.to or "baseline"
            effect = f"{to} answers on every replica within about a second. {name} never answers again."
            return Preview(text, before, traffic(now.with_champion(to), hourly), effect, failure, GONE, text)
        case "abort":
            after = traffic(now.with_challenger(now.model.challenger, 0.0), hourly)
            effect = f"{now.champion} answers everything. {name} is quarantined and never answers again."
            return Preview(f"Abort {name}", before, after, effect, failure, GONE, text)
        case "approve":
            effect = "Traffic does not change. An operator may then promote it."
            undo = "Abort it before or during the rollout, or roll back after."
            return Preview(text, [f"{name} in review"], [f"{name} approved"], effect, failure, undo, text)
        case "reject":
            effect = f"{now.champion} answers everything. {name} is rejected and never answers again."
            return Preview(text, [f"{name} in review"], [f"{name} rejected"], effect, failure, GONE, text)
        case "retrain":
            effect = (
                "A training job starts. Nothing a customer sees changes until its release passes the whole journey."
            )
            after = [f"a new candidate of {subject}"]
            return Preview(text, [now.model.champion or "baseline"], after, effect, "–", "Stop the job.", text)
        case "shadow-start" | "shadow-stop":
            return _shadow(action, text, name, before, failure)
        case _:
            return _forward(action, text, name, now, hourly, failure)


def _shadow(action: Action, text: str, name: str, before: list[str], failure: str) -> Preview:
    starts = action.verb == "shadow-start"
    copies = f"{name} scores copies of live requests" if starts else f"{name} scores no copies"
    effect = "Nothing a customer sees changes: nothing of what it says is used."
    undo = "Stop the shadow." if starts else "Start it again."
    return Preview(f"{text}: {name}", before, [*before, copies], effect, failure, undo, text)


def _forward(action: Action, text: str, name: str, now: ModelNow, hourly: float | None, failure: str) -> Preview:
    after = traffic(now.with_challenger(name, action.next_share or 0.0), hourly)
    effect = (
        "Real decisions for customers. The judge watches and takes the traffic back if a limit is crossed."
        if action.verb == "canary"
        else "The controller takes the further steps while the judge agrees, one step at a time."
    )
    undo = "Abort at any moment: all traffic goes back within about a second."
    return Preview(f"{text}: {name}", traffic(now, hourly), after, effect, failure, undo, text)


def call(verb: str, subject: str, reason: str, *, to: str | None = None, folder: str | None = None) -> Call:
    """The ledger call of a verb.

    Args:
        to: the target of a rollback, as the dialog showed it.
        folder: the model folder to retrain from.

    Raises:
        ValueError: the reason is too short, the folder is missing, or there is no such verb.
    """
    if verb not in VERBS:
        raise ValueError(f"there is no verb {verb!r}")
    if verb in _DECISIONS:
        return decide(subject, _DECISIONS[verb], reason)
    body: Json = {"reason": reason_given(reason)}
    if verb == "rollback":
        return Call(f"/v1/models/{subject}/rollback", body | {"to": to})
    if verb == "retrain":
        if not (folder or "").strip():
            raise ValueError("Name the model folder to train from, e.g. examples/credit_default.")
        return Call(f"/v1/models/{subject}/retrain", body | {"folder": folder, "options": {}})
    return Call(f"/v1/releases/{subject}/{_PATHS.get(verb, verb)}", body)
