"""A disk that records every call, to simulate a loss of power between any two of them.

What may remain after a loss of power, by POSIX and the behaviour of disks: everything that was flushed; of other writes
any 512-byte sectors in any order, zeros where one is missing; of names that were not flushed, the first few changes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lineage.log.disk import Disk

SECTOR = 512
Call = tuple[Any, ...]


class RecordingDisk(Disk):
    """The real disk; `trace` holds the calls."""

    def __init__(self) -> None:
        self.trace: list[Call] = []
        self._paths: dict[int, Path] = {}

    def note(self, *call: Any) -> None:
        """Add an event that is no call to the disk, such as an acknowledgement, to the trace."""
        self.trace.append(call)

    def open(self, path: Path) -> int:
        return self._opened(path, super().open(path))

    def open_fixed(self, path: Path) -> int:
        return self._opened(path, super().open_fixed(path))

    def _opened(self, path: Path, descriptor: int) -> int:
        self._paths[descriptor] = path
        self.trace.append(("open", path.name))
        return descriptor

    def append(self, descriptor: int, data: bytes) -> None:
        self.trace.append(("write", self._paths[descriptor].name, self.size(descriptor), data))
        super().append(descriptor, data)

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        self.trace.append(("write", self._paths[descriptor].name, offset, data))
        super().write_at(descriptor, data, offset)

    def flush(self, descriptor: int) -> None:
        # No flush of the real disk: only the trace is tested.
        self.trace.append(("flush", self._paths[descriptor].name))

    def truncate(self, descriptor: int, size: int) -> None:
        self.trace.append(("truncate", self._paths[descriptor].name, size))
        super().truncate(descriptor, size)

    def rename(self, old: Path, new: Path) -> None:
        self.trace.append(("rename", old.name, new.name))
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self.trace.append(("unlink", path.name))
        super().unlink(path)

    def flush_folder(self, folder: Path) -> None:  # noqa: ARG002  there is one
        self.trace.append(("flush_folder",))


@dataclass
class _File:
    durable: bytes = b""
    pending: list[Call] = field(default_factory=list)

    def flush(self) -> None:
        content = bytearray(self.durable)
        for call in self.pending:
            _apply(content, call)
        self.durable, self.pending = bytes(content), []


def files_in(folder: Path) -> dict[str, bytes]:
    """Files of a folder by name, as the durable beginning of a trace."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def after_power_loss(trace: Sequence[Call], rng: random.Random, before: dict[str, bytes]) -> dict[str, bytes]:
    """Files by name as they may lie on the disk when power is lost after the last call of `trace`."""
    names = {name: _File(content) for name, content in before.items()}
    durable, changes = dict(names), []
    for call in trace:
        match call:
            case ("open", name):
                if name not in names:
                    names[name] = _File()
                    changes.append(("name", name, names[name]))
            case ("write" | "truncate", name, *_):
                names[name].pending.append(call)
            case ("flush", name):
                names[name].flush()
            case ("rename", old, new):
                names[new] = names.pop(old)
                changes += [("name", new, names[new]), ("gone", old)]
            case ("unlink", name):
                if names.pop(name, None) is not None:
                    changes.append(("gone", name))
            case ("flush_folder",):
                durable, changes = dict(names), []
    for change in changes[: rng.randint(0, len(changes))]:
        if change[0] == "name":
            durable[change[1]] = change[2]
        else:
            durable.pop(change[1], None)
    return {name: _torn(file, rng) for name, file in durable.items()}


def _torn(file: _File, rng: random.Random) -> bytes:
    content = bytearray(file.durable)
    kept = rng.choice((0.0, 0.5, 0.9, 1.0))  # nothing arrived, half, most, all
    for call in file.pending:
        if call[0] == "truncate":
            if rng.random() < kept:
                _apply(content, call)
            continue
        _, name, offset, data = call
        if rng.random() < 0.2 and kept < 1.0:  # the length arrived, the bytes did not
            content.extend(bytes(max(0, offset + len(data) - len(content))))
        for start, end in _sectors(offset, len(data)):
            if rng.random() < kept:
                _apply(content, ("write", name, start, data[start - offset : end - offset]))
    return bytes(content)


def _sectors(offset: int, length: int) -> list[tuple[int, int]]:
    starts = [offset, *range((offset // SECTOR + 1) * SECTOR, offset + length, SECTOR)]
    return list(zip(starts, [*starts[1:], offset + length], strict=True))


def _apply(content: bytearray, call: Call) -> None:
    if call[0] == "truncate":
        size = call[2]
        del content[size:]
        content.extend(bytes(size - len(content)))
        return
    _, _, offset, data = call
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data
