"""PL003: no protected attribute, identifier, outcome or proxy of one is among the features."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from validators.check import Edges, Finding, Limits, NotEvaluated
from validators.evidence import Evidence
from validators.feature_matrix import matrix
from validators.statistics.auc import auc


class FeatureLimits(Limits):
    """How well one feature alone may separate a protected group from the rest."""

    proxy_auc_limit: float = Field(default=0.8, gt=0.5, le=1, description="1 switches the guard against proxies off.")
    minimum_group: int = Field(default=100, ge=10, le=1_000_000)
    bands: dict[str, Edges] = Field(default={"AGE": (30, 60)})


class NoProtectedFeatures:
    """What the model takes as input, against what it must not take.

    Purpose:
        Keep protected attributes, direct identifiers and the outcome itself out of the model, and find a single
        feature that is a proxy for a protected attribute.
    Test mechanism:
        The release's features are compared by name with the protected attributes, the direct identifiers and the
        label of the model's spec. Then each feature alone is used to separate each protected group from all others on
        the holdout; an AUC above proxy_auc_limit, in either direction, is a proxy.
    Signs of high risk:
        Any overlap of names; a feature that nearly identifies a group; a feature that was renamed before training.
    Strengths:
        Reads the inputs of the signed release itself, not a description of them.
    Limitations:
        A proxy built from several features together is not found, nor one for an attribute that was not collected.
        Groups below minimum_group are not tested and are counted in the finding.
    """

    code: ClassVar[str] = "PL003"
    title: ClassVar[str] = "No protected attribute, identifier, outcome or proxy among the features"
    limits: ClassVar[type[Limits]] = FeatureLimits

    def examine(self, evidence: Evidence, limits: FeatureLimits) -> list[Finding]:
        """One finding a list of names, and one for the strongest proxy."""
        if not evidence.protected:
            raise NotEvaluated("the model's spec names no protected attributes; name those that exist, even if unused")
        wanted = {
            "protected attributes": evidence.protected,
            "direct identifiers": evidence.identifiers,
            "label": (evidence.label,),
        }
        findings = [_overlap(what, names, evidence) for what, names in wanted.items()]
        return [*findings, _proxy(evidence, limits)]


def _overlap(what: str, names: tuple[str, ...], evidence: Evidence) -> Finding:
    forbidden = {name.casefold() for name in names}
    found = [name for name in evidence.bundle.feature_names if name.casefold() in forbidden]
    return Finding(
        name=f"features that are {what}",
        observed=len(found),
        limit=0,
        relation="<=",
        ok=not found,
        n=len(evidence.bundle.features),
        detail=f"found {', '.join(found)}" if found else f"none of {', '.join(names) or 'none named'}",
    )


def _proxy(evidence: Evidence, limits: FeatureLimits) -> Finding:
    rows = matrix(evidence.bundle.features, evidence.holdout)
    strongest, small = (0.0, "no group was large enough"), 0
    for attribute in evidence.protected:
        if attribute not in evidence.holdout.columns:
            raise NotEvaluated(f"the holdout has no column {attribute!r}; the guard against proxies needs it")
        for group, members in _groups(evidence.holdout[attribute], limits.bands.get(attribute)):
            if min(members.sum(), (~members).sum()) < limits.minimum_group:
                small += 1
                continue
            for position, feature in enumerate(evidence.bundle.features):
                value = auc(rows[:, position], members, 0.95).value
                strongest = max(strongest, (max(value, 1 - value), f"{feature.name} for {attribute} {group}"))
    if not strongest[0]:
        raise NotEvaluated(f"no protected group has {limits.minimum_group} rows in the holdout")
    return Finding(
        name="strongest single-feature proxy (AUC)",
        observed=strongest[0],
        limit=limits.proxy_auc_limit,
        relation="<=",
        ok=strongest[0] <= limits.proxy_auc_limit,
        n=evidence.holdout.height,
        detail=f"{strongest[1]}; {small} groups had fewer than {limits.minimum_group} rows and were not tested",
    )


def _groups(values: pl.Series, edges: tuple[float, ...] | None) -> list[tuple[str, np.ndarray]]:
    from validators.fairness import group_column

    named = group_column(values, edges)
    return [(str(name), (named == name).to_numpy()) for name in sorted(named.unique().to_list())]


check = NoProtectedFeatures()
