"""The folder of a backup: its manifest, what of a home goes into it, and the small steps both ways need."""

from __future__ import annotations

import fcntl
import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import orjson

from lineage.digest import canonical, digest_of
from lineage.errors import RefusedError, TamperedError, UnavailableError
from lineage.log.checkpoint import open_checkpoint, to_sector
from lineage.log.disk import Disk
from lineage.log.reader import CHECKPOINT, VKEY, Chain, read_note, segments
from lineage.log.signed_note import NoteError, Verifier

MANIFEST, FORMAT = "MANIFEST.json", 1


Entry = dict[str, Any]


Manifest = dict[str, Any]


LOG, VAULT, COSIGNED = "ledger/log", "ledger/subjects.db", "cosigned"


CURSOR, PENDING = "decisions/cursor.json", "decisions/pending.json"


CHUNK, TRIES, REASON = 1024 * 1024, 20, 1_000


#: No state: made from the log, of one run of the platform, or half written; `*` stands for folders too.
PASSED_OVER = (
    *("run", "logs", "tune", "status.json", "secrets/session.json", ".restoring"),
    *("ledger/lineage.duckdb*", "decisions/index.db*", "ledger/*.lock", "*.db-journal", "*.db-wal", "*.db-shm"),
    *("ledger/*.new", "keys/*.new", "secrets/*.new", "decisions/*.part", "datasets/*.tmp"),
    *("artefacts/.staging-*", "reports/.report-*"),
    "datasets/*/_last_checkpoint",  # Delta's hint at a file that may come after the copy; its log says the same
    *(LOG, "spool", CURSOR, PENDING),  # taken apart from the rest
)


PRIVATE = ("keys/*.key", "secrets/*")


def read_manifest(folder: Path) -> Manifest:
    """What a finished backup holds.

    Raises:
        TamperedError: there is no manifest, so that the backup was never finished, or it was changed.
    """
    try:
        whole = (folder / MANIFEST).read_bytes()
        manifest: Manifest = orjson.loads(whole)
        digest = manifest.pop("digest")
        names = [PurePosixPath(name) for name in (*manifest["files"], *manifest["folders"])]
        if digest != digest_of(manifest) or whole != canonical(manifest | {"digest": digest}) + b"\n":
            raise ValueError("its digest is another")
        if any(name.is_absolute() or ".." in name.parts for name in names):
            raise ValueError("it names files outside a home")
    except FileNotFoundError as error:
        raise TamperedError(f"{folder} has no {MANIFEST}: no backup was finished there", field=MANIFEST) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TamperedError(f"{MANIFEST} is not what was written: {error}", field=MANIFEST) from error
    if manifest["v"] != FORMAT:
        raise TamperedError(f"{MANIFEST} is of format {manifest['v']}; this version reads {FORMAT}", field=MANIFEST)
    return manifest


@dataclass(frozen=True)
class Copy:
    records: int
    segments: dict[str, Entry]
    notes: dict[str, bytes]


def copy_log(
    source: Path, target: Path, verifier: Verifier, disk: Disk, before: dict[str, Entry], at_least: int
) -> Copy:
    """Bring the copy of a log up to what is acknowledged now, of which nothing can be taken back.

    Args:
        before: segments as the copy has them; more than that is left of an attempt that was cut short.
        at_least: so many records the log has to have.
    """
    cosigned = bytes_of(source / COSIGNED)  # first: the copy must not fall short of what a witness saw
    note = read_note(source)
    if note is None:
        raise UnavailableError(f"{source} has no checkpoint yet; start the ledger service once", field="log")
    try:
        head = open_checkpoint(note, verifier)
    except NoteError as error:
        raise TamperedError(f"the checkpoint in {source} cannot be relied on: {error}", field="log") from error
    # Behind the checkpoint of a log that is written lies what may still be taken back; else it counts, as after a
    # loss of power.
    records = head.size if is_written(source) else sum(1 for _ in Chain(source, verifier))
    if records < at_least:
        raise RefusedError(
            f"{source} holds {records} records and the backup {at_least}: this log is the older one", code="older"
        )
    copied, newest, paths = {}, max(before, default=None), segments(source)
    for path, follower in zip(paths, [*paths[1:], None], strict=True):
        first, known = int(path.stem), before.get(path.name)
        whole = follower is not None and int(follower.stem) - 1 <= records
        if first > records:
            break
        if known and whole and path.name != newest:
            copied[path.name] = known
        else:
            lines = None if whole else records - first + 1
            copied[path.name] = extend_copy(path, target / path.name, lines, known, disk)
    notes = {CHECKPOINT: to_sector(note), VKEY: f"{verifier.vkey}\n".encode()}
    notes |= {COSIGNED: cosigned} if cosigned is not None else {}
    for name, data in notes.items():
        disk.replace(target / name, data)
    return Copy(records, copied, notes)


