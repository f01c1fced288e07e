"""What a person can do to a release or model: when it is possible, who may, what it does and what undoes it.

Pure. The ledger is the authority; these texts explain its rules beforehand and never replace them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from console.formatting import NB, percent
from console.review import REASON_LEAST, Call, decide, roles, why_not
from lineage.lifecycle import IN_FLIGHT
from lineage.rules.roles import PEOPLE_MAY

Json = dict[str, Any]
#: verb -> kind of fact it states; the order is the order of buttons
VERBS = {
    "rollback": "RollbackOrdered",
    "approve": "ReviewDecided",
    "reject": "ReviewDecided",
    "promote": "RolloutStepped",
    "canary": "CanaryStarted",
    "abort": "CanaryAborted",
    "shadow": "ShadowStarted",
    "unshadow": "ShadowStopped",
    "retrain": "RetrainRequested",
}
#: Actions that lead to a safer place carry the filled button; the last two are of `console.kill_switch`.
SAFE = frozenset({"rollback", "abort", "reject", "kill", "silence"})
GONE = "None for these bytes: train a new release."


@dataclass(frozen=True)
class Option:
    """One button: what it says, and why it cannot be used (None when it can)."""

    verb: str
    subject: str
    label: str
    why_not: str | None


@dataclass(frozen=True)
class Sheet:
    """What the review sheet says before anything is done. `button` repeats the effect."""

    title: str
    before: list[str]
    after: list[str]
    effect: str
    failure: str
    undo: str
    button: str


def next_share(release: Json, section: str) -> float | None:
    """The share that the policy's next step of `canary` or `rollout` gives; None at the end."""
    here = 0.0 if section == "canary" and release["state"] == "registered" else release.get("share") or 0.0
    steps = release.get("policy", {}).get(section, {}).get("steps", [])
    return next((step for step in steps if step > here), None)


def label(verb: str, release: Json, model: Json) -> str:
    """The button's words: the verb with its effect."""
    match verb:
        case "rollback":
            return f"Roll back to {model.get('previous') or 'the baseline'}"
        case "abort":
            return "Abort, all traffic back"
        case "promote":
            return f"Promote to {percent(next_share(release, 'rollout'))}"
        case "canary":
            return f"Start canary at {percent(next_share(release, 'canary'))}"
        case "retrain":
            return f"Retrain {model['model']}"
        case "shadow":
            return "Start in the shadow"
        case "unshadow":
            return "Stop the shadow"
        case _:
            return f"{verb.capitalize()} {release['release']}"


def _not_now(verb: str, release: Json, model: Json) -> str | None:
    name, state = release["release"], release["state"]
    if verb in ("canary", "promote") and model.get("stopped"):
        return f"{model['model']} is killed: no release takes traffic until two people let go."
    match verb:
        case "rollback":
            return None if model.get("champion") == name else f"{name} is not the champion."
        case "abort":
            return None if state in IN_FLIGHT else f"{name} carries no trial traffic."
        case "promote":
            needs_review = release.get("policy", {}).get("review", {}).get("required", True)
            if state == "approved" or (state == "review" and not needs_review):
                return None
            return f"{name} has no approval by a second person yet." if state == "review" else f"{name} is {state}."
        case "canary":
            if state != "registered":
                return f"{name} is {state}; a canary starts from registered."
            return _other(name, model)
        case "shadow":
            return _other(name, model)
    return None


def _other(name: str, model: Json) -> str | None:
    """The release that is scored beside the champion already; there is room for one."""
    flying, shadow = model.get("challenger"), model.get("shadow")
    if flying:
        return f"{flying} is in flight; one release of a model at a time."
    return f"{shadow} scores in the shadow; stop that first." if shadow not in (None, name) else None


def refusal(verb: str, release: Json, model: Json, name: str, role: str) -> str | None:
    """Why this person cannot use the verb now, and who can; None when they can."""
    if verb in ("approve", "reject"):
        return why_not(release, name, role)
    if reason := _not_now(verb, release, model):
        return reason
    kind = VERBS[verb]
    return None if role in PEOPLE_MAY[kind] else f"Your role is {role}. An {roles(kind)} can."


def _fits(verb: str, release: Json, model: Json) -> bool:
    """The verb belongs on the page of a release in this state, whether or not this person may use it."""
    state = release["state"]
    return {
        "rollback": model.get("champion") == release["release"],
        "abort": state in IN_FLIGHT,
        "approve": state == "review",
        "reject": state == "review",
        "promote": state in ("review", "approved"),
        "canary": state == "registered",
        "shadow": state == "registered" and model.get("shadow") != release["release"],
        "unshadow": model.get("shadow") == release["release"],
    }.get(verb, False)


def options(release: Json, model: Json, name: str, role: str) -> list[Option]:
    """The buttons of a release page for this person, safe ones first."""
    return [
        Option(verb, release["release"], label(verb, release, model), refusal(verb, release, model, name, role))
        for verb in VERBS
        if _fits(verb, release, model)
    ]


