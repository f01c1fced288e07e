"""Training data as Delta tables: pinned by version and by a digest of its content, independent of the file layout.

The same content is the same version. Protected attributes live in a table of their own beside the features, so that a
training run has no reason to read them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from lineage.errors import InvalidError, TamperedError
from lineage.settings import Settings
from training.datafile import DataFile, read_data
from validators.toml_document import refuse

Fault = Literal["inverted_labels"]


@dataclass(frozen=True)
class Pin:
    """One version of one table, with the digest of its content."""

    dataset: str
    path: Path
    version: int
    digest: str
    rows: int
    columns: tuple[str, ...]
    new: bool

    def read(self) -> pl.DataFrame:
        """The pinned rows.

        Raises:
            TamperedError: the content is not what was pinned.
        """
        changed = TamperedError(f"{self.dataset} version {self.version} is not what was pinned; pin the data again")
        try:
            frame = _rows(DeltaTable(str(self.path), version=self.version))
        except (OSError, ValueError) as error:  # pyarrow's errors are both
            raise changed from error
        if content_digest(frame) != self.digest:
            raise changed
        return frame

    def to_dict(self) -> dict[str, Any]:
        """The data of a DatasetPinned fact."""
        return {
            "dataset": self.dataset,
            "uri": self.path.as_uri(),
            "version": self.version,
            "digest": self.digest,
            "rows": self.rows,
            "columns": list(self.columns),
        }


@dataclass(frozen=True)
class Pinned:
    """The two pinned tables of a model: learning data, and protected attributes that only validators read."""

    data: Pin
    protected: Pin

    def to_dict(self) -> dict[str, Any]:
        """The `dataset` of a ModelTrained fact."""
        protected = {"version": self.protected.version, "digest": self.protected.digest}
        pinned = {"uri": self.data.path.as_uri(), "version": self.data.version, "digest": self.data.digest}
        return pinned | {"protected": protected}


def pin_dataset(model: str, file: DataFile, settings: Settings, fault: str | None = None) -> Pinned:
    """Check the data file, write what is new, and pin both tables.

    Args:
        model: the model's name, after which the tables are called.
        fault: None, or "inverted_labels": a new version whose label is inverted, as a bad upload would be.

    Raises:
        InvalidError: the file is not as described, or there is no such fault.
    """
    if fault not in (None, "inverted_labels"):
        raise refuse("options", "fault", fault, "inverted_labels or none")
    frame = read_data(file)
    if fault == "inverted_labels":
        frame = frame.with_columns((1 - pl.col(file.label)).alias(file.label))
    protected = [file.key, *(name for name in file.protected if name != file.key)]
    kept = [name for name in file.columns if name not in file.protected]
    return Pinned(
        _pin(model, settings.datasets / model, frame.select(kept)),
        _pin(f"{model}-protected", settings.datasets / f"{model}-protected", frame.select(protected)),
    )


def _pin(dataset: str, path: Path, frame: pl.DataFrame) -> Pin:
    digest = content_digest(frame)
    path = path.resolve()
    latest = _latest(path)
    new = latest is None or latest[1] != digest
    if new:
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_delta(str(path), mode="overwrite", delta_write_options={"schema_mode": "overwrite"})
        latest = _latest(path)
    if latest is None or latest[1] != digest:  # read back what was written
        raise TamperedError(f"{dataset} at {path} does not hold what was just written")
    return Pin(dataset, path, latest[0], digest, frame.height, tuple(frame.columns), new)


def _latest(path: Path) -> tuple[int, str] | None:
    try:
        table = DeltaTable(str(path))
    except TableNotFoundError:
        return None
    return table.version(), content_digest(_rows(table))


def _rows(table: DeltaTable) -> pl.DataFrame:
    """Read through pyarrow: polars panics on a truncated Parquet file."""
    frame = pl.from_arrow(table.to_pyarrow_table())
    return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()


def content_digest(frame: pl.DataFrame) -> str:
    """A digest of names, types and values: columns by name, rows in their order, independent of the file layout.

    Raises:
        InvalidError: a column of a type that is not stored here.
    """
    found = hashlib.sha256()
    found.update(f"{frame.height}\n".encode())
    for name in sorted(frame.columns):
        column = frame[name]
        found.update(f"{name}\0{column.dtype}\0".encode())
        if column.null_count():
            raise InvalidError(f"column {name!r} has {column.null_count()} empty cells; expected none", field=name)
        if column.dtype == pl.String:
            found.update(b"".join(f"{len(text.encode())}:{text}".encode() for text in column.to_list()))
        elif column.dtype in (pl.Int64, pl.Float64):
            values = column.to_numpy()
            found.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes())
        else:
            raise InvalidError(f"column {name!r} holds {column.dtype}; expected Int64, Float64 or String", field=name)
    return "sha256:" + found.hexdigest()
