"""Why a decision was adverse, in customer words: the features that pushed hardest, from the model that answered."""

from __future__ import annotations

from typing import TypedDict

from lineage.errors import InvalidError
from validators.scoring.bundle import Bundle
from validators.scoring.port import Rows, Scorer


class AdverseReason(TypedDict):
    """One principal reason: its code, customer words, the feature behind it and its push in log-odds."""

    code: str
    text: str
    feature: str
    contribution: float


def adverse_reasons(bundle: Bundle, contributions: Rows, scorer: Scorer) -> list[AdverseReason]:
    """The principal reasons of one row, largest push towards the adverse outcome first.

    At most `reasons_most`; equal pushes are ordered by feature name, so a replay gives the same list. Features that
    share a code are one reason, told by the one that pushed hardest.

    Args:
        bundle: the release that answered.
        contributions: float64[f] or float64[1, f], from `scorer.contributions`.
        scorer: the model that answered: the release's own model or its baseline.

    Raises:
        InvalidError: the scorer is not one of this release, or the row has another length.
    """
    if scorer is not bundle.model and scorer is not bundle.baseline:
        raise InvalidError("reasons must come from the model that answered, not from a scorer of another release")
    pushes = contributions.reshape(-1)
    if len(pushes) != len(bundle.features):
        raise InvalidError(f"a row has {len(pushes)} contributions; the release has {len(bundle.features)} features")
    ranked = sorted(
        ((float(push), feature.name) for push, feature in zip(pushes, bundle.features, strict=True) if push > 0),
        key=lambda pair: (-pair[0], pair[1]),
    )
    found: dict[str, AdverseReason] = {}
    for push, name in ranked:
        reason = bundle.spec.reasons[name]
        found.setdefault(reason.code, {"code": reason.code, "text": reason.text, "feature": name, "contribution": push})
    return list(found.values())[: bundle.spec.reasons_most]