def traffic(model: Json, hourly: float | None, challenger: float | None = None) -> list[str]:
    """Who answers how much, challenger first: `["credit-default@2 25 %", …]`, with decisions an hour where known.

    Args:
        challenger: the challenger's share to assume; the model's own when absent.
    """
    if stopped := model.get("stopped"):
        return ["nobody answers, killed" if stopped == "nothing" else f"baseline {percent(1.0)}, killed"]
    share = model.get("share", 0.0) if challenger is None else challenger
    rest = model.get("champion") or "baseline"

    def part(who: str, portion: float) -> str:
        return f"{who} {percent(portion)}" + (f", about {hourly * portion:,.0f}{NB}decisions/h" if hourly else "")

    if not model.get("challenger") or share == 0:
        return [part(rest, 1.0)]
    if share >= 1:
        return [part(model["challenger"], 1.0)]
    return [part(model["challenger"], share), part(rest, 1 - share)]


def sheet(verb: str, release: Json, model: Json, hourly: float | None = None) -> Sheet:
    """The review sheet of a verb."""
    name, text = release["release"], label(verb, release, model)
    now = traffic(model, hourly)
    failure = "; ".join((release.get("judgement") or {}).get("reasons", [])) or "None on record."
    stand_in = model.get("champion") or "the baseline"
    match verb:
        case "rollback":
            to = model.get("previous") or "baseline"
            after = traffic({**model, "champion": to, "share": 0.0}, hourly)
            effect = f"{to} answers on every replica within about a second. {name} never answers again."
            return Sheet(text, now, after, effect, failure, GONE, text)
        case "abort":
            after = traffic(model, hourly, 0.0)
            effect = f"{stand_in} answers everything. {name} is quarantined and never answers again."
            return Sheet(f"Abort {name}", now, after, effect, failure, GONE, text)
        case "approve":
            effect = "Traffic does not change. An operator may then promote it."
            undo = "Abort it before or during the rollout, or roll back after."
            return Sheet(text, [f"{name} in review"], [f"{name} approved"], effect, failure, undo, text)
        case "reject":
            effect = f"{stand_in} answers everything. {name} is rejected and never answers again."
            return Sheet(text, [f"{name} in review"], [f"{name} rejected"], effect, failure, GONE, text)
        case _:
            return _forward(verb, release, model, hourly)


def _forward(verb: str, release: Json, model: Json, hourly: float | None) -> Sheet:
    name, text = release["release"], label(verb, release, model)
    failure = "; ".join((release.get("judgement") or {}).get("reasons", [])) or "None on record."
    now = traffic(model, hourly)
    if verb in ("shadow", "unshadow"):
        starts = verb == "shadow"
        copies = f"{name} scores copies of live requests" if starts else f"{name} scores no copies"
        effect = "Nothing a customer sees changes: nothing of what it says is used."
        undo = "Stop the shadow." if starts else "Start it again."
        return Sheet(f"{text}: {name}", now, [*now, copies], effect, failure, undo, text)
    if verb == "retrain":
        effect = "A training job starts. Nothing a customer sees changes until its release passes the whole journey."
        after = [f"a new candidate of {model['model']}"]
        return Sheet(text, [model.get("champion") or "baseline"], after, effect, "–", "Stop the job.", text)
    section = "canary" if verb == "canary" else "rollout"
    share = next_share(release, section) or 0.0
    after = traffic({**model, "challenger": name}, hourly, share)
    effect = (
        "Real decisions for customers. The judge watches and takes the traffic back if a limit is crossed."
        if verb == "canary"
        else "The controller takes the further steps while the judge agrees, one step at a time."
    )
    undo = "Abort at any moment: all traffic goes back within about a second."
    return Sheet(f"{text}: {name}", now, after, effect, failure, undo, text)


def call(verb: str, release: Json, model: Json, reason: str, folder: str | None = None) -> Call:
    """The ledger call of a verb.

    Raises:
        ValueError: the reason is too short, the folder is missing, or there is no such verb.
    """
    if verb in ("approve", "reject"):
        return decide(release, verb, reason)  # type: ignore[arg-type]
    if verb not in VERBS:
        raise ValueError(f"there is no verb {verb!r}")
    if len(reason.strip()) < REASON_LEAST:
        raise ValueError(f"Give a reason of at least {REASON_LEAST} characters.")
    body: Json = {"reason": reason.strip()}
    if verb == "rollback":
        return Call(f"/v1/models/{model['model']}/rollback", body | {"to": model.get("previous") or "baseline"})
    if verb == "retrain":
        if not (folder or "").strip():
            raise ValueError("Name the model folder to train from, e.g. examples/credit_default.")
        return Call(f"/v1/models/{model['model']}/retrain", body | {"folder": folder, "options": {}})
    path = {"shadow": "shadow/start", "unshadow": "shadow/stop"}.get(verb, verb)
    return Call(f"/v1/releases/{release['release']}/{path}", body)
