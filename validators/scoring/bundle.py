"""A release bundle in memory: the content of `release.json`, the model and the baseline.

No parser sees bytes that the ledger did not approve: `validators.scoring.verified_read` reads a folder once, checks
digest and signature over the bytes it read, and has those parsed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lineage.digest import read_folder
from lineage.errors import TamperedError, UnavailableError
from validators.scoring.features import Feature, parse_row
from validators.scoring.model_artefact import parse_scorer
from validators.scoring.port import Rows, Scorer

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
class Absent:
    """Placeholder for a model that is not in memory: its bundle can score with the baseline only."""

    model: str
    width: int

    def score(self, rows: Rows) -> Rows:  # noqa: ARG002  the port's
        """Raises UnavailableError, always."""
        raise UnavailableError(f"the model of {self.model} is not in memory; it has to be loaded first", field="model")

    contributions = score


@dataclass(frozen=True)
class Bundle:
    """A release that can score. `model` and `baseline` are scorers; `spec` is the content of release.json."""

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


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle folder that no other process can change, such as a draft.

    All other folders are read by `validators.scoring.verified_read`, which parses exactly the bytes that it verified.

    Raises:
        InvalidError: the folder holds a thing that is not a regular file.
        UnavailableError: a file cannot be read.
        TamperedError: release.json or an artefact is not what a release holds; a feature has no reason code.
        UnknownError: a model family that is not installed.
    """
    return parse_bundle(folder, read_folder(folder))


def parse_bundle(folder: Path, files: Mapping[str, bytes]) -> Bundle:
    """The bundle in the bytes of its files; nothing is read again.

    Args:
        folder: where the bytes came from; errors call the bundle by its name.
        files: file name -> bytes, release.json and the artefacts that it names are parsed, none is kept.

    Raises:
        UnavailableError: a file is missing.
        TamperedError: release.json or an artefact is not what a release holds; a feature has no reason code.
        UnknownError: a model family that is not installed.
    """
    return parse_model(parse_baseline(folder, files), files)


def parse_baseline(folder: Path, files: Mapping[str, bytes]) -> Bundle:
    """The bundle without its model (`Absent`), which stays in files: a few kilobytes that can score at any time.

    Raises:
        UnavailableError: a file is missing.
        TamperedError: release.json or the baseline is not what a release holds.
        UnknownError: the baseline's family is not installed.
    """
    spec = parse_spec(file_of(folder, files, SPEC_FILE), str(folder / SPEC_FILE))
    artefact = spec.baseline.artefact
    baseline = parse_scorer(spec.baseline.family, artefact, file_of(folder, files, artefact))
    _check_width(folder, spec, "baseline", baseline)
    return Bundle(folder, spec, Absent(spec.model, len(spec.features)), baseline)


def parse_model(bundle: Bundle, files: Mapping[str, bytes]) -> Bundle:
    """The same bundle with its model, which is parsed from `files`; description and baseline are shared.

    Raises:
        UnavailableError: the artefact is missing.
        TamperedError: it is not what its family reads, or takes another number of features.
        UnknownError: the family is not installed.
    """
    spec = bundle.spec
    model = parse_scorer(spec.family, spec.artefact, file_of(bundle.folder, files, spec.artefact))
    _check_width(bundle.folder, spec, "model", model)
    return replace(bundle, model=model)


def file_of(folder: Path, files: Mapping[str, bytes], name: str) -> bytes:
    """One of the files.

    Raises:
        UnavailableError: it is not there.
    """
    try:
        return files[name]
    except KeyError:
        raise UnavailableError(f"there is no file {name!r} in bundle {folder.name}", field=name) from None


def _check_width(folder: Path, spec: ReleaseSpec, role: str, scorer: Scorer) -> None:
    if scorer.width != len(spec.features):
        raise TamperedError(
            f"{folder.name}: the {role} takes {scorer.width} features but {SPEC_FILE} names {len(spec.features)}"
        )


def parse_spec(content: bytes, path: str) -> ReleaseSpec:
    """Parse and check release.json.

    Args:
        path: what errors call the file.

    Raises:
        TamperedError: it is not a release description of this schema.
    """
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TamperedError(f"{path} is not JSON: {error}") from error
    if not isinstance(parsed, dict) or parsed.get("schema") != SCHEMA:
        raise TamperedError(f"{path} is not a release description of schema {SCHEMA}; train the release again")
    try:
        spec = _spec(parsed)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
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


def _check(spec: ReleaseSpec, path: str) -> None:
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
