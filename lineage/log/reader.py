"""Verified reading of the log on disk: each line is confirmed by the hash in the next line, all by the checkpoint.

    000000000001.jsonl   records, one a line; a segment is named by the number of its first record
    checkpoint           how many records were acknowledged and the root of their Merkle tree, signed
    vkey                 the public key of the log, for readers without it from another source

A record without `v` is of the first format, whose `prev` is the plain SHA-256 of the line before; since `v` 2 it is
that line's leaf hash in the Merkle tree. A log of the first format has a `head` in place of the checkpoint.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain as joined
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from lineage.errors import TamperedError
from lineage.log.checkpoint import Checkpoint, from_sector
from lineage.log.handover import LogKeys, handover_files, keys_of
from lineage.log.merkle import Tree, leaf_hash
from lineage.log.signed_note import NoteError, Verifier

ZERO = "0" * 64
FORMAT = 2
CHECKPOINT, VKEY, OLD_HEAD = "checkpoint", "vkey", "head"
_HASH = re.compile("[0-9a-f]{64}")
_ENVELOPE = {"seq", "at", "kind", "model", "release", "actor", "reason", "data", "key", "prev"}


class Line(NamedTuple):
    """One whole line: its bytes without the newline, its segment and its offset there in bytes."""

    data: bytes
    segment: Path
    offset: int


class Entry(NamedTuple):
    """A confirmed record with its line and the line's leaf hash (32 bytes)."""

    record: dict[str, Any]
    line: Line
    leaf: bytes


@dataclass(frozen=True)
class Head:
    """The end of the log as acknowledged: a checkpoint, or the plain hash in a log of the first format."""

    size: int
    checkpoint: Checkpoint | None = None
    plain: str | None = None

    def holds(self, line: bytes, tree: Tree) -> bool:
        """Whether `line`, the last of `size`, and the tree over all of them match the acknowledged end."""
        if self.checkpoint is not None:
            return tree.root(self.size) == self.checkpoint.root
        return hashlib.sha256(line).hexdigest() == self.plain


def segments(folder: Path) -> list[Path]:
    """The segment files of a log, oldest first."""
    return sorted(folder.glob("[0-9]" * 12 + ".jsonl"))


def lines(folder: Path) -> Iterator[Line]:
    """Every whole line of the log, oldest first.

    Raises:
        TamperedError: a segment that is not the last one ends within a line.
    """
    files, number = segments(folder), 0
    for path in files:
        offset = 0
        with path.open("rb") as file:
            for data in file:
                number += 1
                if data.endswith(b"\n"):
                    yield Line(data[:-1], path, offset)
                    offset += len(data)
                elif path != files[-1]:
                    raise TamperedError(f"segment {path.name} ends within record {number}", record=number)


def verifier_in(folder: Path) -> Verifier | None:
    """The public key in the log's own folder; None if there is none.

    Raises:
        TamperedError: the file holds no key.
    """
    try:
        return Verifier.parse((folder / VKEY).read_text())
    except FileNotFoundError:
        return None
    except (NoteError, UnicodeDecodeError) as error:
        raise TamperedError(f"the log's public key cannot be read: {error}", record=0) from error


def log_keys(folder: Path, trusted: Verifier) -> LogKeys:
    """The keys of the log in a folder, of which `trusted` is one.

    Raises:
        TamperedError: as `keys_of`, or the folder's key file is not as it was written.
    """
    try:
        stored = (folder / VKEY).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return keys_of(folder, None, trusted)
    try:
        named = Verifier.parse(stored)
    except NoteError:
        named = None
    if named is None or stored != f"{named.vkey}\n":
        raise TamperedError("the log's own public key is not the one that it is verified with", record=0)
    return keys_of(folder, named, trusted)


def read_checkpoint(folder: Path, keys: LogKeys) -> Checkpoint | None:
    """The newest checkpoint, its signature checked; None if there is none.

    Raises:
        TamperedError: the file is not a checkpoint signed by the log's key.
    """
    note = read_note(folder)
    try:
        return None if note is None else keys.open(note)
    except NoteError as error:
        raise TamperedError(f"the checkpoint cannot be relied on: {error}", record=0) from error


