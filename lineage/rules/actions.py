"""Actions of people as drafts of facts; values that a person does not enter come from the state and the policy."""

from __future__ import annotations

import secrets
from typing import Any, Literal

from lineage.errors import RefusedError, UnknownError
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.rules.safety import not_pulled, not_requested
from lineage.state.entities import Model, Release
from lineage.state.fold import LedgerState
from lineage.state.safety import Kill

_MOST_NAMES = 20  # names that an error lists at most


def release_named(state: LedgerState, name: str) -> Release:
    """The release of that name.

    Raises:
        UnknownError: there is none.
    """
    try:
        return state.releases[name]
    except KeyError:
        model = name.rpartition("@")[0]
        known = [r for r in state.releases if r.startswith(f"{model}@")]
        hint = f"releases of {model}: {_listed(known)}" if known else "see `plimsoll releases`"
        raise UnknownError(f"there is no release {name!r}; {hint}", field="release") from None


def model_named(state: LedgerState, name: str) -> Model:
    """The model of that name.

    Raises:
        UnknownError: there is none.
    """
    try:
        return state.models[name]
    except KeyError:
        known = _listed(list(state.models)) or "none yet; train one first"
        raise UnknownError(f"there is no model {name!r}; known: {known}", field="model") from None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[-_MOST_NAMES:]) + more


def start_canary(state: LedgerState, release: str, actor: Actor, reason: str) -> Draft:
    """Give the release the first share of its policy, split by a fresh salt."""
    about = release_named(state, release)
    control = model_named(state, about.model).champion or "baseline"
    share = _next_share(about, "canary")
    data = {"share": share, "salt": secrets.token_hex(16), "control": control}
    return Draft("CanaryStarted", actor, data, about.model, release, reason)


def decide_review(state: LedgerState, release: str, actor: Actor, reason: str, decision: str) -> Draft:
    """Approve or reject the release; the draft names the digest on record."""
    about = release_named(state, release)
    return Draft("ReviewDecided", actor, {"decision": decision, "digest": about.digest}, about.model, release, reason)


def promote(state: LedgerState, release: str, actor: Actor, reason: str) -> Draft:
    """Begin the rollout of an approved release with the next share of its policy."""
    about = release_named(state, release)
    data = {"share": _next_share(about, "rollout"), "judgement": about.judgement}
    return Draft("RolloutStepped", actor, data, about.model, release, reason)


def abort(state: LedgerState, release: str, actor: Actor, reason: str) -> Draft:
    """Take a release in flight out of traffic and quarantine it."""
    about = release_named(state, release)
    return Draft("CanaryAborted", actor, {"why": reason, "judgement": about.judgement}, about.model, release, reason)


def roll_back(state: LedgerState, model: str, actor: Actor, reason: str, to: str | None) -> Draft:
    """Replace the champion by the previous one, or by the baseline.

    Raises:
        RefusedError: there is no champion, or no previous one and no target was named.
    """
    about = model_named(state, model)
    if about.champion is None:
        raise RefusedError(f"{model} has no champion; the baseline answers already", code="no_champion")
    target = to or about.previous
    if target is None:
        raise RefusedError(
            f"{model} has no previous champion to return to; name `baseline` as the target to let it answer",
            code="no_previous",
        )
    return Draft("RollbackOrdered", actor, {"to": target}, model, about.champion, reason)


def kill(state: LedgerState, model: str | None, actor: Actor, reason: str, answer: str) -> Draft:
    """Pull the kill switch of a model or of all models: the baseline answers, or nothing does."""
    if model is not None:
        model_named(state, model)
    return Draft("KillSwitchPulled", actor, {"answer": answer}, model, None, reason)


def ask_kill_release(state: LedgerState, model: str | None, actor: Actor, reason: str) -> Draft:
    """Request the release of a pulled kill switch.

    Raises:
        RefusedError: it is not pulled.
    """
    data = {"pulled": _pulled(state, model).seq}
    return Draft("KillReleaseRequested", actor, data, model, None, reason)


def release_kill(state: LedgerState, model: str | None, actor: Actor, reason: str) -> Draft:
    """Confirm the request to release a pulled kill switch.

    Raises:
        RefusedError: it is not pulled, or no release was requested.
    """
    pulled = _pulled(state, model)
    if pulled.asked_seq is None:
        raise not_requested(model)
    data = {"pulled": pulled.seq, "requested": pulled.asked_seq}
    return Draft("KillSwitchReleased", actor, data, model, None, reason)


def shadow(state: LedgerState, release: str, actor: Actor, reason: str, kind: str) -> Draft:
    """Let a registered release score copies of live requests (`ShadowStarted`), or end that (`ShadowStopped`)."""
    about = release_named(state, release)
    data = {"code": None} if kind == "ShadowStopped" else {}
    return Draft(kind, actor, data, about.model, release, reason)


def retrain(model: str, actor: Actor, reason: str, folder: str, options: dict[str, Any]) -> Draft:
    """Request a training run; the controller starts it."""
    data = {"folder": folder, "why": reason, "author": actor.name, "options": options}
    return Draft("RetrainRequested", actor, data, model, None, reason)


def _pulled(state: LedgerState, model: str | None) -> Kill:
    switch = model_named(state, model).kill if model is not None else state.kill
    if switch is None:
        raise not_pulled(model)
    return switch


def _next_share(release: Release, section: Literal["canary", "rollout"]) -> float:
    """The next share of the policy; a share that the rules refuse when there is none."""
    steps = release.ruled.steps(section)
    return release.next_share(section) or (steps[-1] if steps else 1.0)
