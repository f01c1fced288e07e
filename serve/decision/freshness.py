"""Whether values from an online store may still be used: judged at the moment of the request, by each view's limit.

Feast gives back what it holds however old it is, so that a value without this judgement is not fit for a decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lineage.errors import InvalidError
from validators.scoring.features import Feature

#: Clocks of two machines differ; a value from further in the future has a wrong time, and so an unknown age.
SKEW_SECONDS = 5.0

Entity = Mapping[str, Any]


@dataclass(frozen=True)
class ViewReading:
    """What an online store holds about one entity in one view.

    `at` is when the values were true, in seconds since the epoch; None where the store knows nothing of the entity.
    A value that is None is not there.
    """

    view: str
    ttl_seconds: float
    at: float | None
    values: Mapping[str, Any]


@dataclass(frozen=True)
class EntityFeatures:
    """An entity's features, sorted by whether they may be used.

    values: the fresh ones, and only these.
    stale: names of features that are there but older than their view allows, or from the future.
    missing: names of features that are not there, or that hold what the model does not take.
    ages: view -> age in seconds at the moment of judgement, of every view that knows the entity.
    service: the feature service they come from.
    """

    values: Mapping[str, Any]
    stale: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    ages: Mapping[str, float] = field(default_factory=dict)
    service: str = ""

    @property
    def fresh(self) -> bool:
        """True where every feature may be used."""
        return not self.stale and not self.missing

    @property
    def known(self) -> bool:
        """True where the store knows the entity at all."""
        return bool(self.ages)

    @property
    def oldest_seconds(self) -> float | None:
        """The greatest age of all, None where nothing is known."""
        return max(self.ages.values(), default=None)


class FeaturePort(Protocol):
    """Where the gateway gets the features of an entity."""

    async def fetch(self, model: str, digest: str, entity: Entity) -> EntityFeatures:
        """The features of the release with this digest, judged now.

        Raises:
            UnknownError: no view knows the entity.
            InvalidError: the entity is not what the release's views are keyed by, or the release has no service.
            UnavailableError: the online store did not answer in time, or too many reads are under way.
        """


def sort_by_freshness(
    readings: Iterable[ViewReading], now: float, service: str, skew: float = SKEW_SECONDS
) -> EntityFeatures:
    """Sort what was read into fresh, stale and missing.

    Args:
        now: seconds since the epoch.
        skew: how far in the future a value may be, in seconds.
    """
    values: dict[str, Any] = {}
    stale: list[str] = []
    missing: list[str] = []
    ages: dict[str, float] = {}
    for reading in readings:
        there = {name: value for name, value in reading.values.items() if value is not None}
        missing += [name for name in reading.values if reading.at is None or name not in there]
        if reading.at is None:
            continue
        age = now - reading.at
        ages[reading.view] = round(age, 3)
        if -skew <= age and (not reading.ttl_seconds or age <= reading.ttl_seconds):  # an age of NaN is neither
            values |= there
        else:
            stale += there
    return EntityFeatures(values, tuple(stale), tuple(missing), ages, service)


def usable_features(served: EntityFeatures, features: Iterable[Feature]) -> EntityFeatures:
    """Take out values that the model does not take: what a store holds is not what the caller sent.

    Such a value counts as missing, and so does a feature of the model that was not read at all.
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
