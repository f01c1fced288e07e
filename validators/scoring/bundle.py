"""A release bundle in memory: what `release.json` says, the model and the baseline, ready to answer.

Verify the folder's digest and signature before loading it (`lineage.digest`, `lineage.signing`): no parser sees bytes
that the ledger did not approve.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lineage.errors import TamperedError, UnavailableError
from validators.scoring.features import Feature, parse_row
from validators.scoring.port import Rows, Scorer, load_scorer

SCHEMA = 1
SPEC_FILE = "release.json"
REFERENCE_FILE = "reference.parquet"
GOLDEN_FILE = "golden.json"

Explain = Literal["adverse", "always", "never"]


@dataclass(frozen=True)
class Reason:
    """The code of a reason and the words a customer reads."""

    code: str
    text: str


@dataclass(frozen=True)
class Artefact:
    """A model file and the family that reads it."""

    family: str
    artefact: str


@dataclass(frozen=True)
class ReleaseSpec:
    """`release.json`, checked. A score at or above the threshold is adverse."""

    model: str
    family: str
    artefact: str
    baseline: Artefact
    features: tuple[Feature, ...]
    threshold: float
    baseline_threshold: float
    favourable: str
    adverse: str
    explain: Explain
    reasons_most: int
    reasons: Mapping[str, Reason]
    policy_digest: str
    entity: str


@dataclass(frozen=True)
class Bundle:
    """A release that can answer. `model` and `baseline` are scorers; `spec` is what release.json says."""

    folder: Path
    spec: ReleaseSpec
    model: Scorer
    baseline: Scorer

    @property
    def name(self) -> str:
        """The model's name in the inventory, e.g. credit-default."""
        return self.spec.model

    @property
    def features(self) -> tuple[Feature, ...]:
        return self.spec.features

    @property
    def threshold(self) -> float:
        return self.spec.threshold

    @property
    def baseline_threshold(self) -> float:
        return self.spec.baseline_threshold

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.spec.features)

    def decision(self, score: float) -> str:
        """The decision of the model's score."""
        return self.spec.adverse if score >= self.spec.threshold else self.spec.favourable

    def baseline_decision(self, score: float) -> str:
        """The decision of the baseline's score; the baseline has a threshold of its own."""
        return self.spec.adverse if score >= self.spec.baseline_threshold else self.spec.favourable


def load_bundle(folder: Path) -> Bundle:
    """Load a verified bundle folder.

    Raises:
        UnavailableError: a file cannot be read.
        TamperedError: release.json or an artefact is not what a release holds; a feature has no reason code.
        UnknownError: a model family that is not installed.
    """
    spec = read_spec(folder)
    model = load_scorer(spec.family, folder / spec.artefact)
    baseline = load_scorer(spec.baseline.family, folder / spec.baseline.artefact)
    for role, scorer in (("model", model), ("baseline", baseline)):
        if scorer.width != len(spec.features):
            raise TamperedError(
                f"{folder.name}: the {role} takes {scorer.width} features but {SPEC_FILE} names {len(spec.features)}"
            )
    return Bundle(folder, spec, model, baseline)


def read_spec(folder: Path) -> ReleaseSpec:
    """Read and check release.json alone, without loading a model.

    Raises:
        UnavailableError: the file cannot be read.
        TamperedError: it is not a release description of this schema.
    """
    path = folder / SPEC_FILE
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UnavailableError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise TamperedError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise TamperedError(f"{path} is not a release description of schema {SCHEMA}; train the release again")
    try:
        spec = _spec(content)
    except (KeyError, TypeError, ValueError) as error:
        raise TamperedError(f"{path} is not a release description: {error!r}") from error
    _check(spec, path)
    return spec


def parse_features(bundle: Bundle, values: Mapping[str, Any]) -> Rows:
    """Named values as one row, float64[1, f], in model order.

    Raises:
        InvalidError: names the feature, the value and what was expected: missing, unknown, NaN or infinite, of
            another type (a bool or a text is not a number), out of range, or an unknown category.
    """
    return parse_row(bundle.spec.features, values)


def _spec(content: dict[str, Any]) -> ReleaseSpec:
    known = {"schema", *ReleaseSpec.__dataclass_fields__}
    if set(content) != known:
        raise ValueError(f"keys {sorted(set(content) ^ known)} are unknown or missing")
    features = tuple(
        Feature(
            name=str(one["name"]),
            type=one["type"],
            minimum=one["minimum"],
            maximum=one["maximum"],
            categories=None if one["categories"] is None else tuple(one["categories"]),
        )
        for one in content["features"]
    )
    reasons = {name: Reason(str(one["code"]), str(one["text"])) for name, one in content["reasons"].items()}
    rest = {key: content[key] for key in known - {"schema", "features", "reasons", "baseline"}}
    return ReleaseSpec(**rest, features=features, reasons=reasons, baseline=Artefact(**content["baseline"]))


def _check(spec: ReleaseSpec, path: Path) -> None:
    names = [feature.name for feature in spec.features]
    if not names or len(set(names)) != len(names):
        raise TamperedError(f"{path}: features must be named, each once")
    for feature in spec.features:
        if feature.type not in ("number", "integer", "category"):
            raise TamperedError(f"{path}: feature {feature.name!r} has the unknown type {feature.type!r}")
        if feature.type == "category" and not feature.categories:
            raise TamperedError(f"{path}: feature {feature.name!r} has no categories")
    if set(spec.reasons) != set(names):
        odd = sorted(set(spec.reasons) ^ set(names))
        raise TamperedError(f"{path}: every feature needs one reason code; check {', '.join(odd)}")
    for name in ("threshold", "baseline_threshold"):
        value = getattr(spec, name)
        if isinstance(value, bool) or not isinstance(value, float | int) or not 0.0 < value < 1.0:
            raise TamperedError(f"{path}: {name} is {value!r}; expected a number between 0 and 1")
    if spec.explain not in ("adverse", "always", "never"):
        raise TamperedError(f"{path}: explain is {spec.explain!r}; expected adverse, always or never")
    if not isinstance(spec.reasons_most, int) or spec.reasons_most < 1:
        raise TamperedError(f"{path}: reasons_most is {spec.reasons_most!r}; expected a whole number of at least 1")
    for name in (spec.artefact, spec.baseline.artefact):
        if Path(name).name != name:
            raise TamperedError(f"{path}: artefact {name!r} must be a file name inside the bundle")
