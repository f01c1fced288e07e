"""Freshness of values from an online store, checked at the moment of the request against each view's limit.

Feast returns values of any age, so a value must pass this check before a decision uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lineage.errors import InvalidError
from validators.scoring.features import Feature

#: Allowed difference between two machines' clocks; a value from further in the future has an unknown age.
SKEW_SECONDS = 5.0

Entity = Mapping[str, Any]


@dataclass(frozen=True)
class ViewReading:
    """Values of one entity in one view of an online store.

    `at` is the time of the values in seconds since the epoch; None where the store does not have the entity.
    A value of None is missing.
    """

    view: str
    ttl_seconds: float
    at: float | None
    values: Mapping[str, Any]


@dataclass(frozen=True)
class EntityFeatures:
    """An entity's features, sorted by whether they may be used.

    values: the fresh ones only.
    stale: names of features older than their view allows, or from the future.
    missing: names of features without a value, or with one that the model does not accept.
    ages: view -> age in seconds at the moment of the check, of every view that has the entity.
    service: the feature service.
    """

    values: Mapping[str, Any]
    stale: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    ages: Mapping[str, float] = field(default_factory=dict)
    service: str = ""

    @property
    def fresh(self) -> bool:
        """Whether every feature may be used."""
        return not self.stale and not self.missing

    @property
    def known(self) -> bool:
        """Whether the store has the entity."""
        return bool(self.ages)

    @property
    def oldest_seconds(self) -> float | None:
        """The greatest age of any view in seconds; None where the store does not have the entity."""
        return max(self.ages.values(), default=None)


class FeaturePort(Protocol):
    """Source of an entity's features."""

    async def fetch(self, model: str, digest: str, entity: Entity) -> EntityFeatures:
        """The features of an entity for the release with this digest, sorted by freshness now.

        Raises:
            UnknownError: no view has the entity.
            InvalidError: the entity is not what the release's views are keyed by, or the release has no service.
            UnavailableError: the online store did not answer in time, or too many reads are in progress.
        """


def sort_by_freshness(
    readings: Iterable[ViewReading], now: float, service: str, skew: float = SKEW_SECONDS
) -> EntityFeatures:
    """Sort values into fresh, stale and missing.

    Args:
        now: seconds since the epoch.
        skew: how far in the future a value may be, in seconds.
    """
    values: dict[str, Any] = {}
    stale: list[str] = []
    missing: list[str] = []
    ages: dict[str, float] = {}
    for reading in readings:
        present = {name: value for name, value in reading.values.items() if value is not None}
        missing += [name for name in reading.values if reading.at is None or name not in present]
        if reading.at is None:
            continue
        age = now - reading.at
        ages[reading.view] = round(age, 3)
        if -skew <= age and (not reading.ttl_seconds or age <= reading.ttl_seconds):  # false for an age of NaN
            values |= present
        else:
            stale += present
    return EntityFeatures(values, tuple(stale), tuple(missing), ages, service)


def usable_features(served: EntityFeatures, features: Iterable[Feature]) -> EntityFeatures:
    """Move values that the model does not accept to `missing`: the caller did not send them and cannot correct them.

    A feature of the model that was not read counts as missing too.
    """
    values: dict[str, Any] = {}
    missing = list(served.missing)
    for one in features:
        if one.name in served.values:
            try:
                one.parse(served.values[one.name])
            except InvalidError:
                missing.append(one.name)
            else:
                values[one.name] = served.values[one.name]
        elif one.name not in served.stale and one.name not in missing:
            missing.append(one.name)
    return replace(served, values=values, missing=tuple(missing))
