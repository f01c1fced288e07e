"""Where the inputs of a model come from, and which columns may never be one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lineage.errors import InvalidError


@dataclass(frozen=True)
class FeatureSource:
    """The Feast service that delivers a model's inputs.

    Attributes:
        model: the model's name; registry, store and source file lie in a folder of this name.
        repository: the folder with feature_store.yaml and definitions.py.
        service: the name of the feature service in definitions.py.
        names: the features in model order.
        forbidden: column -> why it may not be a feature, e.g. "the label".
    """

    model: str
    repository: Path
    service: str
    names: tuple[str, ...]
    forbidden: Mapping[str, str]


def check_features(names: Sequence[str], forbidden: Mapping[str, str], source: str) -> None:
    """Refuse features that a model must not see: the label, a protected attribute, an identifier.

    Args:
        source: where the names come from, for errors.

    Raises:
        InvalidError: names the feature and why it may not be one.
    """
    for name in names:
        if name in forbidden:
            raise InvalidError(
                f"{source}: features.names has {name!r}, which is {forbidden[name]}; expected features that are "
                "neither the label, nor protected, nor identifiers: take it out",
                field="features.names",
            )
