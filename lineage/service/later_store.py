"""The lineage store, opened behind the service: facts are taken and stops obeyed before queries can be answered.

Importing DuckDB and polars and comparing the store with the log took a second of each restart; kill switch and
rollback need none of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import structlog

from lineage.errors import PlimsollError, UnavailableError
from lineage.log.index import Record, Records
from lineage.segments import Missing, Segments

if TYPE_CHECKING:
    from lineage.store.duckdb_store import Store
    from lineage.store.rows import Filters

#: Queries that may wait at a time while the store is opened. The others are refused at once: each holds a thread of the
#: pool that also answers the kill switch.
_MOST_WAITING = 4
log = structlog.get_logger("plimsoll.ledger")


class LaterStore:
    """A lineage store that a thread opens: at the first query, or when `begin` is called.

    Args:
        path: the file of the store.
        records: the whole log.
        decisions: the folder of decision segments.
        segments: reads them.
        seconds: that a query waits for the store to be open.
    """

    def __init__(
        self, path: Path, records: Records, *, decisions: Path, segments: Segments, seconds: float = 10.0
    ) -> None:
        self._path, self._records, self._seconds = path, records, seconds
        self._decisions, self._segments = decisions, segments
        self._turn = threading.Condition()  # guards what follows; held while the last records are taken, else briefly
        self._store: Store | None = None
        self._thread: threading.Thread | None = None
        self._problem: str | None = None
        self._waiting = 0

    @property
    def state(self) -> Literal["open", "opening", "failed"]:
        """Whether queries are answered."""
        with self._turn:
            return "open" if self._store is not None else "failed" if self._problem else "opening"

    def begin(self) -> None:
        """Start opening the store unless it is open or being opened; returns at once."""
        with self._turn:
            self._begin()

    def add(self, record: Record) -> None:
        """As `Store.add`; before the store is open nothing has to be done: it is filled from the log."""
        with self._turn:
            store = self._store
            if store is not None:
                store.add(record)

    def answer(self, name: str, **filters: Unpack[Filters]) -> tuple[list[dict[str, Any]], list[Missing]]:
        """As `Store.answer`.

        Raises:
            UnavailableError: also while the store is not open; `retry_after` in the detail has the seconds.
        """
        return self._opened().answer(name, **filters)

    def count(self) -> int:
        """As `Store.count`."""
        return self._opened().count()

    def flush(self) -> None:
        """As `Store.flush`."""
        self._opened().flush()

    def rebuild(self, records: Records) -> int:
        """As `Store.rebuild`."""
        return self._opened().rebuild(records)

    def close(self) -> None:
        """Close the file, after it was opened if that is under way."""
        thread = self._thread
        if thread is not None:
            thread.join()
        if self._store is not None:
            self._store.close()

    def _begin(self) -> None:
        if self._store is None and self._thread is None:
            self._problem = None
            self._thread = threading.Thread(target=self._open, name="lineage-store", daemon=True)
            self._thread.start()

    def _open(self) -> None:
        from lineage.store.duckdb_store import Store

        try:
            store = Store(self._path, self._records, decisions=self._decisions, segments=self._segments)
            with self._turn:
                for record in self._records[store.count() :]:  # recorded during the filling
                    store.add(record)
                store.flush()
                self._store = store
        except PlimsollError as error:  # the next query tries again; shown by /healthz
            log.error("the lineage store cannot be opened", message=error.message)
            with self._turn:
                self._problem = error.message
        finally:
            with self._turn:
                self._thread = None
                self._turn.notify_all()

    def _opened(self) -> Store:
        with self._turn:
            if self._store is None:
                self._begin()
                with self._place():
                    self._turn.wait_for(lambda: self._thread is None, self._seconds)
            if self._store is not None:
                return self._store
            why = f"cannot be opened: {self._problem}" if self._problem else "is being opened"
        raise UnavailableError(f"the lineage store {why}; try again in a second", field="store", retry_after=1)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A place among those that may wait.

        Raises:
            UnavailableError: there is none.
        """
        if self._waiting >= _MOST_WAITING:
            raise UnavailableError(
                "the lineage store is being opened, and other queries wait for it; try again in a second",
                field="store",
                retry_after=1,
            )
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
