"""Scores rows of named features with a bundle's model or baseline, and adds reasons. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lineage.errors import InvalidError, UnavailableError
from serve.decision.answers import Request, Scored
from validators.scoring.bundle import Bundle, parse_features
from validators.scoring.port import Rows, Scorer
from validators.scoring.reasons import adverse_reasons


def scorer_of(bundle: Bundle, *, with_baseline: bool) -> Scorer:
    """The model of the bundle, or its baseline."""
    return bundle.baseline if with_baseline else bundle.model


def parse_rows(bundle: Bundle, requests: Sequence[Request]) -> Rows:
    """Named features as float64[n, f], in model order; unusable features are set to the baseline's mean.

    Raises:
        InvalidError: a feature is wrong; `row` in its detail says where, if there are several rows.
        UnavailableError: features are unusable, and the baseline has no means.
    """
    parsed = [_parse_row(bundle, request) for request in requests]
    return parsed[0] if len(parsed) == 1 else np.concatenate(parsed)


def _parse_row(bundle: Bundle, request: Request) -> Rows:
    try:
        if request.served is not None and request.served.unusable:
            return _with_neutral(bundle, request.features, request.served.unusable)
        return parse_features(bundle, request.features)
    except InvalidError as error:
        if request.row is None:
            raise
        detail = error.detail | {"row": request.row}
        raise InvalidError(f"row {request.row}: {error.message}", field=error.field, **detail) from error


def _with_neutral(bundle: Bundle, values: Mapping[str, Any], unusable: Sequence[str]) -> Rows:
    means = getattr(bundle.baseline, "means", None)
    if means is None:
        names = ", ".join(unusable)
        raise UnavailableError(f"{names}: too old or missing, and the baseline cannot do without", field=unusable[0])
    left_out = set(unusable)
    cells = [
        float(mean) if feature.name in left_out else feature.parse(values.get(feature.name))
        for feature, mean in zip(bundle.features, means, strict=True)
    ]
    return np.array([cells], dtype=np.float64)


def decisions_from_scores(bundle: Bundle, rows: Rows, scores: Rows, *, with_baseline: bool) -> list[Scored | None]:
    """Decisions for scores float64[n], without reasons; None where a score is no probability (NaN too)."""
    threshold = bundle.baseline_threshold if with_baseline else bundle.threshold
    words = (bundle.spec.favourable, bundle.spec.adverse)
    decisions: list[Scored | None] = []
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        if not 0.0 <= score <= 1.0:
            decisions.append(None)
            continue
        adverse = score >= threshold
        decisions.append(Scored(row, score, threshold, words[adverse], adverse, []))
    return decisions


def wants_reasons(bundle: Bundle, scored: Scored, *, explain: bool) -> bool:
    """Whether the release's policy or the caller wants reasons for this decision."""
    policy = bundle.spec.explain
    return explain or policy == "always" or (scored.adverse and policy == "adverse")


def with_reasons(bundle: Bundle, scorer: Scorer, scored: Scored, contributions: Rows) -> Scored | None:
    """The decision with its reasons; None where a contribution is not finite."""
    if not np.isfinite(contributions).all():
        return None
    return replace(scored, reasons=adverse_reasons(bundle, contributions, scorer))


def score(bundle: Bundle, features: Mapping[str, Any], *, with_baseline: bool = False, explain: bool = False) -> Scored:
    """Score one row of named features, with reasons where they are wanted.

    Raises:
        InvalidError: a feature is missing, unknown or not what is expected.
        UnavailableError: the model answered no probability, or contributions that are no numbers.
    """
    scorer = scorer_of(bundle, with_baseline=with_baseline)
    rows = parse_features(bundle, features)
    scored = decisions_from_scores(bundle, rows, scorer.score(rows), with_baseline=with_baseline)[0]
    if scored is None:
        raise UnavailableError("the model answered no number from 0 to 1; a probability is expected", field="score")
    if not wants_reasons(bundle, scored, explain=explain):
        return scored
    explained = with_reasons(bundle, scorer, scored, scorer.contributions(rows))
    if explained is None:
        raise UnavailableError("the model's reasons are no numbers", field="reasons")
    return explained
