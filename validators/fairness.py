"""Favourable rates by group: how often each group gets the favourable decision, and the lowest rate over the highest.

Groups below the minimum size are reported with their n and take no part in the ratio; they are never dropped. Rates
come from fairlearn's MetricFrame; the acceptable ratio is a limit in the policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from lineage.errors import InvalidError
from validators.statistics.rates import ratio_interval, wilson

Verdict = Literal["ok", "breach", "not_enough_data"]


@dataclass(frozen=True)
class Group:
    """One group: rows, favourable decisions, the rate with its interval, and whether it is large enough to judge."""

    group: str
    n: int
    favourable: int
    interval: tuple[float, float]
    enough: bool

    @property
    def rate(self) -> float | None:
        return self.favourable / self.n if self.n else None


@dataclass(frozen=True)
class Disparity:
    """The groups of one attribute and their ratio: the lowest favourable rate over the highest."""

    attribute: str
    groups: tuple[Group, ...]
    ratio: float | None
    ratio_interval: tuple[float, float] | None
    limit: float
    verdict: Verdict

    @property
    def rows(self) -> int:
        return sum(group.n for group in self.groups)

    @property
    def small_share(self) -> float:
        """The share of rows that are in groups too small to judge."""
        return sum(group.n for group in self.groups if not group.enough) / self.rows if self.rows else 1.0

    def to_dict(self, release: str, stage: Literal["validation", "live"]) -> dict[str, Any]:
        """The data of a FairnessMeasured fact."""
        return {
            "release": release,
            "stage": stage,
            "attribute": self.attribute,
            "groups": [
                {
                    "group": group.group,
                    "n": group.n,
                    "favourable_rate": group.rate,
                    "interval": list(group.interval),
                    "enough": group.enough,
                }
                for group in self.groups
            ],
            "ratio": self.ratio,
            "ratio_interval": None if self.ratio_interval is None else list(self.ratio_interval),
            "limit": self.limit,
            "verdict": self.verdict,
        }


def measure_disparity(
    attribute: str,
    groups: pl.Series,
    favourable: npt.NDArray[np.bool_],
    *,
    ratio_limit: float,
    minimum_group: int,
    confidence: float,
) -> Disparity:
    """Compare the favourable rates of the groups of one attribute.

    Args:
        groups: the group of each row, any type, no nulls; sorted by name in the result.
        favourable: True where the decision was favourable, bool[n].

    Raises:
        InvalidError: lengths differ, or a row has no group.
    """
    if len(groups) != len(favourable):
        raise InvalidError(f"{attribute}: {len(groups)} groups for {len(favourable)} decisions", field=attribute)
    if groups.null_count():
        raise InvalidError(f"{attribute}: {groups.null_count()} rows have no group", field=attribute)
    counted = _count(groups, favourable, minimum_group, confidence) if len(groups) else ()
    judged = sorted((group for group in counted if group.enough), key=lambda group: (group.rate or 0.0, group.group))
    if len(judged) < 2 or not judged[-1].favourable:
        return Disparity(attribute, counted, None, None, ratio_limit, "not_enough_data")
    low, high = judged[0], judged[-1]
    ratio = (low.favourable / low.n) / (high.favourable / high.n)
    interval = ratio_interval(low.favourable, low.n, high.favourable, high.n, confidence)
    verdict: Verdict = "ok" if ratio >= ratio_limit else "breach"
    return Disparity(attribute, counted, ratio, interval, ratio_limit, verdict)


def _count(
    groups: pl.Series, favourable: npt.NDArray[np.bool_], minimum_group: int, confidence: float
) -> tuple[Group, ...]:
    from fairlearn.metrics import MetricFrame, count  # imports scikit-learn; only where fairness is measured

    names = groups.cast(pl.String).to_numpy()
    metrics = {"n": count, "favourable": lambda _, chosen: int(np.sum(chosen))}
    frame = MetricFrame(metrics=metrics, y_true=favourable, y_pred=favourable, sensitive_features=names).by_group
    counted = []
    for name in sorted(frame.index):
        n, good = int(frame.loc[name, "n"]), int(frame.loc[name, "favourable"])
        counted.append(Group(str(name), n, good, wilson(good, n, confidence), n >= minimum_group))
    return tuple(counted)


def band(values: pl.Series, edges: Sequence[float]) -> pl.Series:
    """Numbers as bands named by their edges: edges [30, 40] make "under 30", "30 to 39", "40 and over"."""
    labels = [f"under {edges[0]:g}"]
    labels += [f"{low:g} to {high - 1:g}" for low, high in pairwise(edges)]
    labels += [f"{edges[-1]:g} and over"]
    positions = np.searchsorted(np.asarray(edges, dtype=np.float64), values.to_numpy(), side="right")
    return pl.Series(values.name, [labels[position] for position in positions])


def group_column(values: pl.Series, edges: Sequence[float] | None, names: Mapping[str, str] | None = None) -> pl.Series:
    """The groups of a protected attribute: banded where edges are given, else by value, with readable names."""
    if edges:
        return band(values, edges)
    return values.cast(pl.String).replace(dict(names or {}))


def measure_fairness(
    frame: pl.DataFrame, attribute: str, *, ratio_limit: float, minimum_group: int, confidence: float
) -> Disparity:
    """Compare live decisions: `frame` has the columns `group` and `favourable` (bool), one row a decision.

    Raises:
        InvalidError: a column is missing or a row has no group.
    """
    for column in ("group", "favourable"):
        if column not in frame.columns:
            raise InvalidError(f"column {column!r} is missing; found {', '.join(frame.columns)}", field=column)
    return measure_disparity(
        attribute,
        frame["group"],
        frame["favourable"].to_numpy(),
        ratio_limit=ratio_limit,
        minimum_group=minimum_group,
        confidence=confidence,
    )
