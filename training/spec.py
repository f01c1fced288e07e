"""Parses `model.toml` of a model folder: inventory entry, data, features, training and decision of a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lineage.errors import InvalidError, UnavailableError
from lineage.policy import Policy
from training.column import Column
from training.datafile import DataFile
from training.family import Range
from training.feature_source import FeatureSource, check_features
from training.plugins import TRAINING_FAMILIES
from validators.plugins import SCORING_FAMILIES
from validators.policy import load_policy
from validators.scoring.features import Feature
from validators.toml_document import Part, parse_part, read_toml, refuse, unknown_key

FILE = "model.toml"
Names = Annotated[tuple[str, ...], Field(strict=False)]
Text = Annotated[str, Field(min_length=1)]


class Model(Part):
    """The model's entry in the inventory."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{1,62}$")
    title: Text
    purpose: Text
    owner: Text
    tier: Literal[1, 2, 3]
    jurisdictions: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


class Data(Part):
    """The data file and what its columns mean. The label is 1 for the adverse outcome, 0 otherwise."""

    file: Text
    entity: Text
    key: Text
    label: Text
    label_means: Text
    protected: Names
    identifiers: Names


class Features(Part):
    """The inputs of the model, in order, and the Feast service that delivers them."""

    repository: Text
    service: Text
    names: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


class Decision(Part):
    """How a score becomes a decision, and how an adverse one is explained."""

    favourable: Text
    adverse: Text
    approval_rate: float = Field(gt=0, lt=1)
    explain: Literal["adverse", "always", "never"]
    reasons_most: int = Field(ge=1, le=10)
    reasons: Text


class Span(Part):
    """The range a parameter is searched in."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @model_validator(mode="after")
    def _low_below_high(self) -> Self:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low below high, and above 0 when log")
        return self


class Training(Part):
    """The families, how many trials and from which seed."""

    champion: Text
    baseline: Text
    trials: int = Field(ge=1, le=10_000)
    seed: int = Field(ge=0, le=2**31 - 1)
    search: dict[str, Span] = Field(default_factory=dict)

    @property
    def ranges(self) -> dict[str, Range]:
        """The ranges to search; empty where the family's own apply."""
        return {name: Range(**span.model_dump()) for name, span in self.search.items()}


class Spec(Part):
    """The whole of model.toml, opened once at the top of each command. `folder` is where it was read from."""

    format: Literal[1] = 1
    model: Model
    data: Data
    features: Features
    decision: Decision
    training: Training
    policy: Text
    columns: dict[str, Column]
    folder: Path = Field(default=Path(), exclude=True, strict=False)

    @cached_property
    def inputs(self) -> tuple[Feature, ...]:
        """The features in model order, as the release will parse them."""
        return tuple(self.columns[name].feature(name) for name in self.features.names)

    @property
    def forbidden(self) -> dict[str, str]:
        """Columns that may not be a feature, and why."""
        reasons = {self.data.label: "the label", self.data.key: "the key of the entity"}
        reasons |= dict.fromkeys(self.data.protected, "a protected attribute")
        return reasons | dict.fromkeys(self.data.identifiers, "a direct identifier")

    @property
    def data_file(self) -> DataFile:
        """The data file and what its columns mean."""
        data = self.data
        return DataFile(self.folder / data.file, self.columns, data.key, data.label, data.protected)

    @property
    def feature_source(self) -> FeatureSource:
        """The Feast service that delivers the inputs."""
        chosen = self.features
        return FeatureSource(
            self.model.name, self.folder / chosen.repository, chosen.service, chosen.names, self.forbidden
        )

    def load_policy(self) -> Policy:
        """The policy the spec names."""
        return load_policy(self.folder / self.policy)


def load_spec(folder: Path) -> Spec:
    """Read and check the model folder.

    Raises:
        UnavailableError: model.toml cannot be read, or a file it names is missing.
        InvalidError: names file, key, value and what was expected.
    """
    content = read_toml(folder / FILE)
    spec = parse_part(Spec, content | {"folder": folder.resolve()}, FILE)
    for name in (spec.data.file, spec.decision.reasons, spec.policy, spec.features.repository):
        if not (folder / name).exists():
            raise UnavailableError(f"{FILE}: there is no {name!r} in {folder}", field=name)
    check_spec(spec)
    return spec


def check_spec(spec: Spec) -> None:
    """Check what must hold between the keys.

    Raises:
        InvalidError: a name is not a column, or a feature is one that a model must not see.
    """
    named = {
        "data.key": (spec.data.key,),
        "data.label": (spec.data.label,),
        "data.protected": spec.data.protected,
        "data.identifiers": spec.data.identifiers,
        "features.names": spec.features.names,
    }
    for key, names in named.items():
        for name in names:
            if name not in spec.columns:
                raise unknown_key(FILE, f"{key}.{name}", spec.columns, " (it must be one of the columns)")
        if len(set(names)) != len(names):
            raise refuse(FILE, key, list(names), "each name once")
    check_features(spec.features.names, spec.forbidden, FILE)
    installed = sorted(set(TRAINING_FAMILIES.names()) & set(SCORING_FAMILIES.names()))
    for key, family in (("training.champion", spec.training.champion), ("training.baseline", spec.training.baseline)):
        if family not in installed:
            raise refuse(FILE, key, family, f"one of {', '.join(installed)}")
    if spec.decision.favourable == spec.decision.adverse:
        raise refuse(FILE, "decision.adverse", spec.decision.adverse, "another word than decision.favourable")


def load_reasons(path: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The reason-code map, {feature: {"code", "text"}}: every feature has customer words.

    Args:
        path: the file, e.g. reasons.toml in the model folder.
        names: the model's features.

    Raises:
        UnavailableError: the file cannot be read.
        InvalidError: a feature has no reason, a reason has no feature, or a code or text is missing.
    """
    content = read_toml(path)
    for name in content:
        if name not in names:
            raise unknown_key(path.name, name, names)
    for name in names:
        if name not in content:
            raise InvalidError(f'{path.name}: {name} is missing; expected {{code = "...", text = "..."}}', field=name)
    return {name: parse_part(_Reason, content[name], path.name, name).model_dump() for name in names}


class _Reason(Part):
    code: Text
    text: Text
