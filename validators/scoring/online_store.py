"""The online store of a model, as Feast keeps it: rows by entity, read and written without a registry.

Feast is imported when the first store is opened: that takes seconds and some 150 MiB. Feast's SQLite store keeps times
without a zone, as if they were local; writer and reader must run in UTC (`run_in_utc`).
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from lineage.errors import InvalidError, UnavailableError
from validators.scoring.feature_origin import Address, Origin, View

log = structlog.get_logger("plimsoll.features")
#: The folder of the model in PLIMSOLL_HOME, by which a feature_store.yaml names its files.
HOME = "PLIMSOLL_FEAST"
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_KEY_LENGTH = 256
_WHOLE = {"INT64": 63, "INT32": 31}
_BATCH = 500

Progress = Callable[[int], None]


class Row(NamedTuple):
    """One entity in one view. `at` is None where the store has no row of it; a value of None is absent."""

    at: datetime | None
    values: Mapping[str, Any]


class OnlineStore:
    """One model's online store.

    Args:
        address: where it is; `${NAME}` in it is replaced by an environment variable.
        home: the model's folder in PLIMSOLL_HOME.

    Raises:
        UnavailableError: a variable is not set, the store's own library is not installed, or it is SQLite and this
            process does not run in UTC.
        InvalidError: the feature_store.yaml is none.
    """

    def __init__(self, address: Address, home: Path) -> None:
        self._config = _config(address, home)
        if self._config.online_store.type == "sqlite" and (time.timezone or time.daylight):
            raise UnavailableError(
                f"Feast's SQLite store needs UTC, this process is in {time.tzname[0]}; call run_in_utc() first"
            )
        from feast.infra.online_stores.helpers import get_online_store_from_config

        try:
            self._store: Any = get_online_store_from_config(self._config.online_store)
        except Exception as error:  # each store's library has errors of its own
            raise UnavailableError(f"the online store cannot be opened: {_first_line(error)}") from error
        self._tables: dict[tuple[Any, ...], Any] = {}

    def read(self, view: View, entities: Sequence[Mapping[str, Any]]) -> list[Row]:
        """The stored rows, one for each entity, of any age. Entities must have passed `check_entity`.

        Raises:
            UnavailableError: the store does not answer.
        """
        from feast.type_map import feast_value_type_to_python_type

        table, names = self._table(view), list(view.features)
        try:
            found = self._store.online_read(self._config, table, _keys(view, entities), [*names])  # Redis adds to it
        except Exception as error:  # each store has errors of its own
            # The error may hold the address of the store, which must not reach callers.
            log.warning("view cannot be read", view=view.name, reason=_first_line(error))
            never = "no such table" in str(error)
            why = "nothing was ever put into it" if never else f"it does not answer ({type(error).__name__})"
            raise UnavailableError(f"the online store has no view {view.name}: {why}", field="entity") from error
        rows = []
        for at, values in found:
            held = values or {}
            cells = {name: feast_value_type_to_python_type(held[name]) if name in held else None for name in names}
            rows.append(Row(at if values else None, cells))
        return rows

    def write(self, view: View, rows: Sequence[Mapping[str, Any]], at: datetime, progress: Progress) -> None:
        """Write rows, each with its keys and features by name, all true at the same moment.

        Args:
            progress: called with the number of rows of each batch that was written.

        Raises:
            UnavailableError: the store refuses them.
            InvalidError: a value does not fit the type in its view.
        """
        self._prepare(view)
        table = self._table(view)
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            cells = {name: _protos([row[name] for row in part], name, kind) for name, kind in view.features.items()}
            lines = [
                (key, {name: cells[name][place] for name in cells}, at, None)
                for place, key in enumerate(_keys(view, part))
            ]
            try:
                self._store.online_write_batch(self._config, table, lines, None)
            except Exception as error:  # each store has errors of its own
                raise UnavailableError(
                    f"the online store refuses rows of view {view.name}: {_first_line(error)}"
                ) from error
            progress(len(part))

    def _prepare(self, view: View) -> None:
        """Create the tables of a view. SQLite is set to write-ahead logging, so that reads go on during writes."""
        online = self._config.online_store
        try:
            self._store.update(self._config, [], [self._table(view)], [], [], True)
            if online.type == "sqlite":
                with closing(sqlite3.connect(Path(self._config.repo_path) / online.path)) as connection:
                    connection.execute("PRAGMA journal_mode = WAL")
        except Exception as error:  # each store has errors of its own
            raise UnavailableError(f"the online store cannot be prepared: {_first_line(error)}") from error

    def _table(self, view: View) -> Any:
        """The view as a Feast object: names, keys and types, no source and no functions."""
        mark = (view.name, *view.keys.items(), *view.features.items())
        table = self._tables.get(mark)
        if table is None:
            from feast import Entity, FeatureView, Field
            from feast.types import from_value_type
            from feast.value_type import ValueType

            entities = [
                Entity(name=name, join_keys=[name], value_type=ValueType[kind]) for name, kind in view.keys.items()
            ]
            schema = [Field(name=name, dtype=from_value_type(ValueType[kind])) for name, kind in view.features.items()]
            limit = timedelta(seconds=view.ttl_seconds)
            table = self._tables[mark] = FeatureView(name=view.name, entities=entities, schema=schema, ttl=limit)
        return table


def check_entity(origin: Origin, entity: Mapping[str, Any]) -> dict[str, Any]:
    """The entity, unchanged, if its keys are those of the release's views.

    Raises:
        InvalidError: names the key, the value and what was expected.
    """
    expected = ", ".join(f"{name} ({_in_words(kind)})" for name, kind in origin.keys.items())
    for name in entity:
        if name not in origin.keys:
            raise InvalidError(f"entity has {str(name)[:60]!r}; expected {expected}", field="entity")
    for name, kind in origin.keys.items():
        if name not in entity:
            raise InvalidError(f"entity lacks {name!r}; expected {expected}", field=f"entity.{name}")
        value = entity[name]
        if kind == "STRING":
            right = isinstance(value, str) and 0 < len(value) <= _KEY_LENGTH and value.isprintable()
        else:
            right = type(value) is int and -(2 ** _WHOLE[kind]) <= value < 2 ** _WHOLE[kind]
        if not right:
            raise InvalidError(f"entity.{name} is {value!r:.60}; expected {_in_words(kind)}", field=f"entity.{name}")
    return dict(entity)


def run_in_utc() -> None:
    """Set the time zone of this whole process to UTC; see the module's docstring."""
    os.environ["TZ"] = "UTC"
    time.tzset()


