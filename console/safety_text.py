"""What is stopped, in words: the kill switch, open breakers, the shadow. Pure; the same words everywhere.

A model is stopped by its own switch or by the one of all models; a breaker stops it on one replica.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from console.formatting import NB, clock, plural
from lineage.state.entities import ModelSummary
from lineage.state.safety import Breaker, Kill

ALL = "all models"
_ANSWERS = {"baseline": "the baseline answers", "nothing": "nothing is answered"}
#: Why a breaker opened; a cause that is not here is shown by its own name.
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


def killed(kill: Kill) -> str:
    """`KILLED by operator since 14:05 UTC: the baseline answers`, and who pulled last where it was pulled again."""
    since = f"since {clock(kill.since)}{NB}UTC"
    by = f"KILLED by {kill.by} {since}" if kill.since == kill.at else f"KILLED {since}, last by {kill.by}"
    return f"{by}: {_ANSWERS[kill.answer]}"


def waiting(kill: Kill) -> str:
    """Whether its release was asked for, and who is needed now."""
    if kill.asked_by is None:
        return "Two people release it: one asks, a second person confirms."
    reason = f" ({kill.asked_reason})" if kill.asked_reason else ""
    asked = f"Release asked for by {kill.asked_by} at {clock(kill.asked_at)}{NB}UTC{reason}"
    return f"{asked}; a second person must confirm."


def switches(kill_of_all: Kill | None, models: Iterable[ModelSummary]) -> list[tuple[str, Kill]]:
    """Every switch that is pulled, that of all models first: `(whose, kill)`."""
    pulled = [(ALL, kill_of_all)] if kill_of_all else []
    own = sorted(models, key=lambda model: model.model)
    return pulled + [(model.model, model.kill) for model in own if model.kill]


def breakers(opened: Mapping[str, Breaker]) -> list[str]:
    """Where the baseline answers because a breaker is open: a sentence for each cause, the oldest first."""
    causes: dict[str, list[Breaker]] = {}
    for breaker in sorted(opened.values(), key=lambda one: one.since):
        causes.setdefault(breaker.cause, []).append(breaker)
    return [
        f"the baseline answers on {plural(len(ones), 'replica')}: "
        f"{_CAUSES.get(cause, cause.replace('_', ' '))} since {clock(ones[0].since)}{NB}UTC"
        for cause, ones in causes.items()
    ]


def who_answers(model: ModelSummary, kill_of_all: Kill | None) -> str:
    """Which release answers for a model now, in a few words."""
    match model.stopped(kill_of_all):
        case "nothing":
            return "nobody, killed"
        case "baseline":
            return "the baseline, killed"
        case _:
            return model.champion or "the baseline"
