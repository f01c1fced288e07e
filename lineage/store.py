"""The DuckDB lineage store: a projection of the log, fed in batches, rebuilt whenever it does not match.

The only file that imports duckdb. DuckDB takes one process at a time, so the ledger service alone opens it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import orjson

from lineage.errors import InvalidError, UnavailableError, UnknownError

Record = dict[str, Any]
_HERE = Path(__file__).parent
_MOST_ROWS = 10_000
_BATCH = 1_000
_COLUMNS = ("seq", "at", "kind", "model", "release", "actor", "role", "reason", "data", "prev")


def named_queries(text: str) -> dict[str, str]:
    """Split a file of `-- name: …` sections into statements by name."""
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.M)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


QUERIES = named_queries((_HERE / "queries.sql").read_text())


class Store:
    """A lineage store in one file (`:memory:` works too).

    Args:
        records: the whole log; when the store does not hold exactly a prefix of it, the store is rebuilt.
    """

    def __init__(self, path: Path | str, records: Sequence[Record]) -> None:
        self._lock = threading.Lock()
        self._path = Path(path) if path != ":memory:" else None
        self._waiting: list[Record] = []
        self.rebuilt = False
        try:
            self._db = self._open()
            held = self._held(records)
        except duckdb.Error:
            held = None  # unreadable: quarantine it and make a new one, the log is the truth
        if held is None:
            self._quarantine()
            self._db = self._open()
            held, self.rebuilt = 0, True
        self._insert(records[held:])

    def add(self, record: Record) -> None:
        """Queue a record; it is in the store before the next query answers.

        Raises:
            UnavailableError: as `flush`; the record stays queued.
        """
        with self._lock:
            self._waiting.append(record)
            full = len(self._waiting) % _BATCH == 0
        if full:
            self.flush()

    def flush(self) -> None:
        """Bring queued records in, in one transaction.

        Raises:
            UnavailableError: the store does not take them; they stay queued.
        """
        with self._lock:
            try:
                self._insert(self._waiting)
            except duckdb.Error as error:
                raise UnavailableError(f"the lineage store takes nothing: {error}", field="store") from error
            self._waiting = []

    def query(
        self, name: str, *, model: str | None = None, release: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Rows of a named query, JSON-ready.

        Raises:
            UnknownError: there is no such query.
            InvalidError: limit is outside 1 to 10,000.
            UnavailableError: the store cannot answer.
        """
        if name not in QUERIES:
            raise UnknownError(f"there is no query {name!r}; known: {', '.join(QUERIES)}", field="name")
        if not 1 <= limit <= _MOST_ROWS:
            raise InvalidError(f"limit is {limit}; expected 1 to {_MOST_ROWS}", field="limit")
        self.flush()
        with self._lock:
            given = {"model": model, "release": release, "limit": limit}
            used = {key: value for key, value in given.items() if f"${key}" in QUERIES[name]}
            try:
                cursor = self._db.execute(QUERIES[name], used)
                rows = cursor.fetchall()
            except duckdb.Error as error:
                raise UnavailableError(f"query {name} failed: {error}", field="store") from error
            names = [column[0] for column in cursor.description or ()]
            json_columns = {column[0] for column in cursor.description or () if str(column[1]) == "JSON"}
            return [_row(names, json_columns, row) for row in rows]

    def count(self) -> int:
        """Records in the store."""
        self.flush()
        with self._lock:
            return self._count()

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        with self._lock:
            self._db.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        # Queries are named and parameterised; what a mistake in one could still reach is locked away.
        config: dict[str, Any] = {"autoinstall_known_extensions": False, "threads": 1, "memory_limit": "512MB"}
        db = duckdb.connect(str(self._path or ":memory:"), config=config)
        db.execute("SET TimeZone = 'UTC'")
        db.execute("SET enable_external_access = false")
        db.execute("SET lock_configuration = true")
        db.execute((_HERE / "schema.sql").read_text())
        return db

    def _held(self, records: Sequence[Record]) -> int | None:
        count = self._count()
        if count == 0:
            return 0
        last = self._db.execute("SELECT seq, prev FROM records ORDER BY seq DESC LIMIT 1").fetchone()
        if count > len(records) or last != (count, records[count - 1]["prev"]):
            self._db.close()
            return None
        return count

    def _count(self) -> int:
        row = self._db.execute("SELECT count(*) FROM records").fetchone()
        return int(row[0]) if row else 0

    def _quarantine(self) -> None:
        if self._path:
            for path in (self._path, self._path.with_name(self._path.name + ".wal")):
                if path.exists():
                    path.replace(path.with_name(path.name + ".quarantine"))

    def _insert(self, records: Iterable[Record]) -> None:
        rows = [_values(record) for record in records]
        if not rows:
            return
        marks = ", ".join("?" * len(_COLUMNS))
        self._db.execute("BEGIN")
        try:
            self._db.executemany(f"INSERT INTO records VALUES ({marks})", rows)  # noqa: S608  only question marks
            self._db.execute("COMMIT")
        except duckdb.Error:
            self._db.execute("ROLLBACK")
            raise


def _values(record: Record) -> list[Any]:
    flat = record | {
        "actor": record["actor"]["name"],
        "role": record["actor"]["role"],
        "data": orjson.dumps(record["data"]).decode(),
    }
    return [flat[name] for name in _COLUMNS]


def _row(names: list[str], json_columns: set[str], row: tuple[Any, ...]) -> dict[str, Any]:
    values = {}
    for name, value in zip(names, row, strict=True):
        if name in json_columns and isinstance(value, str):
            value = orjson.loads(value)
        elif hasattr(value, "isoformat"):
            value = value.isoformat().replace("+00:00", "Z")
        values[name] = value
    return values
