"""Reads a model's data file, or refuses it: its format, its columns, their types and their ranges."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lineage.errors import InvalidError, UnavailableError
from training.column import Column
from validators.toml_document import unknown_key

_PARQUET = b"PAR1"


@dataclass(frozen=True)
class DataFile:
    """A model's data file and what its columns mean.

    Attributes:
        path: a Parquet or CSV file.
        columns: every column of the file, in the order in which they are stored.
        key: the column that identifies an entity.
        label: the column that is 1 for the adverse outcome and 0 otherwise.
        protected: columns that are protected attributes.
    """

    path: Path
    columns: Mapping[str, Column]
    key: str
    label: str
    protected: tuple[str, ...]


def read_data(file: DataFile) -> pl.DataFrame:
    """The rows of the file, columns in the order of `file.columns`, sorted by key.

    Raises:
        UnavailableError: the file cannot be read.
        InvalidError: it is not as described: names file, column, value and what was expected.
    """
    source, frame = file.path.name, _read(file.path)
    _check_names(file.columns, frame, source)
    if not frame.height:
        raise InvalidError(f"{source} has no rows; expected at least one", field=source)
    frame = frame.select([_cast(frame[name], column, source) for name, column in file.columns.items()])
    _check_values(file.columns, file.key, frame, source)
    return frame.sort(file.key)


def _read(path: Path) -> pl.DataFrame:
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if path.suffix == ".parquet":
            if head != _PARQUET:
                raise InvalidError(f"{path.name} starts with {head!r}; expected a Parquet file (PAR1)", field=path.name)
            return pl.read_parquet(path)
        if path.suffix == ".csv":
            if b"\0" in head or head == _PARQUET:
                raise InvalidError(f"{path.name} starts with {head!r}; expected CSV text", field=path.name)
            return pl.read_csv(path, infer_schema_length=None)
    except OSError as error:
        raise UnavailableError(f"cannot read {path}: {error.strerror or error}", field=path.name) from error
    except pl.exceptions.PolarsError as error:
        raise InvalidError(f"{path.name} is not a whole {path.suffix[1:]} file: {error}", field=path.name) from error
    raise InvalidError(f"{path.name} has the ending {path.suffix!r}; expected .parquet or .csv", field=path.name)


def _check_names(columns: Mapping[str, Column], frame: pl.DataFrame, source: str) -> None:
    for name in frame.columns:
        if name not in columns:
            raise unknown_key(source, name, columns, " (a column of the file that model.toml does not describe)")
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InvalidError(
            f"{source}: column {missing[0]!r} is missing; found {', '.join(frame.columns)}", field=source
        )


def _cast(values: pl.Series, column: Column, source: str) -> pl.Series:
    """The column in its one stored type, so that equal content has equal bytes in every file format."""
    whole = column.type == "integer" or all(isinstance(one, int) for one in column.categories or ("",))
    target: Any = pl.Int64 if whole else pl.Float64 if column.type == "number" else pl.String
    numeric = values.dtype.is_numeric()
    if numeric == (target == pl.String):
        raise InvalidError(
            f"{source}: column {values.name!r} holds {values.dtype}; expected {column.type}", field=values.name
        )
    try:
        stored = values.cast(target, strict=True)
    except pl.exceptions.PolarsError as error:
        raise InvalidError(
            f"{source}: column {values.name!r}: {error}; expected {target}", field=values.name
        ) from error
    if numeric and values.dtype.is_float() and whole:
        broken = values.filter(stored.cast(pl.Float64) != values)
        if len(broken):
            raise InvalidError(
                f"{source}: column {values.name!r} has {broken[0]!r}; expected whole numbers", field=values.name
            )
    return stored


def _check_values(columns: Mapping[str, Column], key: str, frame: pl.DataFrame, source: str) -> None:
    """Check every cell with pandera: it finds all failures at once; the error shows the first and counts them."""
    os.environ.setdefault("DO_NOT_TRACK", "true")
    import pandera.errors
    import pandera.polars as pa

    schema = pa.DataFrameSchema(
        {
            name: pa.Column(frame.schema[name], checks=_checks(column), nullable=False, unique=name == key)
            for name, column in columns.items()
        },
        strict=True,
    )
    try:
        schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        first = cases.row(0, named=True)
        name = str(first["column"])
        what = (
            "is not unique" if "unique" in str(first["check"]) else f"expected {columns[name].feature(name).expected}"
        )
        raise InvalidError(
            f"{source}: column {name!r} has {first['failure_case']!r} in row {first['index']}; {what} "
            f"({cases.height} cells are wrong in all)",
            field=name,
        ) from error


def _checks(column: Column) -> list[Any]:
    import pandera.polars as pa

    checks: list[Any] = []
    if column.categories:
        checks.append(pa.Check.isin(list(column.categories)))
    if column.type == "number":
        checks.append(pa.Check(lambda data: data.lazyframe.select(pl.col(data.key).is_finite()), name="finite"))
    if column.minimum is not None:
        checks.append(pa.Check.ge(column.minimum))
    if column.maximum is not None:
        checks.append(pa.Check.le(column.maximum))
    return checks
