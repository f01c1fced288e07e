"""The append-only log: segment files of one JSON record a line, chained by hash, on disk before acknowledgement.

Invariants:
- a record's line is never rewritten; its hash is taken of the bytes as stored;
- every line names the hash of the line before it (`prev`); the first names 64 zeros;
- `append` returns after fsync; when fsync fails the log takes nothing more until it is opened again;
- what was acknowledged is noted in the head (see `lineage.chain`), so that a shortened log is known for one;
- a last line without its newline is a crash, not tampering: it was never acknowledged and is cut on opening;
- one process at a time: a second one is refused.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lineage.chain import HEAD, ZERO, chain, head_text, line_hash, segments
from lineage.digest import canonical
from lineage.errors import RefusedError, UnavailableError

SEGMENT_BYTES = 64 * 1024 * 1024
_CLOSED = "it was closed"


class Log:
    """The one writer of a log folder.

    Args:
        folder: made when missing.
        segment_bytes: a new segment begins once the current one has reached this size.

    Raises:
        RefusedError: another process has the folder open.
        TamperedError: the chain is broken; `plimsoll audit verify` names the record.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        self.torn_bytes = 0
        self.seq, self.head = 0, ZERO
        self._broken: str | None = None
        self._head_file = os.open(folder / HEAD, os.O_WRONLY | os.O_CREAT, 0o600)
        self._file: int | None = None
        self._size = 0

    def replay(self) -> Iterator[dict[str, Any]]:
        """Read every record, checking the chain; must be exhausted once before the first append."""
        for record, digest in chain(self.folder):
            self.seq, self.head = record["seq"], digest
            yield record
        self.torn_bytes = _cut_torn_tail(self.folder)  # only now: of a log that was changed nothing is cut
        self._note_head()
        os.fsync(self._head_file)
        _sync_folder(self.folder)

    def append(self, record: dict[str, Any]) -> dict[str, Any]:
        """Number, chain and store one record; return it as stored.

        Raises:
            UnavailableError: the disk did not take it. Nothing was acknowledged.
        """
        if self._broken:
            raise UnavailableError(f"the log takes no records since {self._broken}; restart the ledger service")
        stored = record | {"seq": self.seq + 1, "prev": self.head}
        line = canonical(stored)
        descriptor = self._segment(len(line) + 1)
        before = self._size
        try:
            _write_all(descriptor, line + b"\n")
        except OSError as error:
            # A short write leaves half a line that was never acknowledged: take it back, then go on refusing or not.
            self._take_back(descriptor, before)
            raise UnavailableError(f"the record could not be written: {error.strerror}. Nothing was stored") from error
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            # After a failed fsync the kernel may have dropped the pages and forgotten: never try again and carry on.
            self._broken = f"a flush to disk failed ({error.strerror})"
            self._take_back(descriptor, before)
            raise UnavailableError(f"the record could not be made durable: {error.strerror}") from error
        self._size = before + len(line) + 1
        self.seq, self.head = stored["seq"], line_hash(line)
        self._note_head()
        return stored

    def _note_head(self) -> None:
        # Not flushed: after a crash of the machine it may lag behind the log, never run ahead of it.
        try:
            os.pwrite(self._head_file, head_text(self.seq, self.head), 0)
        except OSError as error:
            self._broken = f"the head could not be noted ({error.strerror})"

    def _take_back(self, descriptor: int, size: int) -> None:
        try:
            os.ftruncate(descriptor, size)
        except OSError as error:
            self._broken = f"a half-written record could not be taken back ({error.strerror})"

    def _segment(self, more: int) -> int:
        if self._file is not None and self._size + more <= self._segment_bytes:
            return self._file
        self._close_segment()
        try:
            existing = segments(self.folder)
            path = existing[-1] if existing else None
            if path is None or path.stat().st_size + more > self._segment_bytes:
                path = self.folder / f"{self.seq + 1:012d}.jsonl"
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._size = path.stat().st_size
            _sync_folder(self.folder)
        except OSError as error:
            self._close_segment()
            raise UnavailableError(f"no segment can be opened: {error.strerror}. Nothing was stored") from error
        return self._file

    def _close_segment(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def close(self) -> None:
        """Release the folder; the log takes nothing more."""
        if self._broken == _CLOSED:
            return
        self._broken = _CLOSED
        self._close_segment()
        os.close(self._head_file)
        os.close(self._lock)


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise RefusedError(
            f"another ledger service has {folder} open; stop it (`plimsoll down`) or choose another PLIMSOLL_HOME",
            code="already_open",
        ) from error
    return descriptor


def _cut_torn_tail(folder: Path) -> int:
    existing = segments(folder)
    if not existing:
        return 0
    data = existing[-1].read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(existing[-1], whole)
    return len(data) - whole


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
