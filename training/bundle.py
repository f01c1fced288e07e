"""Writes a release bundle: data files only, named by their digest, signed, moved into place in one step."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lineage.digest import digest_folder
from lineage.errors import InvalidError
from lineage.settings import Settings
from lineage.signing import sign, signature_of
from training.plugins import family_of
from validators.feature_matrix import matrix, records
from validators.scoring.bundle import GOLDEN_FILE, REFERENCE_FILE, SCHEMA, SPEC_FILE, Explain, load_bundle
from validators.scoring.features import Feature
from validators.scoring.golden import answer
from validators.scoring.model_artefact import load_scorer
from validators.scoring.port import Rows

GOLDEN_ROWS = 32
REFERENCE_ROWS = 5_000


@dataclass(frozen=True)
class Description:
    """What release.json states about a release beside its files and thresholds.

    Attributes:
        inputs: the features in model order.
        entity: what one row describes, e.g. customer.
        reasons: feature -> {"code", "text"}, the customer's words for it.
        reasons_most: how many reasons an explanation has at most.
    """

    model: str
    entity: str
    inputs: tuple[Feature, ...]
    favourable: str
    adverse: str
    explain: Explain
    reasons_most: int
    reasons: Mapping[str, Mapping[str, str]]
    policy_digest: str


@dataclass(frozen=True)
class Trained:
    """The two models of a release, as bytes of their families' artefact files."""

    family: str
    model: bytes
    baseline_family: str
    baseline: bytes


@dataclass(frozen=True)
class Written:
    """A bundle in its place."""

    folder: Path
    digest: str
    signature_key: str
    threshold: float
    baseline_threshold: float


def choose_threshold(scores: Rows, approval_rate: float) -> float:
    """The threshold below which `approval_rate` of the scores lie; a score at or above it is adverse.

    Raises:
        InvalidError: there are no scores, or the threshold would not lie between 0 and 1.
    """
    if not len(scores):
        raise InvalidError("no validation rows; a threshold cannot be chosen", field="decision.approval_rate")
    ranked = np.sort(scores)
    threshold = float(ranked[min(math.ceil(approval_rate * len(ranked)), len(ranked) - 1)])
    if not 0.0 < threshold < 1.0:
        raise InvalidError(f"the threshold is {threshold!r}; expected between 0 and 1", field="threshold")
    return threshold


def write_bundle(
    described: Description, trained: Trained, validation: pl.DataFrame, approval_rate: float, settings: Settings
) -> Written:
    """Write, digest, sign and move the bundle; the same content gives the same folder.

    Args:
        validation: rows that chose the parameters; threshold, golden rows and drift reference come from them, so that
            the holdout stays unseen.
        approval_rate: the share of these rows that the threshold is to approve.

    Raises:
        InvalidError: no threshold can be chosen.
        UnavailableError: there is no signing key.
    """
    settings.artefacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".staging-", dir=settings.artefacts) as staging:
        draft = Path(staging) / "draft"
        draft.mkdir()
        threshold, baseline_threshold = _fill(draft, described, trained, validation, approval_rate)
        digest = digest_folder(draft)
        place = settings.artefacts / digest.removeprefix("sha256:")
        named = draft.rename(draft.with_name(place.name))
        key = sign(named, settings)
        _move(named, place)
    return Written(place, digest, key, threshold, baseline_threshold)


def _fill(
    draft: Path, described: Description, trained: Trained, validation: pl.DataFrame, approval_rate: float
) -> tuple[float, float]:
    """Write every file of the bundle; returns the two thresholds."""
    model_file = family_of(trained.family).artefact
    baseline_file = "baseline" + Path(family_of(trained.baseline_family).artefact).suffix
    (draft / model_file).write_bytes(trained.model)
    (draft / baseline_file).write_bytes(trained.baseline)
    rows = matrix(described.inputs, validation)
    scores = load_scorer(trained.family, draft / model_file).score(rows)
    threshold = choose_threshold(scores, approval_rate)
    baseline_scores = load_scorer(trained.baseline_family, draft / baseline_file).score(rows)
    baseline_threshold = choose_threshold(baseline_scores, approval_rate)
    content = _release(described, trained, model_file, baseline_file)
    content |= {"threshold": threshold, "baseline_threshold": baseline_threshold}
    _write_json(draft / SPEC_FILE, content)
    # Numbers as the model took them, categories as positions: the form that decision records keep.
    reference = pl.DataFrame(rows, schema=[feature.name for feature in described.inputs]).with_columns(score=scores)
    reference = reference.head(REFERENCE_ROWS)
    reference.write_parquet(draft / REFERENCE_FILE, compression="zstd")
    spread = np.linspace(0, len(scores) - 1, GOLDEN_ROWS).round().astype(np.int64)
    chosen = validation[np.argsort(scores, kind="stable")[spread].tolist()]
    _write_json(draft / GOLDEN_FILE, answer(load_bundle(draft), records(described.inputs, chosen)))
    return threshold, baseline_threshold


def _release(described: Description, trained: Trained, model_file: str, baseline_file: str) -> dict[str, Any]:
    """The content of release.json without the thresholds."""
    return {
        "schema": SCHEMA,
        "model": described.model,
        "family": trained.family,
        "artefact": model_file,
        "baseline": {"family": trained.baseline_family, "artefact": baseline_file},
        "features": [
            {
                "name": feature.name,
                "type": feature.type,
                "minimum": feature.minimum,
                "maximum": feature.maximum,
                "categories": None if feature.categories is None else list(feature.categories),
            }
            for feature in described.inputs
        ],
        "favourable": described.favourable,
        "adverse": described.adverse,
        "explain": described.explain,
        "reasons_most": described.reasons_most,
        "reasons": described.reasons,
        "policy_digest": described.policy_digest,
        "entity": described.entity,
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _move(named: Path, place: Path) -> None:
    """Move the signature first, so that a folder in its place always has one.

    A folder that is there already has the same content, because its name is its digest.
    """
    signature_of(named).replace(signature_of(place))
    if place.exists():
        shutil.rmtree(named)
        return
    named.rename(place)
    for path in place.iterdir():
        path.chmod(0o400)
    place.chmod(0o500)
