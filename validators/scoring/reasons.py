"""Reasons of an adverse decision in customer words: the features with the largest contributions."""

from __future__ import annotations

from typing import TypedDict

from lineage.errors import InvalidError
from validators.scoring.bundle import Bundle
from validators.scoring.port import Rows, Scorer


class AdverseReason(TypedDict):
    """One principal reason: its code, customer words, the feature behind it and its contribution in log-odds."""

    code: str
    text: str
    feature: str
    contribution: float


def adverse_reasons(bundle: Bundle, contributions: Rows, scorer: Scorer) -> list[AdverseReason]:
    """The principal reasons of one row, largest contribution towards the adverse outcome first.

    At most `reasons_most`; equal contributions are ordered by feature name, so a replay gives the same list. Features
    that share a code are one reason, with the contribution of the largest.

    Args:
        bundle: the release that answered.
        contributions: float64[f] or float64[1, f], from `scorer.contributions`.
        scorer: the model that answered: the release's own model or its baseline.

    Raises:
        InvalidError: the scorer is not one of this release, or the row has another length.
    """
    if scorer is not bundle.model and scorer is not bundle.baseline:
        raise InvalidError("reasons must come from the model that answered, not from a scorer of another release")
    values = contributions.reshape(-1)
    if len(values) != len(bundle.features):
        raise InvalidError(f"a row has {len(values)} contributions; the release has {len(bundle.features)} features")
    ranked = sorted(
        ((float(value), feature.name) for value, feature in zip(values, bundle.features, strict=True) if value > 0),
        key=lambda pair: (-pair[0], pair[1]),
    )
    found: dict[str, AdverseReason] = {}
    for value, name in ranked:
        reason = bundle.spec.reasons[name]
        found.setdefault(
            reason.code, {"code": reason.code, "text": reason.text, "feature": name, "contribution": value}
        )
    return list(found.values())[: bundle.spec.reasons_most]
