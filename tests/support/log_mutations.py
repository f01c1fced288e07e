"""Damage to a log folder: bytes that change on disk, and frauds by the owner.

`mutate` damages one file as disks or people do and returns the first record that is not what was recorded.
`cut_tail`, `put_back` and `fork` are the owner's frauds, with knowledge of the format and possibly the key.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import orjson

from lineage.digest import canonical
from lineage.log.checkpoint import Checkpoint, from_sector, to_sector
from lineage.log.merkle import Tree, leaf_hash
from lineage.log.signed_note import Signer, split

MOST_BYTES = 48
Mutation = Callable[[bytes, Random], bytes]


def flip_bit(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def set_byte(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(1) + data[at + 1 :]


def zero_range(data: bytes, rng: Random) -> bytes:
    start, end = _range(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def delete_range(data: bytes, rng: Random) -> bytes:
    start, end = _range(data, rng)
    return data[:start] + data[end:]


def insert_bytes(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randint(1, MOST_BYTES)) + data[at:]


def truncate(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data))]


def swap_lines(data: bytes, rng: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def duplicate_line(data: bytes, rng: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    return b"".join([*lines[: at + 1], *lines[at:]])


def delete_line(data: bytes, rng: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    return b"".join([*lines[:at], *lines[at + 1 :]])


def insert_line(data: bytes, rng: Random) -> bytes:
    """A line from elsewhere in the file, or an empty one."""
    lines = data.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines)), rng.choice([*lines, b"\n"]))
    return b"".join(lines)


KINDS: dict[str, Mutation] = {
    "flip a bit": flip_bit,
    "set a byte": set_byte,
    "zero a range": zero_range,
    "delete a range": delete_range,
    "insert bytes": insert_bytes,
    "truncate": truncate,
    "swap two lines": swap_lines,
    "duplicate a line": duplicate_line,
    "delete a line": delete_line,
    "insert a line": insert_line,
}


def mutate(folder: Path, rng: Random, *, kind: str | None = None, log: float = 0.8) -> tuple[str, int | None]:
    """Damage one file of a log: a segment with probability `log`, else the checkpoint or the key.

    What a crash may leave is no damage: bytes behind the last counted record that are no record are not made.

    Args:
        folder: a log whose checkpoint counts at least two records.
        kind: one of `KINDS`; any when absent.

    Returns:
        What was done and to what (log, checkpoint or vkey), and the number of the first record that is not what was
        recorded; None where every record still is.
    """
    before, segments = stored_lines(folder), segments_in(folder)
    counted = counted_in(folder)
    while True:
        chosen = kind or rng.choice(list(KINDS))
        if rng.random() < log:
            path = rng.choice([path for path in segments if path.stat().st_size])
        else:
            path = folder / rng.choice(["checkpoint", "vkey"])
        data = path.read_bytes()
        changed = KINDS[chosen](data, rng)
        if changed == data:
            continue
        path.write_bytes(changed)
        first = _first_other(before, stored_lines(folder), counted)
        if path.suffix != ".jsonl" or first is not None:
            return f"{chosen}: {'log' if path in segments else path.name}", first
        path.write_bytes(data)


def _first_other(before: list[bytes], after: list[bytes], counted: int) -> int | None:
    """The first record of `before` that is not there any more, or the first that was added."""
    same = next((at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), None)
    first = same if same is not None else min(len(before), len(after))
    if first < counted:
        return first + 1
    added = first >= len(before) and first < len(after) and _is_json(after[first])
    return first + 1 if added else None


def _range(data: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.randint(1, MOST_BYTES))


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def segments_in(folder: Path) -> list[Path]:
    """Segment files, oldest first."""
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"[0-9]{12}\.jsonl", path.name))


def stored_lines(folder: Path) -> list[bytes]:
    """Every line with its newline; a last one without is a crash in the last segment, and a line in any other."""
    segments = segments_in(folder)
    found: list[bytes] = []
    for path in segments:
        pieces = path.read_bytes().split(b"\n")
        rest = pieces.pop()
        found += [piece + b"\n" for piece in pieces]
        if rest and path != segments[-1]:
            found.append(rest)
    return found


def counted_in(folder: Path) -> int:
    """Records that the checkpoint counts."""
    return Checkpoint.parse(split(from_sector((folder / "checkpoint").read_bytes()))[0]).size


def sign_anew(folder: Path, signer: Signer, size: int | None = None) -> bytes:
    """Write the checkpoint that the first `size` lines (all of them when absent) ask for; return its note."""
    tree = Tree(leaf_hash(line.removesuffix(b"\n")) for line in stored_lines(folder)[:size])
    note = Checkpoint(signer.name, len(tree), tree.root()).sign(signer)
    (folder / "checkpoint").write_bytes(to_sector(note))
    return note


def cut_tail(folder: Path, records: int, signer: Signer | None = None) -> int:
    """Remove the last records and, with the log's key, sign the rest; return the number of the first removed."""
    for _ in range(records):
        last = [path for path in segments_in(folder) if path.stat().st_size][-1]
        lines = last.read_bytes().splitlines(keepends=True)
        last.write_bytes(b"".join(lines[:-1]))
        if len(lines) == 1:
            last.unlink()
    if signer is not None:
        sign_anew(folder, signer)
    return len(stored_lines(folder)) + 1


def put_back(folder: Path, older: Path) -> None:
    """Replace a log by an older copy of itself."""
    shutil.rmtree(folder)
    shutil.copytree(older, folder)


def fork(folder: Path, record: int, signer: Signer) -> None:
    """Replace the records from `record` on by others, linked and signed as the originals."""
    prev, number = b"", 0
    for path in segments_in(folder):
        made = []
        for line in path.read_bytes().splitlines():
            number += 1
            stored = orjson.loads(line)
            if number == record:
                stored["reason"] = "as it should have been"
            if number > record:
                stored["prev"] = leaf_hash(prev).hex() if "v" in stored else hashlib.sha256(prev).hexdigest()
            prev = canonical(stored) if number >= record else line
            made.append(prev + b"\n")
        path.write_bytes(b"".join(made))
    sign_anew(folder, signer)