def _config(address: Address, home: Path) -> Any:
    from feast.repo_config import RepoConfig
    from yaml import YAMLError, safe_load

    try:
        content = safe_load(_filled_in(address.text, home))
        chosen = {key: content[key] for key in ("project", "entity_key_serialization_version") if key in content}
        # The registry is never opened; the other keys of feature_store.yaml are not used here.
        closed = {"path": "none"}
        config = RepoConfig(**chosen, provider="local", registry=closed, online_store=content["online_store"])
    except (YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidError(
            f"feature_store.yaml is not one with an online store: {_first_line(error)}", field="feature_store.yaml"
        ) from error
    config.repo_path = Path(address.repository)
    return config


def _filled_in(text: str, home: Path) -> str:
    values = {**os.environ, HOME: str(home)}

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in values:
            raise UnavailableError(f"feature_store.yaml names ${{{name}}}, which is not set here; set it", field=name)
        return values[name]

    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return _VARIABLE.sub(value, "\n".join(lines))


def _keys(view: View, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey

    columns = [_protos([row[name] for row in rows], name, kind) for name, kind in view.keys.items()]
    names = list(view.keys)
    return [EntityKey(join_keys=names, entity_values=values) for values in zip(*columns, strict=True)]


def _protos(values: list[Any], name: str, kind: str) -> list[Any]:
    from feast.type_map import python_values_to_proto_values
    from feast.value_type import ValueType

    try:
        protos: list[Any] = python_values_to_proto_values(values, ValueType[kind])
    except (TypeError, ValueError) as error:
        raise InvalidError(f"{name} is no {kind}: {_first_line(error)}", field=name) from error
    return protos


def _in_words(kind: str) -> str:
    return "a text" if kind == "STRING" else "a whole number"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
