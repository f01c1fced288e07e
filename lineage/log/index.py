"""Index of the durable records by number, kind, model, release and actor: 40 bytes per record, the rest on disk."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import orjson

from lineage.log.reader import Entry

Record = dict[str, Any]
_RECENT, _RECENT_BYTES = 4_096, 16 * 1024
_CHUNK = 2_048


class _Column:
    """A growing column of integers; views handed out earlier stay valid."""

    def __init__(self, kind: Any) -> None:
        self._values = np.zeros(1_024, kind)
        self._count = 0

    def add(self, value: int) -> None:
        if self._count == len(self._values):
            self._values = np.concatenate([self._values, np.zeros_like(self._values)])
        self._values[self._count] = value
        self._count += 1

    def upto(self, count: int) -> npt.NDArray[Any]:
        return self._values[:count]


class _Codes(_Column):
    """A column of texts coded as integers; 0 is None."""

    def __init__(self) -> None:
        super().__init__(np.uint32)
        self._codes: dict[str | None, int] = {None: 0}

    def take(self, value: str | None) -> None:
        self.add(self._codes.setdefault(value, len(self._codes)))

    def code(self, value: str) -> int | None:
        return self._codes.get(value)


@dataclass(frozen=True)
class Page:
    """A page of matching records, and the number of all matches."""

    records: list[Record]
    total: int


class Records(Sequence[Record]):
    """The durable records; `records[i]` has `seq == i + 1`. Threads see a record once it is published."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}
        self._paths: list[Path] = []
        self._segment, self._offset, self._length = _Column(np.uint32), _Column(np.uint64), _Column(np.uint32)
        self._columns = {name: _Codes() for name in ("kind", "model", "release", "actor")}
        self._recent: OrderedDict[int, Record] = OrderedDict()
        self._lock = threading.Lock()
        self._count = 0

    def publish(self, entries: Sequence[Entry]) -> None:
        """Add the next records, in order; they have to be durable."""
        with self._lock:
            for entry in entries:
                self._note(entry)
        self._count += len(entries)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self._read(number) for number in range(*index.indices(self._count))]
        number = index + self._count if index < 0 else index
        if not 0 <= number < self._count:
            raise IndexError(f"there is no record {index + 1} among {self._count}")
        return self._read(number)

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, self._count, _CHUNK):
            yield from self[start : start + _CHUNK]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]

    def line(self, seq: int) -> bytes:
        """The stored line of record `seq`, counted from 1, without its newline."""
        return self._bytes(seq - 1)

    def find(
        self,
        *,
        after: int = 0,
        upto: int | None = None,
        kinds: Sequence[str] | None = None,
        newest_first: bool = False,
        offset: int = 0,
        limit: int | None = None,
        **equal: str | None,
    ) -> Page:
        """Records with `after < seq <= upto` that match; `equal` takes model, release and actor (None: any)."""
        numbers = self.numbers(after=after, upto=upto, kinds=kinds, **equal)
        ordered = numbers[::-1] if newest_first else numbers
        end = None if limit is None else offset + limit
        return Page([self._read(int(number)) for number in ordered[offset:end]], len(numbers))

    def numbers(
        self, *, after: int = 0, upto: int | None = None, kinds: Sequence[str] | None = None, **equal: str | None
    ) -> npt.NDArray[Any]:
        """Indices (from 0, rising) of the records that match, as `find`."""
        count = self._count if upto is None else min(upto, self._count)
        if after >= count:
            return np.zeros(0, np.int64)
        wanted = {name: value for name, value in equal.items() if value is not None}
        matches: npt.NDArray[Any] | None = None
        for name, value in wanted.items():
            matches = _both(matches, self._columns[name].upto(count)[after:] == self._code(name, value))
        if kinds is not None:
            codes = [self._code("kind", kind) for kind in kinds]
            matches = _both(matches, np.isin(self._columns["kind"].upto(count)[after:], codes))
        return np.arange(after, count) if matches is None else np.flatnonzero(matches) + after

    def close(self) -> None:
        """Close the segment files."""
        with self._lock:
            for descriptor in self._files.values():
                os.close(descriptor)
            self._files.clear()

    def _code(self, name: str, value: str) -> int:
        code = self._columns[name].code(value)
        return np.iinfo(np.uint32).max if code is None else code

    def _note(self, entry: Entry) -> None:
        record, line = entry.record, entry.line
        if not self._paths or self._paths[-1] != line.segment:
            self._paths.append(line.segment)
        self._segment.add(len(self._paths) - 1)
        self._offset.add(line.offset)
        self._length.add(len(line.data))
        for name in ("kind", "model", "release"):
            self._columns[name].take(record[name])
        self._columns["actor"].take(record["actor"]["name"])
        if len(line.data) <= _RECENT_BYTES:  # bounds the memory of the newest records
            self._recent[record["seq"] - 1] = record
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def _read(self, number: int) -> Record:
        known = self._recent.get(number)
        if known is not None:
            return known
        record: Record = orjson.loads(self._bytes(number))
        return record

    def _bytes(self, number: int) -> bytes:
        if not 0 <= number < self._count:
            raise IndexError(f"there is no record {number + 1} among {self._count}")
        count = self._count
        path = self._paths[int(self._segment.upto(count)[number])]
        length, offset = int(self._length.upto(count)[number]), int(self._offset.upto(count)[number])
        with self._lock:
            descriptor = self._files.get(path)
            if descriptor is None:
                descriptor = self._files[path] = os.open(path, os.O_RDONLY)
            return os.pread(descriptor, length, offset)


def _both(one: npt.NDArray[Any] | None, other: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return other if one is None else one & other


def _same(one: Any, other: Any) -> bool:
    return bool(one == other)
