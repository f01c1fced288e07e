"""Builds the training frame with Feast: a point-in-time join over the pinned data, by the model's feature service.

Registry, online store and source file live in PLIMSOLL_HOME; the folder with the definitions is only read.
"""

from __future__ import annotations

import fcntl
import importlib.machinery
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import polars as pl

from lineage.errors import InvalidError, UnavailableError
from lineage.settings import Settings
from training.dataset import Pin
from training.feature_source import FeatureSource, check_features
from validators.scoring.feature_origin import feast_home
from validators.toml_document import refuse

DEFINITIONS, STORE = "definitions.py", "feature_store.yaml"
STAMP = "observed_at"
# A pinned snapshot has one time, used for source and request alike: with any time to live, no row is too old
# for the join. The age of a row at a customer's request counts from the time that materialization gives it.
OBSERVED = datetime(2005, 10, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Definitions:
    """The Feast objects of definitions.py, and which of them is the model's feature service."""

    objects: tuple[Any, ...]
    service: Any


def training_frame(source: FeatureSource, pin: Pin, key: str, label: str, settings: Settings) -> pl.DataFrame:
    """Key, label and features of every entity, sorted by key, columns in that order.

    Args:
        key: the column that identifies an entity.
        label: the column of the outcome.

    Raises:
        InvalidError: the feature service is not the one in model.toml, or returns other rows than were pinned.
    """
    frame = pin.read()
    home = feast_home(settings, source.model)
    home.mkdir(parents=True, exist_ok=True)
    observed = pl.lit(OBSERVED).dt.cast_time_unit("us").alias(STAMP)
    rows = frame.select(key, *source.names).with_columns(observed)
    entities = rows.select(key, pl.col(STAMP).alias("event_timestamp")).to_pandas()
    with _locked(home):
        rows.write_parquet(home / f"{source.model}.parquet")
        store, service = open_store(source, home)
        joined = pl.from_pandas(store.get_historical_features(entity_df=entities, features=service).to_df())
    features = joined.select(key, *(pl.col(name).cast(frame.schema[name]) for name in source.names))
    whole = frame.select(key, label).join(features, on=key, how="left").sort(key)
    if whole.height != frame.height or whole.null_count().sum_horizontal()[0]:
        raise InvalidError(
            f"feature service {source.service!r} gave {joined.height} rows for {frame.height} entities, or "
            "empty cells; check its views and their time to live",
            field="features.service",
        )
    return whole


def open_store(source: FeatureSource, home: Path) -> tuple[Any, Any]:
    """The applied Feast store and the model's feature service.

    Raises:
        UnavailableError: the folder has no feature_store.yaml or definitions.
        InvalidError: the service does not exist, or serves other features than model.toml names.
    """
    defined = load_definitions(source, home)
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(source.repository))
    store.apply(list(defined.objects))
    return store, defined.service


def load_definitions(source: FeatureSource, home: Path) -> Definitions:
    """The objects that the Feast repository of the model folder defines; nothing is written.

    Raises:
        UnavailableError: the folder has no feature_store.yaml or definitions.
        InvalidError: the service does not exist, or serves other features than model.toml names.
    """
    repository = source.repository
    for name in (STORE, DEFINITIONS):
        if not (repository / name).is_file():
            raise UnavailableError(f"there is no {name} in {repository}", field="features.repository")
    os.environ["PLIMSOLL_FEAST"] = str(home)
    from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView

    module = _load(repository / DEFINITIONS)
    kinds = Entity | FeatureView | OnDemandFeatureView | FeatureService
    found = [one for one in vars(module).values() if isinstance(one, kinds)]
    services = {one.name: one for one in found if isinstance(one, FeatureService)}
    service = services.get(source.service)
    if service is None:
        expected = f"one of {', '.join(services) or 'none'} (feature services in {repository.name})"
        raise refuse("model.toml", "features.service", source.service, expected)
    names = tuple(field.name for view in service.feature_view_projections for field in view.features)
    check_features(names, source.forbidden, f"feature service {service.name}")
    if set(names) != set(source.names):
        odd = sorted(set(names) ^ set(source.names))
        raise refuse("model.toml", "features.names", odd, f"the features of service {service.name}")
    return Definitions(tuple(found), service)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Lock for one run at a time: each run of a model rewrites its source file and registry."""
    with (home / ".training.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _FromSource(importlib.machinery.SourceFileLoader):
    """Compiles a file each time: bytecode in a cache counts as current where size and second of the change agree."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  the loader's signature
        return self.source_to_code(self.get_data(self.path), self.path)


def _load(path: Path) -> ModuleType:
    name = f"{path.parent.parent.name}_features"
    wanted = importlib.util.spec_from_file_location(name, path, loader=_FromSource(name, str(path)))
    if wanted is None or wanted.loader is None:
        raise UnavailableError(f"cannot import {path}", field="features.repository")
    module = importlib.util.module_from_spec(wanted)
    wanted.loader.exec_module(module)
    return module
