"""Decisions on their way to the record: one append-only file of JSON lines per replica process, and its reader.

The writer hands each whole line to the kernel before the reply leaves: a process that is killed loses nothing that a
customer has seen. (A machine that loses power may lose the last moments; sealing makes the rest durable.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from lineage.errors import UnavailableError

_CHUNK = 8 * 1024 * 1024  # bytes of one file that one reading takes at most
_SUFFIX = ".jsonl"

Record = dict[str, Any]


class Spool:
    """The writer's end: the file of this process."""

    def __init__(self, folder: Path, replica: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{replica}-{os.getpid()}{_SUFFIX}"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, record: Record) -> None:
        """Append one line.

        Raises:
            UnavailableError: the line was not written whole; the decision must not be given.
        """
        line = orjson.dumps(record) + b"\n"
        try:
            written = os.write(self._file, line)
            if written != len(line):
                os.write(self._file, b"\n")  # ends the torn line, so that the next one can be read
                raise UnavailableError("the decision could not be recorded, so it is not given: disk full?")
        except OSError as error:
            raise UnavailableError(f"the decision could not be recorded, so it is not given: {error}") from error

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


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

    def read(self) -> Batch:
        """What was written since the last reading; an unfinished last line waits for the next."""
        batch = Batch()
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
            self._read_file(self.folder / name, start, end, batch)
            self.offsets[name] = max(end, self.offsets.get(name, 0))
        return batch

    def _read_file(self, path: Path, start: int, end: int | None, batch: Batch) -> int:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(_CHUNK if end is None else end - start)
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            record = self._parse(line)
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


def remove_finished(folder: Path, sealed: dict[str, int], is_alive: Callable[[int], bool]) -> list[str]:
    """Delete spool files that are sealed to their end and whose process is gone; return their names."""
    removed = []
    for path in folder.glob(f"*{_SUFFIX}"):
        process = path.stem.rpartition("-")[2]
        if process.isdigit() and not is_alive(int(process)) and sealed.get(path.name) == path.stat().st_size:
            path.unlink()
            removed.append(path.name)
    return removed
