"""The training frame comes out of Feast: a point-in-time join over the pinned data, by the model's feature service.

Registry, online store and source file live in PLIMSOLL_HOME; the folder with the definitions is only read.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from lineage.errors import InvalidError, UnavailableError
from lineage.settings import Settings
from training.dataset import Pin
from training.spec import Spec, check_features
from validators.scoring.feature_origin import feast_home
from validators.toml_document import refuse

DEFINITIONS, STORE = "definitions.py", "feature_store.yaml"
STAMP = "observed_at"
# A pinned snapshot has one time, for source and question alike: whatever a view's time to live, no row is too old for
# the join. How old a row is when a customer asks is told by the time that materialization gives it.
OBSERVED = datetime(2005, 10, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Definitions:
    """What definitions.py defines, and the model's feature service among it."""

    objects: tuple[Any, ...]
    service: Any


def training_frame(spec: Spec, pin: Pin, settings: Settings) -> pl.DataFrame:
    """Key, label and features of every entity, sorted by key, columns in that order.

    Raises:
        InvalidError: the feature service is not what model.toml says, or gives back other rows than were pinned.
    """
    frame = pin.read()
    home = feast_home(settings, spec.model.name)
    home.mkdir(parents=True, exist_ok=True)
    stamp = pl.lit(OBSERVED).dt.cast_time_unit("us").alias(STAMP)
    source = frame.select(spec.data.key, *spec.features.names).with_columns(stamp)
    entities = source.select(spec.data.key, pl.col(STAMP).alias("event_timestamp")).to_pandas()
    with _alone(home):
        source.write_parquet(home / f"{spec.model.name}.parquet")
        store, service = open_store(spec, home)
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
    defined = load_definitions(spec, home)
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(spec.folder / spec.features.repository))
    store.apply(list(defined.objects))
    return store, defined.service


def load_definitions(spec: Spec, home: Path) -> Definitions:
    """What the Feast repository of the model folder defines; nothing is written.

    Raises:
        UnavailableError: the folder has no feature_store.yaml or definitions.
        InvalidError: the service does not exist, or serves other features than model.toml names.
    """
    repository = spec.folder / spec.features.repository
    for name in (STORE, DEFINITIONS):
        if not (repository / name).is_file():
            raise UnavailableError(f"there is no {name} in {repository}", field="features.repository")
    os.environ["PLIMSOLL_FEAST"] = str(home)
    from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView

    module = _load(repository / DEFINITIONS)
    kinds = Entity | FeatureView | OnDemandFeatureView | FeatureService
    found = [one for one in vars(module).values() if isinstance(one, kinds)]
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
    return Definitions(tuple(found), service)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Source file and registry are rewritten by each run: two runs of one model take turns."""
    with (home / ".training.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _load(path: Path) -> ModuleType:
    wanted = importlib.util.spec_from_file_location(f"{path.parent.parent.name}_features", path)
    if wanted is None or wanted.loader is None:
        raise UnavailableError(f"cannot import {path}", field="features.repository")
    module = importlib.util.module_from_spec(wanted)
    wanted.loader.exec_module(module)
    return module
