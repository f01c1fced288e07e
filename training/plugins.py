"""The plug-in point of training: model families that can be trained."""

from __future__ import annotations

from typing import cast

from training.family import Family
from validators.plugins import PluginPoint

TRAINING_FAMILIES = PluginPoint(
    "model family", "training.families", "plimsoll.training_families", "family", "training.champion"
)


def family_of(name: str) -> Family:
    """The family called `name`.

    Raises:
        UnknownError: there is none; an unknown name is never a default.
        InvalidError: several installed families have that name.
        UnavailableError: it cannot be imported.
    """
    return cast(Family, TRAINING_FAMILIES.load(name))
