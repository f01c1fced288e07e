"""Rows of the lineage store: records as rows, rows as JSON, named queries and their filters. Without a database."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

import orjson
import polars as pl

from lineage.digest import canonical
from lineage.errors import InvalidError, UnknownError

Record = dict[str, Any]
MOST_ROWS = 10_000
BULK = 20_000
_BULK_BYTES, _CHUNK = 32 * 1024 * 1024, 100
_TEXTS = (
    *("at", "kind", "model", "release", "about", "actor", "role", "reason"),
    *("decision", "mentions", "data", "prev"),
)
_FRAME = pl.Schema({"seq": pl.Int64()} | dict.fromkeys(_TEXTS, pl.String()))
_RANGES = {"limit": (1, MOST_ROWS), "offset": (0, 2**31), "before_seq": (1, 2**62)}


def named_queries(text: str) -> dict[str, str]:
    """Split a file of `-- name: …` sections into statements by name."""
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.M)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


QUERIES, SCHEMA = (named_queries((Path(__file__).parent / f"{name}.sql").read_text()) for name in ("queries", "schema"))


#: Queries whose rows are decisions about customers.
PERSONAL = frozenset({"decisions", "outcomes"})


class Filters(TypedDict, total=False):
    """Filters of a named query; an absent filter or None selects all rows.

    `since` and `until` are instants with a zone, both inclusive. `before_seq` selects rows of records before that one:
    the last row's `seq` gives the next page. `decision_id` is for queries about decisions. `limit` (100) is the largest
    number of rows, `offset` (0) the number of rows to skip.
    """

    model: str | None
    release: str | None
    since: datetime | None
    until: datetime | None
    before_seq: int | None
    decision_id: str | None
    limit: int
    offset: int


def complete(name: str, filters: Filters) -> dict[str, Any]:
    """All filters of a query with their values, checked and with defaults.

    Raises:
        UnknownError: there is no such query.
        InvalidError: a value is out of range, an instant has no zone, or the query does not take the filter.
    """
    if name not in QUERIES:
        raise UnknownError(f"there is no query {name!r}; known: {', '.join(QUERIES)}", field="name")
    given: dict[str, Any] = dict.fromkeys(Filters.__annotations__) | {"limit": 100, "offset": 0} | filters
    for field, (least, most) in _RANGES.items():
        if given[field] is not None and not least <= given[field] <= most:
            raise InvalidError(f"{field} is {given[field]}; expected {least} to {most}", field=field)
    for field in ("since", "until"):
        if given[field] is not None and given[field].tzinfo is None:
            raise InvalidError(f"{field} is {given[field]} without a zone; add one, e.g. Z for UTC", field=field)
    for field, value in given.items():
        if value is not None and f"${field}" not in QUERIES[name]:
            raise InvalidError(f"{name} takes no {field}; leave it out", field=field)
    return given


def frame(records: Sequence[Record]) -> pl.DataFrame:
    """Records as the columns of the table `records`, `at` still as text."""
    return pl.DataFrame([values(record) for record in records], schema=_FRAME, orient="row")


def values(record: Record) -> tuple[Any, ...]:
    """A record as a row of `records`, `at` still as text."""
    decision = record["data"].get("decision")
    return (
        record["seq"],
        record["at"],
        record["kind"],
        record["model"],
        record["release"],
        _about(record),
        record["actor"]["name"],
        record["actor"]["role"],
        record["reason"],
        decision if isinstance(decision, str) else None,
        _mentions(record),
        canonical(record["data"]).decode(),
        record["prev"],
    )


def _about(record: Record) -> str | None:
    if record["release"] is not None:
        return str(record["release"])
    for name in ("release", "about"):  # of a measurement; of an alert, which may be about something else
        value = record["data"].get(name)
        if isinstance(value, str) and value.startswith(f"{record['model']}@"):
            return value
    return None


def _mentions(record: Record) -> str | None:
    data = record["data"]
    if record["kind"] == "DecisionsSealed":
        named = list(data.get("releases") or ())
    elif record["kind"] == "RouteApplied":
        named = [data.get("champion"), data.get("challenger")]
    else:
        return None
    return " ".join(["", *(str(name) for name in named if name), ""])


def plain(names: Sequence[str], json_columns: set[str], row: Sequence[Any]) -> dict[str, Any]:
    """A row of an answer as JSON values by column: instants as RFC 3339, bytes as hexadecimal digits."""
    answer = {}
    for name, value in zip(names, row, strict=True):
        if name in json_columns and isinstance(value, str):
            value = orjson.loads(value)
        elif isinstance(value, bytes):
            value = value.hex()
        elif hasattr(value, "isoformat"):
            value = value.isoformat().replace("+00:00", "Z")
        answer[name] = value
    return answer


def batch_of(records: Sequence[Record], start: int) -> list[Record]:
    """The next records, limited in number and bytes so that DuckDB can insert them within its memory limit."""
    batch: list[Record] = []
    size = 0
    while start + len(batch) < len(records) and len(batch) < BULK:
        at = start + len(batch)
        for record in records[at : at + _CHUNK]:
            batch.append(record)
            size += len(orjson.dumps(record["data"]))
            if size >= _BULK_BYTES:
                return batch
    return batch
