"""PL001: the candidate ranks better than the simple baseline and not worse than the champion."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from validators.check import Finding, Limits, NotEvaluated
from validators.evidence import Evidence
from validators.statistics.auc import auc, auc_difference


class GainLimits(Limits):
    """Required gain over the baseline, permitted loss against the champion, confidence, and least numbers of rows."""

    minimum_gain: float = Field(default=0.01, ge=0, le=0.5, description="AUC above the baseline, at the lower bound.")
    margin: float = Field(default=0.01, ge=0, le=0.5, description="AUC below the champion, at the lower bound.")
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    minimum_rows: int = Field(default=1000, ge=50, le=100_000_000)
    minimum_events: int = Field(default=100, ge=10, le=100_000_000, description="Rows of each outcome.")


class BeatsBaselineAndChampion:
    """Discrimination on the holdout, against the baseline and the champion.

    Purpose:
        A complex model must justify its complexity: it must rank customers better than the simple, approved baseline,
        and a new release must not rank them worse than the release it would replace.
    Test mechanism:
        AUC of candidate, baseline and champion on the same holdout rows, which no search has seen. The paired
        difference gets a DeLong interval. The candidate passes when the lower bound against the baseline is at least
        minimum_gain and the lower bound against the champion is at least minus margin. Before the first promotion
        there is no champion and the finding states that.
    Signs of high risk:
        A gain over the baseline whose interval reaches zero; a loss against the champion; an AUC far above what the
        field reports for such data, which points at a leak of the outcome into the features.
    Strengths:
        Paired on the same rows, in closed form and without randomness, so a second reader gets the same digits.
    Limitations:
        AUC measures ranking; it does not show that probabilities are calibrated, nor what errors cost. The interval
        covers the sampling of the holdout, not changes after it was drawn.
    """

    code: ClassVar[str] = "PL001"
    title: ClassVar[str] = "Better than the baseline, not worse than the champion"
    limits: ClassVar[type[Limits]] = GainLimits

    def examine(self, evidence: Evidence, limits: GainLimits) -> list[Finding]:
        """Findings on the baseline and, where there is one, on the champion."""
        outcomes = evidence.outcomes
        rows, events = len(outcomes), int(outcomes.sum())
        if rows < limits.minimum_rows or min(events, rows - events) < limits.minimum_events:
            raise NotEvaluated(
                f"the holdout has {rows} rows, {events} adverse; needed {limits.minimum_rows} rows and "
                f"{limits.minimum_events} of each outcome"
            )
        return [_against_baseline(evidence, limits), _against_champion(evidence, limits)]


def _against_baseline(evidence: Evidence, limits: GainLimits) -> Finding:
    own = auc(evidence.scores, evidence.outcomes, limits.confidence)
    simple = auc(evidence.baseline_scores, evidence.outcomes, limits.confidence)
    gain = auc_difference(evidence.scores, evidence.baseline_scores, evidence.outcomes, limits.confidence)
    return Finding(
        name="AUC above the baseline",
        observed=gain.value,
        limit=limits.minimum_gain,
        relation=">=",
        ok=gain.interval[0] >= limits.minimum_gain,
        n=len(evidence.outcomes),
        interval=gain.interval,
        detail=(
            f"candidate {own.value:.4f} [{own.interval[0]:.4f}, {own.interval[1]:.4f}], baseline {simple.value:.4f}; "
            f"the lower bound of the gain counts"
        ),
    )


def _against_champion(evidence: Evidence, limits: GainLimits) -> Finding:
    n = len(evidence.outcomes)
    if evidence.champion_scores is None:
        detail = "there is no champion yet: this is the first release, judged against its baseline alone"
        return Finding("AUC above the champion", None, None, ">=", ok=True, n=n, detail=detail)
    champion = auc(evidence.champion_scores, evidence.outcomes, limits.confidence)
    change = auc_difference(evidence.scores, evidence.champion_scores, evidence.outcomes, limits.confidence)
    return Finding(
        name="AUC above the champion",
        observed=change.value,
        limit=-limits.margin,
        relation=">=",
        ok=change.interval[0] >= -limits.margin,
        n=n,
        interval=change.interval,
        detail=f"champion {evidence.champion_release} has {champion.value:.4f}; the lower bound of the change counts",
    )


check = BeatsBaselineAndChampion()
