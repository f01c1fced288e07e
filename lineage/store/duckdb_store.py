"""The DuckDB lineage store: a projection of the log, filled in batches, rebuilt when it does not match the log.

The only file that imports duckdb. DuckDB allows one process at a time, so the ledger service alone opens it.

Invariants: the store holds a prefix of the log, each record once, and nothing else; a store that does not match the log
when it is opened is quarantined and rebuilt; a query can read the store and the decision segments, nothing else;
recording never waits for a query.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Unpack

import duckdb

from lineage.errors import InvalidError, RefusedError, UnavailableError
from lineage.segments import Missing, Place, Segments
from lineage.store.rows import BULK, QUERIES, SCHEMA, Filters, batch_of, complete, frame, plain, values

Record = dict[str, Any]
Connection = duckdb.DuckDBPyConnection
_MOST_SEGMENTS, _BATCH = 2_000, 1_000
_UNREADABLE = "its bytes are those on record, but they cannot be read as a segment"
_CONFIG: dict[str, Any] = {
    "threads": 1,
    "memory_limit": "512MB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_persistent_secrets": False,
}


class Store:
    """A lineage store in one file (`:memory:` works too).

    Args:
        records: the whole log; when the store does not hold exactly a prefix of it, the store is rebuilt.
        decisions: the folder of decision segments, `<model>/<segment>.parquet`; without it there are no decisions.
        segments: reader of the segments, if it is shared with others.
        seconds: timeout of a query.

    Raises:
        UnavailableError: the file can neither be used nor rebuilt.
    """

    def __init__(
        self,
        path: Path | str,
        records: Sequence[Record],
        *,
        decisions: Path | None = None,
        segments: Segments | None = None,
        seconds: float = 10.0,
    ) -> None:
        self._queue = threading.Lock()  # guards _waiting; held briefly
        self._using = threading.Lock()  # guards _db and _held: one query or one batch at a time
        self._rebuilding = threading.Lock()
        self._path = Path(path) if path != ":memory:" else None
        self._decisions = decisions.resolve() if decisions else None
        self._segments = segments or (Segments(self._decisions.parent) if self._decisions else None)
        self._seconds = seconds
        self._waiting: list[Record] = []
        with _as_unavailable("cannot be opened"):
            found = self._found(records)
            self.rebuilt = found is None
            self._db = found or self._open(self._path)
            with _closed_on_failure(self._db):
                before = _count(self._db)
                self._held = _fill(self._db, records, before)
            if self._path and self._held - before > BULK:  # rows just inserted read several times slower until reopened
                self._db.close()
                self._db = self._open(self._path)

    def add(self, record: Record) -> None:
        """Queue a record; it is inserted before the next query. Does not wait for a query under way.

        Raises:
            UnavailableError: as `flush`; the record stays queued.
        """
        with self._queue:
            self._waiting.append(record)
            full = len(self._waiting) % _BATCH == 0
        if full and self._using.acquire(blocking=False):
            try:
                self._insert_queued()
            finally:
                self._using.release()

    def flush(self) -> None:
        """Insert the queued records.

        Raises:
            UnavailableError: the store fails or is busy; the records stay queued.
        """
        with self._exclusive():
            self._insert_queued()

    def query(self, name: str, **filters: Unpack[Filters]) -> list[dict[str, Any]]:
        """Rows of a named query, JSON-ready; `filters` as `lineage.store.rows.Filters`. See `answer`."""
        return self.answer(name, **filters)[0]

    def answer(self, name: str, **filters: Unpack[Filters]) -> tuple[list[dict[str, Any]], list[Missing]]:
        """Rows of a named query, and the segments on record that could hold more of them and cannot be used.

        Raises:
            UnknownError: there is no such query.
            InvalidError: a filter is out of range or not for this query, or too many segments would be read.
            UnavailableError: the store fails or times out.
        """
        given = complete(name, filters)
        with self._exclusive():
            self._insert_queued()
            with _as_unavailable(f"cannot answer {name}"), self._cursor(name) as cursor:
                return self._answer(cursor, QUERIES[name], given)

    def count(self) -> int:
        """The number of records in the store.

        Raises:
            UnavailableError: the store fails or is busy.
        """
        with self._exclusive():
            self._insert_queued()
            with _as_unavailable("cannot be counted"):
                return _count(self._db)

    def rebuild(self, records: Sequence[Record]) -> int:
        """Rebuild the store from the log; return its number of records. The old store answers meanwhile.

        Raises:
            RefusedError: a rebuild is under way already.
            UnavailableError: the new store cannot be made.
        """
        if not self._rebuilding.acquire(blocking=False):
            raise RefusedError("the lineage store is being rebuilt already; wait for that", code="under_way")
        try:
            with _as_unavailable("cannot be rebuilt"):
                fresh = _beside(self._path, ".new")
                _remove(fresh)
                db = self._open(fresh)
                with _closed_on_failure(db):
                    held = _fill(db, records, 0)
                    with self._using:
                        held = _fill(db, records, held)  # records added during the first fill
                        self._db, self._held = self._put_in_place(db, fresh), held
                return held
        finally:
            self._rebuilding.release()

    def close(self) -> None:
        """Flush and close the file."""
        with self._using:
            try:
                self._insert_queued()
            finally:
                self._db.close()

    def _found(self, records: Sequence[Record]) -> Connection | None:
        """The existing store; None, after quarantining it, if it cannot be read or does not match the log."""
        mark = _beside(self._path, ".opening")
        db = None
        # The mark remains if DuckDB crashed the process while opening a damaged file: do not open that file again.
        if mark is None or not mark.exists():
            with suppress(duckdb.Error):
                db = self._open(self._path, mark)
                if _matches(db, records):
                    _remove(mark)
                    return db
        if db is not None:
            db.close()
        _quarantine(self._path)
        _remove(mark)
        return None

    def _open(self, path: Path | None, mark: Path | None = None) -> Connection:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        if mark:
            mark.touch()
        # Queries are named and parameterised; these settings limit what a faulty one could reach.
        folders = [str(self._decisions).replace("'", "''")] if self._decisions else []
        settings = ["SET TimeZone = 'UTC'"] + (["SET temp_directory = ''"] if path is None else [])
        settings += [f"SET allowed_directories = ['{folder}']" for folder in folders]
        settings += ["SET enable_external_access = false", "SET lock_configuration = true"]
        db = duckdb.connect(str(path or ":memory:"), config=_CONFIG)
        with _closed_on_failure(db):
            for statement in (*settings, "BEGIN", SCHEMA["tables"], SCHEMA["views"], "COMMIT"):
                _run(db, statement)
        return db

    def _put_in_place(self, db: Connection, fresh: Path | None) -> Connection:
        with suppress(duckdb.Error):  # a damaged store may fail to close
            self._db.close()
        if fresh is None or self._path is None:
            return db
        db.close()
        _remove(_beside(self._path, ".wal"))
        fresh.replace(self._path)
        return self._open(self._path)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if not self._using.acquire(timeout=self._seconds):
            raise UnavailableError("the lineage store is busy with other queries; try again", field="store")
        try:
            yield
        finally:
            self._using.release()

    def _insert_queued(self) -> None:
        with self._queue:
            queued = list(self._waiting)
        with _as_unavailable("takes nothing"):
            fresh = [record for record in queued if record["seq"] > self._held]
            taken = 0
            while batch := batch_of(fresh, taken):
                self._held = _insert(self._db, batch, self._held)
                taken += len(batch)
        with self._queue:
            del self._waiting[: len(queued)]

    @contextmanager
    def _cursor(self, name: str) -> Iterator[Connection]:
        """A connection for one query; the query is interrupted at the timeout."""
        cursor = self._db.cursor()
        timer = threading.Timer(self._seconds, cursor.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield cursor
        except duckdb.InterruptException as error:
            why = f"query {name} was stopped after {self._seconds:g} s"
            raise UnavailableError(f"{why}; ask for a model, a release or a shorter time", field="store") from error
        finally:
            timer.cancel()
            timer.join()  # it must not interrupt a closed connection
            cursor.close()

    def _answer(
        self, cursor: Connection, sql: str, given: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], list[Missing]]:
        if not re.search(r"\bFROM decisions\b", sql):
            return _rows(cursor, sql, given), []
        places, missing = self._places(cursor, given)
        try:
            return self._decided(cursor, sql, given, places), missing
        except duckdb.InterruptException:
            raise
        except duckdb.Error:  # one of the files may have the right digest and no readable content
            readable = [place for place in places if self._is_readable(cursor, place)]
            if len(readable) == len(places) or self._segments is None:
                raise
            refused = [self._segments.refuse(place, _UNREADABLE) for place in places if place not in readable]
            return self._decided(cursor, sql, given, readable), [*missing, *refused]

    def _decided(
        self, cursor: Connection, sql: str, given: dict[str, Any], places: list[Place]
    ) -> list[dict[str, Any]]:
        """Rows of a query about decisions, out of these segments."""
        cte = SCHEMA["decisions"] if places else "SELECT * FROM no_decisions"
        return _rows(cursor, f"WITH decisions AS ({cte})\n{sql}", given | self._read_from(places))

    def _read_from(self, places: list[Place]) -> dict[str, Any]:
        paths = [str(self._segments.path(place)) for place in places] if self._segments else []
        return {"files": paths, "sealed_in": [place.record for place in places]}

    def _is_readable(self, cursor: Connection, place: Place) -> bool:
        """Whether every value of the segment that a query may read can be read."""
        sql = f"SELECT max(hash(d)) FROM ({SCHEMA['decisions']}) d"  # noqa: S608  no value of anybody
        try:
            _run(cursor, sql, self._read_from([place]))
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            return False
        return True

    def _places(self, cursor: Connection, given: dict[str, Any]) -> tuple[list[Place], list[Missing]]:
        """Segments on record that may hold rows for the filters: those that can be used, and those that cannot.

        Raises:
            InvalidError: too many.
        """
        if self._segments is None:
            return [], []
        sql = SCHEMA["segments_to_read"]
        found = _run(cursor, sql, _used(sql, given | {"limit": _MOST_SEGMENTS + 1}))
        if len(found) > _MOST_SEGMENTS:
            raise InvalidError(
                f"more than {_MOST_SEGMENTS:,} segments would be read; name a model and a shorter time", field="since"
            )
        return self._segments.usable(Place(*row) for row in found)


def _rows(cursor: Connection, sql: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    if [statement.type for statement in cursor.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
        raise RefusedError("a query is one SELECT statement and changes nothing", code="not_a_query")
    cursor.execute(sql, _used(sql, given))
    described = cursor.description or []
    names = [column[0] for column in described]
    json_columns = {column[0] for column in described if str(column[1]) == "JSON"}
    return [plain(names, json_columns, row) for row in cursor.fetchall()]


@contextmanager
def _as_unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        hint = "if it is damaged, `plimsoll audit rebuild` makes it again from the log"
        raise UnavailableError(f"the lineage store {what}: {error}; {hint}", field="store") from error


@contextmanager
def _closed_on_failure(db: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        db.close()  # DuckDB would reuse an open file in place of its replacement
        raise


def _run(db: Connection, sql: str, given: dict[str, Any] | None = None) -> list[Any]:
    """Execute and fetch the whole result: a connection with an open result refuses further statements."""
    return db.execute(sql, given).fetchall()


def _used(sql: str, given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if f"${name}" in sql}


def _count(db: Connection) -> int:
    return int(_run(db, "SELECT count(*) FROM records")[0][0])


def _matches(db: Connection, records: Sequence[Record]) -> bool:
    """Whether the store holds a prefix of the log: no damaged row, and the last row of every block as in the log."""
    if _run(db, SCHEMA["strangers"]) or _run(db, SCHEMA["changed"]) != [(0,)]:
        return False
    if _count(db) > len(records):
        return False
    ends = _run(db, SCHEMA["ends"])
    return ends == [values(records[row[0] - 1]) for row in ends]


def _fill(db: Connection, records: Sequence[Record], held: int) -> int:
    """Insert the records of the log after the first `held`, one batch in memory at a time; return their number."""
    while batch := batch_of(records, held):
        held = _insert(db, batch, held)
    return held


def _insert(db: Connection, records: Sequence[Record], held: int) -> int:
    if not records:
        return held
    if records[0]["seq"] != held + 1:
        raise UnavailableError(f"the lineage store holds {held} records; record {records[0]['seq']} is not the next")
    db.register("incoming", frame(records))
    _run(db, "BEGIN")
    try:
        _run(db, SCHEMA["take"])
        _run(db, SCHEMA["add_up"], {"held": held})
        _run(db, "COMMIT")
    except duckdb.Error:
        with suppress(duckdb.Error):  # the first error is the one to raise
            _run(db, "ROLLBACK")
        raise
    finally:
        db.unregister("incoming")
    return held + len(records)


def _beside(path: Path | None, suffix: str) -> Path | None:
    return path.with_name(path.name + suffix) if path else None


def _remove(path: Path | None) -> None:
    for each in (path, _beside(path, ".wal")):
        if each is not None:
            each.unlink(missing_ok=True)


def _quarantine(path: Path | None) -> None:
    for each in (path, _beside(path, ".wal")):
        if each is not None and each.exists():
            each.replace(each.with_name(each.name + ".quarantine"))