def read_note(folder: Path) -> bytes | None:
    """The newest checkpoint as a signed note, unchecked; None if there is none.

    Raises:
        TamperedError: the file is not a note in a sector.
    """
    path = folder / CHECKPOINT
    try:
        data = path.read_bytes()
        while (again := path.read_bytes()) != data:  # the writer was overwriting it
            data = again
    except FileNotFoundError:
        return None
    try:
        return from_sector(data)
    except NoteError as error:
        raise TamperedError(f"the checkpoint cannot be relied on: {error}", record=0) from error


def read_head(folder: Path, keys: LogKeys | None) -> Head | None:
    """The acknowledged end of the log; None for an empty log.

    Raises:
        TamperedError: it is missing or unreadable.
    """
    checkpoint = read_checkpoint(folder, keys) if keys else None
    if checkpoint is not None:
        return Head(checkpoint.size, checkpoint)
    if keys is None and (folder / CHECKPOINT).exists():
        raise TamperedError("the log has a checkpoint but names no key; nothing vouches for it", record=0)
    first = next(lines(folder), None)
    old = _old_head(folder)
    if old is not None or first is None:
        return old
    raise TamperedError("the checkpoint of the log is missing; nothing vouches for its last record", record=0)


def _old_head(folder: Path) -> Head | None:
    path = folder / OLD_HEAD
    if not path.is_file() or not path.stat().st_size:
        return None
    number, _, digest = path.read_bytes().decode(errors="replace").partition(" ")
    size = int(number) if number.isdecimal() and len(number) == 12 else -1
    if size < 0 or len(digest) != 65 or f"{size:012d} {digest}".encode() != path.read_bytes():
        raise TamperedError("the head of the log is unreadable; nothing vouches for its last record", record=0)
    return Head(size, plain=digest.strip())


def _keys_and_head(folder: Path, verifier: Verifier | None) -> tuple[LogKeys | None, Head | None]:
    """Keys and acknowledged end of a log; read again where the log is handed to another key meanwhile."""
    before = handover_files(folder)
    try:
        keys = log_keys(folder, verifier) if verifier else None
        return keys, read_head(folder, keys)
    except TamperedError:
        if handover_files(folder) == before:
            raise
        return _keys_and_head(folder, verifier)


