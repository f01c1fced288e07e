"""The DuckDB lineage store: a projection of the log, fed in batches, rebuilt whenever it does not match.

The only file that imports duckdb. DuckDB takes one process at a time, so the ledger service alone opens it.

Invariants: the store holds the first records of the log, each once, and nothing else; what does not match the log when
it is opened is put aside and made anew; a query can read the store and the decision segments and reaches nothing else;
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
from lineage.store.rows import BULK, QUERIES, SCHEMA, Filters, batch_of, complete, frame, plain, values

Record = dict[str, Any]
Connection = duckdb.DuckDBPyConnection
_MOST_SEGMENTS, _BATCH = 2_000, 1_000
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
        seconds: a query that takes longer is stopped.

    Raises:
        UnavailableError: the file can neither be used nor made anew.
    """

    def __init__(
        self, path: Path | str, records: Sequence[Record], *, decisions: Path | None = None, seconds: float = 10.0
    ) -> None:
        self._queue = threading.Lock()  # guards _waiting, never held for long
        self._using = threading.Lock()  # guards _db and _held: one query or one batch at a time
        self._rebuilding = threading.Lock()
        self._path = Path(path) if path != ":memory:" else None
        self._decisions = decisions.resolve() if decisions else None
        self._seconds = seconds
        self._waiting: list[Record] = []
        with _told("cannot be opened"):
            found = self._found(records)
            self.rebuilt = found is None
            self._db = found or self._open(self._path)
            with _closed_on_failure(self._db):
                before = _count(self._db)
                self._held = _fill(self._db, records, before)
            if self._path and self._held - before > BULK:  # what was just put in reads several times slower
                self._db.close()
                self._db = self._open(self._path)

    def add(self, record: Record) -> None:
        """Queue a record; it is in the store before the next query answers. Waits for no query.

        Raises:
            UnavailableError: as `flush`; the record stays queued.
        """
        with self._queue:
            self._waiting.append(record)
            full = len(self._waiting) % _BATCH == 0
        if full and self._using.acquire(blocking=False):
            try:
                self._take_queued()
            finally:
                self._using.release()

    def flush(self) -> None:
        """Bring queued records in.

        Raises:
            UnavailableError: the store does not take them; they stay queued.
        """
        with self._turn():
            self._take_queued()

    def query(self, name: str, **asked: Unpack[Filters]) -> list[dict[str, Any]]:
        """Rows of a named query, JSON-ready; `asked` as `lineage.store.rows.Filters`.

        Raises:
            UnknownError: there is no such query.
            InvalidError: a filter is out of range or not for this query, or too many segments would be read.
            UnavailableError: the store cannot answer, not in time, or a segment on record is not on disk.
        """
        given = complete(name, asked)
        with self._turn():
            self._take_queued()
            with _told(f"cannot answer {name}"), self._cursor(name) as cursor:
                return self._answer(cursor, QUERIES[name], given)

    def count(self) -> int:
        """Records in the store.

        Raises:
            UnavailableError: the store cannot answer.
        """
        with self._turn():
            self._take_queued()
            with _told("cannot be counted"):
                return _count(self._db)

    def rebuild(self, records: Sequence[Record]) -> int:
        """Make the store anew from the log and return how many records it holds. The old one answers meanwhile.

        Raises:
            RefusedError: a rebuild is under way.
            UnavailableError: the new one cannot be made.
        """
        if not self._rebuilding.acquire(blocking=False):
            raise RefusedError("the lineage store is being rebuilt already; wait for that", code="under_way")
        try:
            with _told("cannot be rebuilt"):
                fresh = _beside(self._path, ".new")
                _remove(fresh)
                db = self._open(fresh)
                with _closed_on_failure(db):
                    held = _fill(db, records, 0)
                    with self._using:
                        held = _fill(db, records, held)  # what was recorded meanwhile
                        self._db, self._held = self._put_in_place(db, fresh), held
                return held
        finally:
            self._rebuilding.release()

    def close(self) -> None:
        """Flush and close the file."""
        with self._using:
            try:
                self._take_queued()
            finally:
                self._db.close()

    def _found(self, records: Sequence[Record]) -> Connection | None:
        """The store that is there; None, and put aside, where it cannot be read or holds other rows than the log."""
        mark = _beside(self._path, ".opening")
        db = None
        # Damage that ended the process while DuckDB read it would end it again at every start.
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
        # Queries are named and parameterised; what a mistake in one could still reach is locked away.
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
        with suppress(duckdb.Error):  # a broken one cannot be closed in good order
            self._db.close()
        if fresh is None or self._path is None:
            return db
        db.close()
        _remove(_beside(self._path, ".wal"))
        fresh.replace(self._path)
        return self._open(self._path)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._using.acquire(timeout=self._seconds):
            raise UnavailableError("the lineage store is busy with other queries; try again", field="store")
        try:
            yield
        finally:
            self._using.release()

    def _take_queued(self) -> None:
        with self._queue:
            queued = list(self._waiting)
        with _told("takes nothing"):
            fresh = [record for record in queued if record["seq"] > self._held]
            taken = 0
            while batch := batch_of(fresh, taken):
                self._held = _insert(self._db, batch, self._held)
                taken += len(batch)
        with self._queue:
            del self._waiting[: len(queued)]

    @contextmanager
    def _cursor(self, name: str) -> Iterator[Connection]:
        """A connection for one query, which is interrupted when it takes too long."""
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
            timer.join()  # it must not interrupt what is no longer there
            cursor.close()

    def _answer(self, cursor: Connection, sql: str, given: dict[str, Any]) -> list[dict[str, Any]]:
        if re.search(r"\bFROM decisions\b", sql):
            files = self._files(cursor, given)
            given = given | {"files": files}
            told = SCHEMA["decisions"] if files else "SELECT * FROM no_decisions"
            sql = f"WITH decisions AS ({told})\n{sql}"
        if [statement.type for statement in cursor.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
            raise RefusedError("a query is one SELECT statement and changes nothing", code="not_a_query")
        cursor.execute(sql, _used(sql, given))
        described = cursor.description or []
        names = [column[0] for column in described]
        json_columns = {column[0] for column in described if str(column[1]) == "JSON"}
        return [plain(names, json_columns, row) for row in cursor.fetchall()]

    def _files(self, cursor: Connection, given: dict[str, Any]) -> list[str]:
        """The segments on record that may hold what is asked for.

        Raises:
            InvalidError: too many.
            UnavailableError: one of them is not on disk.
        """
        if self._decisions is None:
            return []
        sql = SCHEMA["segments_to_read"]
        found = _run(cursor, sql, _used(sql, given | {"limit": _MOST_SEGMENTS + 1}))
        if len(found) > _MOST_SEGMENTS:
            raise InvalidError(
                f"more than {_MOST_SEGMENTS:,} segments would be read; name a model and a shorter time", field="since"
            )
        files = [self._decisions / str(model) / f"{segment}.parquet" for model, segment in found]
        gone = [path.stem for path in files if not path.is_file()]
        if gone:
            raise UnavailableError(
                f"decision segment {gone[0]} is on record but not on disk; `plimsoll audit verify` tells which are",
                field="segment",
            )
        return [str(path) for path in files]


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        hint = "where it is damaged, `plimsoll audit rebuild` makes it anew from the log"
        raise UnavailableError(f"the lineage store {what}: {error}; {hint}", field="store") from error


@contextmanager
def _closed_on_failure(db: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        db.close()  # a file that stays open would be found again in place of what is put there next
        raise


def _run(db: Connection, sql: str, given: dict[str, Any] | None = None) -> list[Any]:
    """Execute and take the whole result: a connection with an open one refuses further work."""
    return db.execute(sql, given).fetchall()


def _used(sql: str, given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if f"${name}" in sql}


def _count(db: Connection) -> int:
    return int(_run(db, "SELECT count(*) FROM records")[0][0])


def _matches(db: Connection, records: Sequence[Record]) -> bool:
    """Whether the store holds a prefix of the log: no row damaged, and the last of every block as the log has it."""
    if _run(db, SCHEMA["strangers"]) or _run(db, SCHEMA["changed"]) != [(0,)]:
        return False
    if _count(db) > len(records):
        return False
    ends = _run(db, SCHEMA["ends"])
    return ends == [values(records[row[0] - 1]) for row in ends]


def _fill(db: Connection, records: Sequence[Record], held: int) -> int:
    """Bring in what the log has behind the first `held` records, one batch after the other in memory."""
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
        with suppress(duckdb.Error):  # what is told is why it failed
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
