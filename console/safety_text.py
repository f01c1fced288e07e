"""What is stopped, in words: the kill switch, open breakers, the shadow. Pure; the same words everywhere.

A model is stopped by its own switch or by the one of all models; a breaker stops it on one replica.
"""

from __future__ import annotations

from typing import Any

from console.formatting import NB, clock, plural
from lineage.state.safety import stricter

Json = dict[str, Any]
ALL = "all models"
_ANSWERS = {"baseline": "the baseline answers", "nothing": "nothing is answered"}
#: Why a breaker opened; a cause that is not here is told by its own name.
_CAUSES = {
    "errors": "errors",
    "slow": "too slow",
    "not_a_probability": "scores that are no probability",
    "constant_scores": "constant scores",
    "approval_rate": "impossible approval rate",
    "stale_features": "stale features",
    "explanation": "explanations too slow",
}


def answers(answer: str) -> str:
    """What customers get under a switch that is pulled."""
    return _ANSWERS[answer]


def view(state: Json, name: str) -> Json:
    """A model of the fold with `stopped` beside it: what answers under the switches, or None where none is pulled."""
    model: Json = state["models"][name]
    return model | {"stopped": stopped(model, state.get("kill"))}


def killed(kill: Json) -> str:
    """`KILLED by operator since 14:05 UTC: the baseline answers`, and who stopped more, where somebody did."""
    first = kill["since"] == kill["at"]
    since = f"since {clock(kill['since'])}{NB}UTC"
    by = f"KILLED by {kill['by']} {since}" if first else f"KILLED {since}, last by {kill['by']}"
    return f"{by}: {_ANSWERS[kill['answer']]}"


def waiting(kill: Json) -> str:
    """Whether somebody asked to release it, and who is needed now."""
    if kill["asked_by"] is None:
        return "Two people release it: one asks, a second person confirms."
    reason = f" ({kill['asked_reason']})" if kill.get("asked_reason") else ""
    asked = f"Release asked for by {kill['asked_by']} at {clock(kill['asked_at'])}{NB}UTC{reason}"
    return f"{asked}; a second person must confirm."


def switches(state: Json) -> list[tuple[str, Json]]:
    """Every switch that is pulled, that of all models first: `(whose, kill)`."""
    pulled = [(ALL, state["kill"])] if state.get("kill") else []
    return pulled + [(name, model["kill"]) for name, model in sorted(state["models"].items()) if model.get("kill")]


def breakers(model: Json) -> list[str]:
    """Where the baseline answers because a breaker is open: a sentence for each cause, the oldest first."""
    causes: dict[str, list[Json]] = {}
    for one in sorted((model.get("breakers") or {}).values(), key=lambda one: str(one["since"])):
        causes.setdefault(one["cause"], []).append(one)
    return [
        f"the baseline answers on {plural(len(ones), 'replica')}: "
        f"{_CAUSES.get(cause, cause.replace('_', ' '))} since {clock(ones[0]['since'])}{NB}UTC"
        for cause, ones in causes.items()
    ]


def stopped(model: Json, all_: Json | None) -> str | None:
    """What answers for a model under its switches, stricter first: `nothing`, `baseline`, or None where it runs."""
    return stricter([model.get("kill"), all_]) or None


def who_answers(model: Json, all_: Json | None) -> str:
    """Who answers for a model now, in a few words."""
    match stopped(model, all_):
        case "nothing":
            return "nobody, killed"
        case "baseline":
            return "the baseline, killed"
        case _:
            return model.get("champion") or "the baseline"
