"""The chain as it lies on disk: each line is vouched for by the line behind it, the last one by the head.

The head is one short file beside the segments that says how many records were acknowledged and what the last of them
hashes to. Without it nobody could tell a log whose end was cut or changed from a log that ended there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain as joined
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from lineage.errors import TamperedError

ZERO = "0" * 64
HEAD = "head"
Head = tuple[int, str]
_ENVELOPE = {"seq", "at", "kind", "model", "release", "actor", "reason", "data", "key", "prev"}


def line_hash(line: bytes) -> str:
    """The hash of a record's line (without its newline), 64 hexadecimal digits."""
    return hashlib.sha256(line).hexdigest()


def segments(folder: Path) -> list[Path]:
    """Segment files, oldest first; a segment is named by the sequence number of its first record."""
    return sorted(folder.glob("[0-9]" * 12 + ".jsonl"))


def lines(folder: Path) -> Iterator[bytes]:
    """Every whole line of the log, oldest first, without newlines."""
    for path in segments(folder):
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line[:-1]


def head_text(seq: int, digest: str) -> bytes:
    """The head as stored: always of the same length, so that it is overwritten in place."""
    return b"%012d %s\n" % (seq, digest.encode())


def read_head(folder: Path) -> Head | None:
    """Number and hash of the last record that was acknowledged; None where no head is kept.

    Raises:
        TamperedError: the head is not one.
    """
    path = folder / HEAD
    if not path.is_file():
        return None
    text = path.read_bytes()
    while (again := path.read_bytes()) != text:  # the writer was overwriting it
        text = again
    if not text:
        return None
    number, _, digest = text.partition(b" ")
    seq = int(number) if number.isdigit() and len(number) == 12 else -1
    if text != head_text(seq, digest.decode(errors="replace").strip()) or len(digest) != 65:
        raise TamperedError("the head of the log is unreadable; nothing vouches for its last record", record=0)
    return seq, digest.decode().strip()


def chain(folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Every record with the hash of its line, oldest first, each once it has been vouched for.

    Raises:
        TamperedError: `detail["record"]` is the number of the first record that was changed, moved or taken away.
    """
    head = read_head(folder)  # before the lines: the writer may go on meanwhile
    seq, digest = 0, ZERO
    held: dict[str, Any] | None = None
    ends: list[bytes | None] = [None]
    for line, follower in pairwise(joined(lines(folder), ends)):
        assert line is not None  # noqa: S101  only the last of the pairs ends in None
        record = _linked(line, follower, seq + 1, digest, head)
        if held is not None:
            yield held, digest
        seq, digest, held = seq + 1, line_hash(line), record
        if head is not None and head[0] == seq and head[1] != digest:
            raise TamperedError(f"record {seq} is not the one that was acknowledged", record=seq)
    if head is not None and head[0] > seq:
        gone = f"{head[0]} records were acknowledged; from record {seq + 1} on they are gone"
        raise TamperedError(gone, record=seq + 1)
    if held is not None:
        yield held, digest


def _linked(line: bytes, follower: bytes | None, seq: int, prev: str, head: Head | None) -> dict[str, Any]:
    """The line as record number `seq`; where the link to the line before is broken, say which of the two changed."""
    record = _parsed(line, seq)
    if record["prev"] == prev:
        return record
    digest = line_hash(line)
    vouched = head == (seq, digest) or (follower is not None and f'"prev":"{digest}"'.encode() in follower)
    changed = seq - 1 if vouched and seq > 1 else seq
    raise TamperedError(f"record {changed} was changed after it was recorded", record=changed)


def _parsed(line: bytes, seq: int) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise TamperedError(f"record {seq} is not JSON: {error}", record=seq) from error
    if not isinstance(record, dict) or record.get("seq") != seq:
        raise TamperedError(f"record {seq} is missing or out of order", record=seq)
    actor = record.get("actor")
    whole = record.keys() == _ENVELOPE and isinstance(record["data"], dict)
    if not whole or not isinstance(actor, dict) or actor.keys() != {"name", "role"}:
        raise TamperedError(f"record {seq} does not have the fields of a record", record=seq)
    return record
