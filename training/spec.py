"""A model folder's `model.toml`: what the model is, what it may see, how it is trained and how it decides."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lineage.errors import InvalidError, UnavailableError
from training.families.port import family_names
from lineage.policy import Policy
from validators.policy import load_policy
from validators.scoring.features import Category, Feature
from validators.scoring.port import family_names as scoring_names
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


class Column(Part):
    """What a column of the data file holds."""

    type: Literal["number", "integer", "category"]
    minimum: float | None = None
    maximum: float | None = None
    categories: Annotated[tuple[Category, ...], Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.type == "category") != bool(self.categories):
            raise ValueError("categories for a category, and only for a category")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("a minimum that is not above the maximum")
        return self


class Spec(Part):
    """The whole of model.toml. `folder` is where it was read from."""

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
        return tuple(self.input(name) for name in self.features.names)

    def input(self, name: str) -> Feature:
        """One column as a feature."""
        column = self.columns[name]
        return Feature(name, column.type, column.minimum, column.maximum, column.categories)

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
    """What must hold between the keys.

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
    check_features(spec, spec.features.names, FILE)
    for key, family, known in (
        ("training.champion", spec.training.champion, family_names()),
        ("training.baseline", spec.training.baseline, family_names()),
    ):
        if family not in known or family not in scoring_names():
            raise refuse(FILE, key, family, f"one of {', '.join(known)}")
    if spec.decision.favourable == spec.decision.adverse:
        raise refuse(FILE, "decision.adverse", spec.decision.adverse, "another word than decision.favourable")


def check_features(spec: Spec, names: tuple[str, ...], source: str) -> None:
    """Refuse features that a model must not see: the label, a protected attribute, an identifier.

    Raises:
        InvalidError: names the feature and why it may not be one.
    """
    reasons: dict[str, Any] = {spec.data.label: "the label", spec.data.key: "the key of the entity"}
    reasons |= dict.fromkeys(spec.data.protected, "a protected attribute")
    reasons |= dict.fromkeys(spec.data.identifiers, "a direct identifier")
    for name in names:
        if name in reasons:
            raise InvalidError(
                f"{source}: features.names has {name!r}, which is {reasons[name]}; expected features that are neither "
                "the label, nor protected, nor identifiers: take it out",
                field="features.names",
            )


def load_reasons(spec: Spec) -> dict[str, dict[str, str]]:
    """The reason-code map, {feature: {"code", "text"}}: every feature has customer words.

    Raises:
        UnavailableError: the file cannot be read.
        InvalidError: a feature has no reason, a reason has no feature, or a code or text is missing.
    """
    source = spec.decision.reasons
    content = read_toml(spec.folder / source)
    for name in content:
        if name not in spec.features.names:
            raise unknown_key(source, name, spec.features.names)
    for name in spec.features.names:
        if name not in content:
            raise InvalidError(f'{source}: {name} is missing; expected {{code = "...", text = "..."}}', field=name)
    return {name: parse_part(_Reason, content[name], source, name).model_dump() for name in spec.features.names}


class _Reason(Part):
    code: Text
    text: Text
