"""PL002: groups of customers get the favourable decision at comparable rates."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from validators.check import Edges, Finding, Limits, NotEvaluated
from validators.evidence import Evidence
from validators.fairness import Disparity, group_column, measure_disparity


class FairnessLimits(Limits):
    """Which attributes, how they are grouped, and how low the ratio of favourable rates may be."""

    attributes: tuple[str, ...] = Field(default=("SEX", "AGE"), min_length=1, strict=False)
    bands: dict[str, Edges] = Field(default={"AGE": (30, 40, 50, 60)})
    names: dict[str, dict[str, str]] = Field(default_factory=dict, description="Readable names of group values.")
    ratio_limit: float = Field(default=0.8, gt=0, le=1)
    minimum_group: int = Field(default=100, ge=10, le=1_000_000)
    small_share_limit: float = Field(
        default=0.05, ge=0, lt=1, description="Share of rows in groups too small to judge."
    )
    confidence: float = Field(default=0.95, ge=0.5, lt=1)


class GroupFairness:
    """Favourable rates by protected group, as the ratio of the lowest to the highest.

    Purpose:
        Find a candidate that approves one group much less often than another before it is used. Which ratio
        is acceptable is a choice of policy under the applicable law; the limit and its source are in the policy.
    Test mechanism:
        The candidate decides the holdout with its own threshold. fairlearn counts favourable decisions by group; the
        ratio is the lowest group's rate over the highest group's rate, with a log interval; each rate has a Wilson
        interval. Ages are cut into the bands of the policy. Groups below minimum_group are listed as not enough data
        and take no part in the ratio; when they hold more than small_share_limit of the rows the check fails.
    Signs of high risk:
        A ratio below the limit, or an interval that reaches far below it; large groups near the limit on both sides;
        many rows in groups too small to judge.
    Strengths:
        Examines decisions as customers receive them, threshold included, and lists every group.
    Limitations:
        Compares rates without regard to differences in risk; does not cover error rates by group or people who
        never applied. Only attributes that were collected can be examined.
    """

    code: ClassVar[str] = "PL002"
    title: ClassVar[str] = "Favourable decisions across groups"
    limits: ClassVar[type[Limits]] = FairnessLimits

    def examine(self, evidence: Evidence, limits: FairnessLimits) -> list[Finding]:
        """A finding on the ratio and one on the small groups, for each attribute."""
        findings = []
        for disparity in disparities(evidence, limits):
            findings += [_ratio(disparity, limits), _small_groups(disparity, limits)]
        return findings


def disparities(evidence: Evidence, limits: FairnessLimits) -> list[Disparity]:
    """The disparity of each attribute on the holdout.

    Raises:
        NotEvaluated: the holdout lacks an attribute.
    """
    found = []
    for attribute in limits.attributes:
        if attribute not in evidence.holdout.columns:
            raise NotEvaluated(f"the holdout has no column {attribute!r}; fairness needs it beside the decision")
        groups = group_column(evidence.holdout[attribute], limits.bands.get(attribute), limits.names.get(attribute))
        found.append(
            measure_disparity(
                attribute,
                groups,
                evidence.favourable,
                ratio_limit=limits.ratio_limit,
                minimum_group=limits.minimum_group,
                confidence=limits.confidence,
            )
        )
    return found


def _ratio(disparity: Disparity, limits: FairnessLimits) -> Finding:
    if disparity.ratio is None:
        sizes = ", ".join(f"{group.group}: {group.n}" for group in disparity.groups)
        raise NotEvaluated(
            f"{disparity.attribute}: fewer than two groups of {limits.minimum_group} rows with a favourable decision "
            f"({sizes or 'no rows'})"
        )
    rates = ", ".join(f"{group.group} {group.rate:.1%} (n {group.n})" for group in disparity.groups if group.enough)
    return Finding(
        name=f"{disparity.attribute}: lowest over highest favourable rate",
        observed=disparity.ratio,
        limit=disparity.limit,
        relation=">=",
        ok=disparity.verdict == "ok",
        n=disparity.rows,
        interval=disparity.ratio_interval,
        detail=rates,
    )


def _small_groups(disparity: Disparity, limits: FairnessLimits) -> Finding:
    small = [group for group in disparity.groups if not group.enough]
    listed = "; ".join(f"{group.group}: not enough data, {group.n} of {limits.minimum_group} rows" for group in small)
    return Finding(
        name=f"{disparity.attribute}: rows in groups too small to judge",
        observed=disparity.small_share,
        limit=limits.small_share_limit,
        relation="<=",
        ok=disparity.small_share <= limits.small_share_limit,
        n=disparity.rows,
        detail=listed or "every group is large enough",
    )


check = GroupFairness()
