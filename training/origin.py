"""The origin of a release: what its feature service reads, from the definitions, signed when it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lineage.errors import InvalidError
from lineage.settings import Settings
from training.feature_source import FeatureSource
from training.features import STORE, Definitions, load_definitions
from validators.scoring.feature_origin import (
    KEY_TYPES,
    Address,
    Origin,
    View,
    feast_home,
    write_address,
    write_origin,
)


def bind_features(source: FeatureSource, digest: str, settings: Settings) -> str:
    """Sign the origin of a release, so that decisions can be requested by entity.

    Returns a sentence for the progress log: by which key, or why not.

    Args:
        digest: of the release's bundle.

    Raises:
        UnavailableError: there is no signing key, or the home cannot be written.
        InvalidError: the definitions do not match model.toml.
    """
    defined = load_definitions(source, feast_home(settings, source.model))
    try:
        origin = origin_of(source.model, defined, digest)
    except InvalidError as error:  # requests that send the features still work
        return f"no decisions by entity: {error.message}"
    write_address(source.model, address_of(source.repository), settings)
    write_origin(origin, settings)
    return f"by entity through {origin.service}: {', '.join(origin.keys)}"


def origin_of(model: str, defined: Definitions, digest: str) -> Origin:
    """The origin that the definitions describe.

    Raises:
        InvalidError: the service holds what cannot be read by key alone: a view that computes on demand, is not online
            or renames keys, a feature of two views, or a key of another type.
    """
    from feast import Entity, FeatureView

    views = {one.name: one for one in defined.objects if isinstance(one, FeatureView)}
    entities = {one.name: one for one in defined.objects if isinstance(one, Entity)}
    found = []
    for projection in defined.service.feature_view_projections:
        view = views.get(projection.name)
        if view is None or not view.online or projection.join_key_map:
            raise InvalidError(
                f"view {projection.name} of service {defined.service.name} cannot be read by key alone; expected an "
                "online FeatureView under its own keys",
                field="features.service",
            )
        keys = dict(_key(name, entities) for name in view.entities)
        features = {one.name: str(one.dtype.to_value_type().name) for one in projection.features}
        found.append(View(view.name, view.ttl.total_seconds() if view.ttl else 0.0, keys, features))
    names = [name for view in found for name in view.features]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        message = f"feature {twice!r} is in two views of service {defined.service.name}; expected each name once"
        raise InvalidError(message, field="features.service")
    return Origin(model, digest, defined.service.name, tuple(found))


def address_of(repository: Path) -> Address:
    """The address of the online store, from feature_store.yaml. `${NAME}` stays as it is: secrets are not copied."""
    return Address((repository / STORE).read_text(encoding="utf-8"), str(repository))


def _key(name: str, entities: dict[str, Any]) -> tuple[str, str]:
    entity = entities.get(name)
    kind = "" if entity is None else str(entity.value_type.name)
    if entity is None or kind not in KEY_TYPES:
        raise InvalidError(
            f"entity {name!r} has keys of type {kind or 'none'}; expected an entity with a value_type of "
            f"{', '.join(KEY_TYPES)} in definitions.py",
            field="features.service",
        )
    return str(entity.join_key), kind
