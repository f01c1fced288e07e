"""Sealed decision segments on disk: where each has to lie, and whether its bytes are what the record says.

A segment that cannot be used (missing, changed, no Parquet, of other columns, or named at a place outside its model's
folder) is reported by name and record number and left out; it never keeps the other segments from being read.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lineage.digest import digest_bytes
from lineage.errors import InvalidError, PlimsollError, TamperedError, UnavailableError

#: Columns of a segment. `type` is decision or outcome; an outcome row has decision_id, at, outcome and replica only.
#: `feature_service`, `feature_age` (seconds) and `unusable` are set where features were looked up by entity; a row
#: whose purpose is shadow was not returned, and `shadow_of` is the id of the decision that was.
#: `subject` is the person's pseudonym; `sealed` holds the encrypted personal fields; `error` keeps its kind.
#: `writer` and `number` are the series of the gateway replica that recorded the decision, and its place there.
COLUMNS: dict[str, Any] = {
    "type": pl.String,
    "decision_id": pl.String,
    "at": pl.String,
    "model": pl.String,
    "release": pl.String,
    "digest": pl.String,
    "role": pl.String,
    "arm": pl.String,
    "share": pl.Float64,
    "score": pl.Float64,
    "threshold": pl.Float64,
    "decision": pl.String,
    "adverse": pl.Boolean,
    "fallback": pl.String,
    "latency_ms": pl.Float64,
    "error": pl.String,
    "rollout": pl.String,
    "purpose": pl.String,
    "replica": pl.String,
    "route_version": pl.Int64,
    "feature_service": pl.String,
    "feature_age": pl.Float64,
    "unusable": pl.List(pl.String),
    "shadow_of": pl.String,
    "outcome": pl.Int64,
    "subject": pl.String,
    "sealed": pl.Binary,
    "writer": pl.String,
    "number": pl.Int64,
}
#: Columns of segments from before there were keys of persons.
_PLAIN: dict[str, Any] = {
    "key": pl.String,
    "key_hash_share": pl.Float64,
    "features": pl.List(pl.Float64),
    "reasons": pl.List(pl.String),
}
_NEEDED = ("type", "decision_id", "at", "model")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MOST_CHECKED = 50_000  # results that are kept; the oldest is dropped
_State = tuple[int, int, int, int]


@dataclass(frozen=True)
class Place:
    """A sealed segment and the record that names it; 0 where it is not on record yet."""

    record: int
    segment: str
    uri: str
    digest: str

    @property
    def model(self) -> str:
        """The model by its folder; empty where the location is none of a segment."""
        parts = self.uri.split("/")
        return parts[1] if len(parts) == 3 else ""


@dataclass(frozen=True)
class Missing:
    """A segment on record that cannot be used, and why."""

    record: int
    model: str
    segment: str
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def place_of(record: Mapping[str, Any]) -> Place:
    """The segment that a DecisionsSealed record names."""
    data = record["data"]
    return Place(record["seq"], data["segment"], data["uri"], data["digest"])


def uri_of(model: str, segment: str) -> str:
    """The location of a segment below the home folder.

    Raises:
        InvalidError: model or segment is none that a folder and a file of segments can have.
    """
    for field, name in (("model", model), ("segment", segment)):
        if not _NAME.fullmatch(name):
            raise InvalidError(
                f"the {field} of a segment is {name!r:.120}; expected up to 200 letters, digits, dots, dashes or "
                "underscores",
                field=field,
            )
    return f"decisions/{model}/{segment}.parquet"


def content_of(root: Path, place: Place, model: str | None = None) -> bytes:
    """The bytes of a segment, if they have the digest on record.

    Args:
        root: the home folder.
        model: the model that the record is about; by the location when None.

    Raises:
        InvalidError: the record names a place outside the model's folder.
        UnavailableError: the file cannot be read.
        TamperedError: it has another digest.
    """
    expected = uri_of(model or place.model, place.segment)
    named = f", which record {place.record} names," if place.record else ""
    if place.uri != expected:
        raise InvalidError(f"segment {place.segment} is named at {place.uri!r:.200}; expected {expected}", field="uri")
    try:
        data = (root / expected).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        why = error.strerror if isinstance(error, OSError) else error
        raise UnavailableError(f"segment {place.segment}{named} cannot be read: {why}", field="segment") from error
    if digest_bytes(data) != place.digest:
        raise TamperedError(
            f"segment {place.segment}{named} has another digest than {place.digest}: it is not what was sealed",
            field="segment",
            record=place.record,
        )
    return data


def rows_of(data: bytes, segment: str) -> pl.DataFrame:
    """The rows of a segment.

    Raises:
        TamperedError: it is no Parquet file, or not of the columns of a segment.
    """
    check_columns(data, segment)
    try:
        return pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TamperedError(f"segment {segment} is no readable Parquet file: {error}", field="segment") from error


def check_columns(data: bytes, segment: str) -> None:
    """Refuse bytes whose Parquet schema is not that of a segment.

    Raises:
        TamperedError: there is no such schema, a column is missing, or one is of another type.
    """
    try:
        schema = pl.read_parquet_schema(io.BytesIO(data))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TamperedError(f"segment {segment} is no Parquet file: {error}", field="segment") from error
    absent = [name for name in _NEEDED if name not in schema]
    if absent:
        raise TamperedError(f"segment {segment} has no column {absent[0]}; it is no segment", field="segment")
    for name, kind in (COLUMNS | _PLAIN).items():
        if name in schema and schema[name] not in (kind, pl.Null):
            raise TamperedError(
                f"column {name} of segment {segment} is {schema[name]}; expected {kind}", field="segment"
            )


def numbers_in(rows: pl.DataFrame) -> dict[str, list[int]]:
    """Numbers of the decisions in a segment by their writer; decisions without a number are left out."""
    if not {"writer", "number"} <= set(rows.columns):
        return {}
    numbered = rows.filter(pl.col("type") == "decision", pl.col("number").is_not_null(), pl.col("writer").is_not_null())
    groups = numbered.group_by("writer").agg("number")
    return dict(groups.iter_rows())


class Segments:
    """Reader of the segments of one home; remembers which could not be used. Thread-safe.

    A file is read again only when its inode, size or time of change is another than at the last look.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._lock = root.resolve(), threading.Lock()
        self._checked: dict[Place, tuple[_State | None, str | None]] = {}
        self._missing: dict[int, Missing] = {}

    @property
    def missing(self) -> list[Missing]:
        """Segments that could not be used when they were last wanted, by record."""
        with self._lock:
            return [self._missing[record] for record in sorted(self._missing)]

    def usable(self, places: Iterable[Place]) -> tuple[list[Place], list[Missing]]:
        """The places whose files can be read, and those that cannot. The first record that names a file counts."""
        good, bad = list[Place](), list[Missing]()
        seen: dict[str, int] = {}
        for place in sorted(places, key=lambda one: one.record):
            problem = self._problem(place)
            if problem is None and place.uri in seen:
                problem = f"record {seen[place.uri]} names segment {place.segment} already"
            if problem is None:
                seen[place.uri] = place.record
                good.append(place)
                self.found(place)
            else:
                bad.append(self.report(place, problem))
        return good, bad

    def path(self, place: Place) -> Path:
        """The file of a usable segment."""
        return self._root / place.uri

    def rows(self, place: Place) -> pl.DataFrame:
        """The rows of a segment.

        Raises:
            PlimsollError: it cannot be used; it is noted as missing.
        """
        try:
            found = rows_of(content_of(self._root, place), place.segment)
        except PlimsollError as error:
            self.report(place, error.message)
            raise
        self.found(place)
        return found

    def report(self, place: Place, problem: str) -> Missing:
        """Note that a segment cannot be used."""
        missing = Missing(place.record, place.model, place.segment, problem)
        with self._lock:
            self._missing[place.record] = missing
        return missing

    def refuse(self, place: Place, problem: str) -> Missing:
        """Note that a file with the right digest cannot be read all the same, until it changes."""
        with self._lock:
            self._checked[place] = (_state(self.path(place)), problem)
        return self.report(place, problem)

    def found(self, place: Place) -> None:
        """Note that a segment could be used."""
        with self._lock:
            self._missing.pop(place.record, None)

    def _problem(self, place: Place) -> str | None:
        state = _state(self._root / place.uri) if place.uri.startswith("decisions/") else None
        with self._lock:
            known = self._checked.get(place)
        if known is not None and state is not None and known[0] == state:
            return known[1]
        problem = None
        try:
            check_columns(content_of(self._root, place), place.segment)
        except PlimsollError as error:
            problem = error.message
        with self._lock:
            self._checked.pop(place, None)
            self._checked[place] = (state, problem)
            if len(self._checked) > _MOST_CHECKED:
                self._checked.pop(next(iter(self._checked)))
        return problem


def _state(path: Path) -> _State | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