class Chain:
    """Iterator over the records of a log, oldest first, each confirmed before it is returned. Iterate once.

    After the checkpoint there is at most the group that was being written when the process or machine stopped: lines
    that were never acknowledged, of which the disk may hold any sectors. A line there that is not JSON is a torn tail;
    a line before it that is not JSON, or any JSON line that is not the next record, is tampering.

    Args:
        folder: the log folder.
        verifier: a public key of the log, the present or an earlier one; None for a log of the first format.

    Raises (while iterating):
        TamperedError: `detail["record"]` is the number of the first record that was changed, moved or removed.
    """

    def __init__(self, folder: Path, verifier: Verifier | None) -> None:
        self._folder = folder
        # before the lines: the writer may append meanwhile
        self.keys, self.head = _keys_and_head(folder, verifier)
        self.tree = Tree()
        self._rotations: dict[tuple[str, str], int] = {}  # record that names both keys, by them
        self.whole_bytes = 0  # of the last segment, after iteration; the bytes after them are torn

    @property
    def acknowledged(self) -> int:
        """Records that the checkpoint counts."""
        return self.head.size if self.head else 0

    def __iter__(self) -> Iterator[Entry]:
        held: Entry | None = None
        ends: list[Line | None] = [None]
        for line, follower in pairwise(joined(lines(self._folder), ends)):
            assert line is not None  # noqa: S101  only the last of the pairs ends in None
            seq = len(self.tree) + 1
            if seq > self.acknowledged and not _is_json(line.data) and line.segment == segments(self._folder)[-1]:
                break
            entry = _linked(line, follower, seq, held, self.head, self.tree)
            if held is not None:
                yield held
            held = entry
            if self.head is not None and self.head.size == seq and not self.head.holds(line.data, self.tree):
                raise TamperedError(f"record {seq} is not the one that was acknowledged", record=seq)
            self._check_handover(entry.record)
        here = len(self.tree)
        if self.acknowledged > here:
            gone = f"{self.acknowledged} records were acknowledged; from record {here + 1} on they are gone"
            raise TamperedError(gone, record=here + 1)
        self._check_rotations()
        if held is not None:
            self.whole_bytes = held.line.offset + len(held.line.data) + 1
            yield held

    def _check_handover(self, record: dict[str, Any]) -> None:
        """Note a rotation of the log's key, and compare the root with a hand-over of this size."""
        if record["kind"] == "KeyRotated" and record["data"].get("key") == "ledger":
            old, new = (record["data"].get(which) or {} for which in ("old", "new"))
            self._rotations[str(old.get("public")), str(new.get("public"))] = record["seq"]
        seq = record["seq"]
        for one in self.keys.handovers if self.keys else ():
            if one.head.size == seq and one.head.root != self.tree.root():
                raise TamperedError(f"the first {seq} records are not those of a hand-over of the log", record=seq)

    def _check_rotations(self) -> None:
        """Check that each hand-over is on record before it, and that none of a recorded one is missing."""
        if self.keys is None:
            return
        for one in self.keys.handovers:
            seq = self._rotations.get((one.old.vkey, one.new.vkey))
            if seq is None or not seq <= one.head.size <= len(self.tree):
                raise TamperedError("a hand-over of the log to another key is not on record", record=0)
        if any(new == self.keys.first.vkey for _, new in self._rotations):
            raise TamperedError("the hand-over of the log to its first known key is missing", record=0)


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _linked(line: Line, follower: Line | None, seq: int, held: Entry | None, head: Head | None, tree: Tree) -> Entry:
    """The line as record `seq`; if the link to the line before is broken, the error names the one that changed."""
    record, leaf = parse_line(line.data, seq), leaf_hash(line.data)
    tree.append(leaf)
    if line.offset == 0 and int(line.segment.stem) != seq:
        raise TamperedError(f"segment {line.segment.name} begins with record {seq}", record=seq)
    if head is not None and head.plain is not None and "v" in record:
        raise TamperedError(f"record {seq} needs a checkpoint, and the log has none", record=seq)
    if record["prev"] == _link(record, held):
        return Entry(record, line, leaf)
    confirmed = head is not None and head.size == seq and _gives_root(line, record, head, tree)
    named = (leaf.hex(), hashlib.sha256(line.data).hexdigest())
    confirmed |= follower is not None and any(f'"prev":"{name}"'.encode() in follower.data for name in named)
    changed = seq - 1 if confirmed and seq > 1 else seq
    raise TamperedError(f"record {changed} was changed after it was recorded", record=changed)


def _gives_root(line: Line, record: dict[str, Any], head: Head, tree: Tree) -> bool:
    """Whether the tree with the leaf that the last line names for the line before has the acknowledged root."""
    if head.checkpoint is not None:
        before = bytes.fromhex(record["prev"]) if _HASH.fullmatch(record["prev"]) else b""
        leaf = tree.leaf(head.size - 1)
        tree.truncate(max(0, head.size - 2))
        tree.extend([before, leaf] if head.size > 1 else [leaf])
    return len(tree) == head.size and head.holds(line.data, tree)


def _link(record: dict[str, Any], before: Entry | None) -> str:
    if before is None:
        return ZERO
    return before.leaf.hex() if "v" in record else hashlib.sha256(before.line.data).hexdigest()


def parse_line(line: bytes, seq: int) -> dict[str, Any]:
    """Parse a line as record number `seq`.

    Raises:
        TamperedError: it is not one.
    """
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise TamperedError(f"record {seq} is not JSON: {error}", record=seq) from error
    if not isinstance(record, dict) or record.get("seq") != seq or isinstance(record["seq"], bool):
        raise TamperedError(f"record {seq} is missing or out of order", record=seq)
    if "v" in record and (record["v"] != FORMAT or isinstance(record["v"], bool)):
        raise TamperedError(
            f"record {seq} is of format {record['v']!r:.20}, which this version cannot read", record=seq
        )
    actor = record.get("actor")
    whole = record.keys() - {"v"} == _ENVELOPE and isinstance(record["data"], dict) and isinstance(record["prev"], str)
    if not whole or not isinstance(actor, dict) or actor.keys() - {"id"} != {"name", "role"}:
        raise TamperedError(f"record {seq} does not have the fields of a record", record=seq)
    return record
