"""The training frame comes out of Feast: a point-in-time join over the pinned data, by the model's feature service.

Registry, online store and source file live in PLIMSOLL_HOME; the folder with the definitions is only read.
"""

from __future__ import annotations

import importlib.util
import os
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from lineage.errors import InvalidError, UnavailableError
from lineage.settings import Settings
from training.dataset import Pin
from training.spec import Spec, check_features
from validators.document import refuse

DEFINITIONS = "definitions.py"
STAMP = "observed_at"
OBSERVED = datetime(2005, 10, 1, tzinfo=UTC)  # a snapshot has one time; any time not later than the join's will do


def training_frame(spec: Spec, pin: Pin, settings: Settings) -> pl.DataFrame:
    """Key, label and features of every entity, sorted by key, columns in that order.

    Raises:
        InvalidError: the feature service is not what model.toml says, or gives back other rows than were pinned.
    """
    frame = pin.read()
    home = settings.root / "feast" / spec.model.name
    home.mkdir(parents=True, exist_ok=True)
    stamp = pl.lit(OBSERVED).dt.cast_time_unit("us").alias(STAMP)
    source = frame.select(spec.data.key, *spec.features.names).with_columns(stamp)
    source.write_parquet(home / f"{spec.model.name}.parquet")
    store, service = open_store(spec, home)
    entities = source.select(spec.data.key, pl.col(STAMP).alias("event_timestamp")).to_pandas()
    joined = pl.from_pandas(store.get_historical_features(entity_df=entities, features=service).to_df())
    features = joined.select(spec.data.key, *(pl.col(name).cast(frame.schema[name]) for name in spec.features.names))
    whole = frame.select(spec.data.key, spec.data.label).join(features, on=spec.data.key, how="left")
    whole = whole.sort(spec.data.key)
    if whole.height != frame.height or whole.null_count().sum_horizontal()[0]:
        raise InvalidError(
            f"feature service {spec.features.service!r} gave {joined.height} rows for {frame.height} entities, or "
            "empty cells; check its views and their time to live",
            field="features.service",
        )
    return whole


def open_store(spec: Spec, home: Path) -> tuple[Any, Any]:
    """The applied Feast store and the model's feature service.

    Raises:
        UnavailableError: the folder has no feature_store.yaml or definitions.
        InvalidError: the service does not exist, or serves other features than model.toml names.
    """
    repository = spec.folder / spec.features.repository
    for name in ("feature_store.yaml", DEFINITIONS):
        if not (repository / name).is_file():
            raise UnavailableError(f"there is no {name} in {repository}", field="features.repository")
    os.environ["PLIMSOLL_FEAST"] = str(home)
    from feast import Entity, FeatureService, FeatureStore, FeatureView

    module = _load(repository / DEFINITIONS)
    found = [one for one in vars(module).values() if isinstance(one, Entity | FeatureView | FeatureService)]
    services = {one.name: one for one in found if isinstance(one, FeatureService)}
    service = services.get(spec.features.service)
    if service is None:
        expected = f"one of {', '.join(services) or 'none'} (feature services in {spec.features.repository})"
        raise refuse("model.toml", "features.service", spec.features.service, expected)
    names = tuple(field.name for view in service.feature_view_projections for field in view.features)
    check_features(spec, names, f"feature service {service.name}")
    if set(names) != set(spec.features.names):
        odd = sorted(set(names) ^ set(spec.features.names))
        raise refuse("model.toml", "features.names", odd, f"the features of service {service.name}")
    store = FeatureStore(repo_path=str(repository))
    store.apply(found)
    return store, service


def _load(path: Path) -> ModuleType:
    wanted = importlib.util.spec_from_file_location(f"{path.parent.parent.name}_features", path)
    if wanted is None or wanted.loader is None:
        raise UnavailableError(f"cannot import {path}", field="features.repository")
    module = importlib.util.module_from_spec(wanted)
    wanted.loader.exec_module(module)
    return module
