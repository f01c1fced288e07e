"""Spool of a replica: append-only files of JSON lines with decisions and outcomes, and their reader.

The writer passes each whole line to the kernel before the reply is sent, so a killed process loses nothing that a
customer has seen. (A power failure may lose the last moments; sealing makes the rest durable.)

Lines contain personal data in the clear, so they are erased once they are sealed. The sealed part of a file that is
still written to is overwritten with line ends, without coordination: the writer only appends. At `rotate_bytes` the
writer begins another file, and the old one is removed once it is sealed to its end.

Each writer numbers its decisions, for each model from 1 and without a gap: the number stands in the line and in the
sealed segment, so that a decision that is removed anywhere is missed by its number (`lineage.completeness`). A number
belongs to a line that was written whole; a line that was not is never read, and its number is given again.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from lineage.errors import UnavailableError

_CHUNK = 8 * 1024 * 1024  # bytes of one file that one read takes at most
_SUFFIX = ".jsonl"
#: Stands between a replica's name and the random end of its writer's name.
SERIES = "~"
_FILE_NUMBERS = itertools.count(1)  # no name is used twice in a process

Record = dict[str, Any]


class Spool:
    """Writer of a replica's spool files.

    Args:
        rotate_bytes: size at which a new file begins.

    Attributes:
        writer: name of this series of numbers: a replica that starts again, under whatever name, begins another.
        counts: number of the last decision by model.
    """

    def __init__(self, folder: Path, replica: str, rotate_bytes: int = _CHUNK) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._replica, self._rotate_bytes = folder, replica, rotate_bytes
        self._size, self._torn = 0, False
        self.writer = f"{replica}{SERIES}{secrets.token_hex(4)}"
        self.counts: dict[str, int] = {}
        self._tail = b',"writer":%b,"number":%%d}\n' % orjson.dumps(self.writer).replace(b"%", b"%%")
        self.path, self._file = self._begin()

    def write(self, record: Record) -> None:
        """Append one line.

        Raises:
            UnavailableError: the line was not written whole; the decision must not be returned.
        """
        if self._size >= self._rotate_bytes:
            self._rotate()
        line, number = orjson.dumps(record), 0
        if record["type"] == "decision":
            number = self.counts.get(record["model"], 0) + 1
            line = line[:-1] + self._tail % number
        else:
            line += b"\n"
        if self._torn:
            line = b"~\n" + line  # ends the torn line, and keeps it from being read even if only its end was lost
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise UnavailableError(f"the decision could not be recorded, so it is not given: {error}") from error
        self._size += written
        self._torn = written != len(line)
        if self._torn:
            raise UnavailableError("the decision could not be recorded, so it is not given: disk full?")
        if number:
            self.counts[record["model"]] = number

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _rotate(self) -> None:
        try:
            path, file = self._begin()
        except OSError:
            return  # if no new file can be created, continue with the present one
        os.close(self._file)  # never written again: the sealer may remove it once the new file exists
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
    """Records read, and their byte ranges: file name -> [from, to)."""

    records: list[Record] = field(default_factory=list)
    ranges: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class SpoolReader:
    """Reader of all spool files from remembered offsets, including files of ended replicas.

    Attributes:
        offsets: file name -> bytes read.
        torn: unreadable lines so far.
        caught_up: whether the last read reached the end of every file.
    """

    folder: Path
    offsets: dict[str, int] = field(default_factory=dict)
    torn: int = 0
    caught_up: bool = True

    def read(self) -> Batch:
        """Read what was written since the last call; an unfinished last line is left for the next call.

        Raises:
            OSError: a file cannot be read.
        """
        batch, unread = Batch(), set[tuple[str, int]]()
        self.caught_up = True
        # A writer's files in their order, and none before the one before it is read to its end: numbers rise without
        # a gap from batch to batch. The list is complete first: where a file is listed, those before it are finished.
        for path in sorted(self.folder.glob(f"*{_SUFFIX}"), key=_writer):
            if _writer(path)[:2] in unread:
                continue
            start = self.offsets.get(path.name, 0)
            end, whole = self._read_file(path, start, None, batch)
            if not whole:
                unread.add(_writer(path)[:2])
            if end > start:
                self.offsets[path.name] = end
                batch.ranges[path.name] = [start, end]
        return batch

    def read_ranges(self, ranges: dict[str, list[int]]) -> Batch:
        """Read exactly these byte ranges again, e.g. to finish an interrupted sealing."""
        batch = Batch(ranges=ranges)
        for name, (start, end) in sorted(ranges.items()):
            if (self.folder / name).exists():  # else it was sealed to its end and removed
                self._read_file(self.folder / name, start, end, batch)
            self.offsets[name] = max(end, self.offsets.get(name, 0))
        return batch

    def _read_file(self, path: Path, start: int, end: int | None, batch: Batch) -> tuple[int, bool]:
        """Offset behind the last whole line that was read, and whether all that the file held was read."""
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(_CHUNK if end is None else end - start)
        to_its_end = len(data) < _CHUNK
        self.caught_up = self.caught_up and to_its_end
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            record = self._parse(line) if line else None
            if record is not None:
                batch.records.append(record)
        return start + len(whole), to_its_end

    def _parse(self, line: bytes) -> Record | None:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            self.torn += 1  # cut off by a full disk: the customer got an error instead of the decision
            return None
        return record if isinstance(record, dict) and record.get("type") in ("decision", "outcome") else None


def spooling_replicas(folder: Path) -> set[str]:
    """Replicas of which there are spool files."""
    return {_writer(path)[0] for path in folder.glob(f"*{_SUFFIX}")}


def overwrite_sealed(folder: Path, sealed: dict[str, int], blanked: dict[str, int]) -> None:
    """Overwrite the sealed part of each file with line ends.

    Only bytes that are never written or read again are overwritten, so a crash leaves later lines intact.

    Args:
        sealed: file name -> sealed bytes.
        blanked: file name -> bytes already overwritten; updated here.

    Raises:
        OSError: a file cannot be written.
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
    """Delete spool files that are sealed to their end and have no writer any more; return their names.

    A file has no writer if its process has ended or has begun another file. A torn last line of an ended process was
    never acknowledged and is deleted with its file.

    Raises:
        OSError: a file cannot be deleted.
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
    """Replica, process id (-1 where absent) and number in a file's name."""
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