def extend_copy(source: Path, target: Path, lines: int | None, known: Entry | None, disk: Disk) -> Entry:
    """Append to the copy of a segment what the segment has more, up to so many lines or (None) to its end."""
    have = known["size"] if known else 0
    descriptor = disk.open(target)
    try:
        if disk.size(descriptor) < have:
            raise TamperedError(f"log/{target.name} is shorter than {MANIFEST} says; begin a new backup", field="dest")
        disk.truncate(descriptor, have)
        with source.open("rb") as file:
            found, before = hashlib.sha256(), 0
            for chunk in chunks_of(file, have):
                found.update(chunk)
                before += chunk.count(b"\n")
            if known and found.hexdigest() != known["sha256"]:
                raise RefusedError(f"log/{target.name} is of another history than {source}", code="other_history")
            for chunk in chunks_of(file) if lines is None else whole_lines(file, lines - before):
                disk.append(descriptor, chunk)
                found.update(chunk)
        disk.flush(descriptor)
        return {"sha256": found.hexdigest(), "size": disk.size(descriptor), "mode": 0o600, "mtime": 0}
    finally:
        disk.close(descriptor)


def is_segment(name: str) -> bool:
    """Whether a file of this name is a segment of the log."""
    return name.startswith(f"{LOG}/") and name.endswith(".jsonl")


def is_database(path: Path) -> bool:
    """Whether it is an SQLite database, by its first bytes."""
    if path.suffix != ".db":
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def names_others(name: str) -> bool:
    """Whether a file of this name speaks of other files, which therefore go first."""
    return name.endswith(".db") or "/_delta_log/" in name


def decided_in(lines: bytes) -> Iterator[tuple[str, str]]:
    """Whom the whole lines of a spool say a decision of, and when it was."""
    for line in lines[: lines.rfind(b"\n") + 1].splitlines():
        try:
            row = orjson.loads(line) if line else None
        except orjson.JSONDecodeError:
            continue  # torn: the customer got an error, not a decision
        if isinstance(row, dict) and row.get("type") == "decision":
            yield str(row["key"]), str(row["at"])


def bytes_of(path: Path) -> bytes | None:
    """What a file holds; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def chunks_of(file: BinaryIO, most: int | None = None) -> Iterator[bytes]:
    """What a file holds from here on, at most so many bytes."""
    left = most
    while chunk := file.read(CHUNK if left is None else min(CHUNK, left)):
        left = None if left is None else left - len(chunk)
        yield chunk


def whole_lines(file: BinaryIO, count: int) -> Iterator[bytes]:
    """So many whole lines from here on, in one piece."""
    whole = b"".join(islice(file, count))
    if whole.count(b"\n") != count:
        raise TamperedError(f"{Path(file.name).name} ends before the record that its checkpoint counts", field="log")
    yield whole


def is_written(log: Path) -> bool:
    """Whether a ledger has the log open."""
    try:
        with (log / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def unless_gone(error: OSError) -> None:
    """Raise the error again unless the file went away meanwhile."""
    if not isinstance(error, FileNotFoundError):
        raise error


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the one place for a backup."""
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefusedError(f"another backup into {path.parent} is under way", code="under_way") from error
        yield


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Say what a failure of the disk means."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(f"{what}: {error}", field="backup") from error
