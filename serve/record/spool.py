"""Decisions on their way to the record: append-only files of JSON lines, one at a time a replica, and their reader.

The writer hands each whole line to the kernel before the reply leaves: a process that is killed loses nothing that a
customer has seen. (A machine that loses power may lose the last moments; sealing makes the rest durable.)

Lines name people in the clear, so they go once they are sealed. The sealed part of a file that is still written to is
overwritten with line ends, which needs no word with the writer: it only appends. When a file has grown the writer
begins another, and the old one is removed once it is sealed to its end.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from lineage.errors import UnavailableError

_CHUNK = 8 * 1024 * 1024  # bytes of one file that one reading takes at most
_SUFFIX = ".jsonl"
_FILE_NUMBERS = itertools.count(1)  # no name is used twice in a process

Record = dict[str, Any]


class Spool:
    """The writer's end; the newest spool of a replica is the one that writes.

    Args:
        rotate_bytes: a new file begins once the present one has reached this size.
    """

    def __init__(self, folder: Path, replica: str, rotate_bytes: int = _CHUNK) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._replica, self._rotate_bytes = folder, replica, rotate_bytes
        self._size, self._torn = 0, False
        self.path, self._file = self._begin()

    def write(self, record: Record) -> None:
        """Append one line.

        Raises:
            UnavailableError: the line was not written whole; the decision must not be given.
        """
        if self._size >= self._rotate_bytes:
            self._rotate()
        line = orjson.dumps(record) + b"\n"
        if self._torn:
            line = b"\n" + line  # ends the torn line, so that this one can be read
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise UnavailableError(f"the decision could not be recorded, so it is not given: {error}") from error
        self._size += written
        self._torn = written != len(line)
        if self._torn:
            raise UnavailableError("the decision could not be recorded, so it is not given: disk full?")

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def _rotate(self) -> None:
        try:
            path, file = self._begin()
        except OSError:
            return  # where no new file can be made, the present one goes on
        os.close(self._file)  # never written to again: whoever sees the new file may remove this one
        self.path, self._file, self._size, self._torn = path, file, 0, False

    def _begin(self) -> tuple[Path, int]:
        while True:
            path = self._folder / f"{self._replica}-{os.getpid()}.{next(_FILE_NUMBERS)}{_SUFFIX}"
            try:
                return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            except FileExistsError:
                continue  # of an earlier process with the same number


@dataclass
class Batch:
    """Records read, and where in each file they came from: file name -> [from, to) in bytes."""

    records: list[Record] = field(default_factory=list)
    ranges: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class SpoolReader:
    """The reader's end: tails every spool file from remembered offsets, also those of replicas that are gone."""

    folder: Path
    offsets: dict[str, int] = field(default_factory=dict)
    torn: int = 0
    caught_up: bool = True

    def read(self) -> Batch:
        """What was written since the last reading; an unfinished last line waits for the next.

        `caught_up` tells whether that was everything, or a file is too long to be read at once.
        """
        batch = Batch()
        self.caught_up = True
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            start = self.offsets.get(path.name, 0)
            end = self._read_file(path, start, None, batch)
            if end > start:
                self.offsets[path.name] = end
                batch.ranges[path.name] = [start, end]
        return batch

    def read_ranges(self, ranges: dict[str, list[int]]) -> Batch:
        """Read exactly these parts again, e.g. to finish a sealing that was cut short."""
        batch = Batch(ranges=ranges)
        for name, (start, end) in sorted(ranges.items()):
            if (self.folder / name).exists():  # else it was sealed to its end and removed
                self._read_file(self.folder / name, start, end, batch)
            self.offsets[name] = max(end, self.offsets.get(name, 0))
        return batch

    def _read_file(self, path: Path, start: int, end: int | None, batch: Batch) -> int:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(_CHUNK if end is None else end - start)
        self.caught_up = self.caught_up and len(data) < _CHUNK
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            record = self._parse(line) if line else None
            if record is not None:
                batch.records.append(record)
        return start + len(whole)

    def _parse(self, line: bytes) -> Record | None:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            self.torn += 1  # cut off by a full disk: the customer got an error, not a decision
            return None
        return record if isinstance(record, dict) and record.get("type") in ("decision", "outcome") else None


def overwrite_sealed(folder: Path, sealed: dict[str, int], blanked: dict[str, int]) -> None:
    """Overwrite what is sealed, of each file up to the offset in `sealed`; `blanked` remembers how far that was done.

    Line ends are written, and only over bytes that nobody writes or reads any more: whoever is killed meanwhile, here
    or there, leaves every later line as it is.
    """
    for name, end in sealed.items():
        start = blanked.get(name, 0)
        if end <= start or not (folder / name).exists():
            continue
        file = os.open(folder / name, os.O_WRONLY)
        try:
            for offset in range(start, end, _CHUNK):
                os.pwrite(file, b"\n" * min(_CHUNK, end - offset), offset)
            os.fdatasync(file)
        finally:
            os.close(file)
        blanked[name] = end


def remove_finished(folder: Path, sealed: dict[str, int], is_alive: Callable[[int], bool]) -> list[str]:
    """Delete spool files that are sealed to their end and that nobody writes to any more; return their names.

    Nobody does where the process is gone, or where it has begun another file. A torn last line of a process that is
    gone was never acknowledged and goes with its file.
    """
    files = [(path, *_writer(path)) for path in folder.glob(f"*{_SUFFIX}")]
    newest: dict[tuple[str, int], int] = {}
    for _, replica, process, turn in files:
        newest[replica, process] = max(turn, newest.get((replica, process), 0))
    removed = []
    for path, replica, process, turn in files:
        gone = process >= 0 and not is_alive(process)
        left = turn < newest[replica, process]
        if (gone or left) and _is_sealed(path, sealed.get(path.name, 0), torn=gone):
            path.unlink()
            removed.append(path.name)
    return removed


def _writer(path: Path) -> tuple[str, int, int]:
    """Replica, process (-1 where the name says none) and turn in a file's name."""
    replica, _, rest = path.stem.rpartition("-")
    process, _, turn = rest.partition(".")
    return replica, int(process) if process.isdigit() else -1, int(turn) if turn.isdigit() else 0


def _is_sealed(path: Path, end: int, *, torn: bool) -> bool:
    if path.stat().st_size == end:
        return True
    if not torn:
        return False
    with path.open("rb") as file:
        file.seek(end)
        return b"\n" not in file.read()
