"""The folder of a backup: its manifest, the files of a home left out, and steps shared by backup and restore."""

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
from lineage.log.checkpoint import to_sector
from lineage.log.disk import Disk
from lineage.log.handover import handover_files
from lineage.log.reader import CHECKPOINT, VKEY, Chain, log_keys, read_note, segments
from lineage.log.signed_note import NoteError, Verifier

MANIFEST, FORMAT = "MANIFEST.json", 1


Entry = dict[str, Any]


Manifest = dict[str, Any]


LOG, VAULT, COSIGNED = "ledger/log", "ledger/subjects.db", "cosigned"


CURSOR, PENDING = "decisions/cursor.json", "decisions/pending.json"


CHUNK, TRIES, REASON = 1024 * 1024, 20, 1_000


#: Patterns of files left out: derived from the log, of one run of the platform, or half written; `*` matches folders.
EXCLUDED = (
    *("run", "logs", "tune", "status.json", "secrets/session.json", ".restoring"),
    *("ledger/lineage.duckdb*", "decisions/index.db*", "ledger/*.lock", "*.db-journal", "*.db-wal", "*.db-shm"),
    *("ledger/*.new", "keys/*.new", "secrets/*.new", "decisions/*.part", "datasets/*.tmp"),
    *("artefacts/.staging-*", "reports/.report-*"),
    "datasets/*/_last_checkpoint",  # may name a file newer than the copy; Delta's log has the same information
    *(LOG, "spool", CURSOR, PENDING),  # copied separately
)


PRIVATE = ("keys/*.key", "secrets/*")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished backup.

    Raises:
        TamperedError: there is no manifest (the backup was never finished), or it was changed.
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
class LogCopy:
    """A copy of a log: its records, its segments by file name, and the content of checkpoint and key files."""

    records: int
    segments: dict[str, Entry]
    notes: dict[str, bytes]


def copy_log(
    source: Path, target: Path, verifier: Verifier, disk: Disk, before: dict[str, Entry], at_least: int
) -> LogCopy:
    """Extend the copy of a log to the records acknowledged now.

    Args:
        source: folder of the log.
        target: folder of the copy.
        verifier: the log's public key.
        disk: port for disk operations.
        before: segments of the last finished copy; bytes beyond them are of an interrupted attempt.
        at_least: records that the log has to have.

    Raises:
        RefusedError: the log has fewer records, or another history than the copy.
        TamperedError: the log or the copy was changed.
        UnavailableError: the log has no checkpoint yet.
    """
    cosigned = bytes_of(source / COSIGNED)  # first: the copy has to hold all records that this checkpoint counts
    notes = _key_notes(source)
    note = read_note(source)
    while (again := _key_notes(source)) != notes:  # the log was handed to another key meanwhile
        notes, note = again, read_note(source)
    if note is None:
        raise UnavailableError(f"{source} has no checkpoint yet; start the ledger service once", field="log")
    try:
        head = log_keys(source, verifier).open(note)
    except NoteError as error:
        raise TamperedError(f"the checkpoint in {source} cannot be relied on: {error}", field="log") from error
    # While a ledger has the log open, records after the checkpoint may still be withdrawn; in a closed log they count,
    # as after a loss of power.
    records = head.size if is_open(source) else sum(1 for _ in Chain(source, verifier))
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
    notes |= {CHECKPOINT: to_sector(note)}
    notes |= {COSIGNED: cosigned} if cosigned is not None else {}
    for name, data in notes.items():
        disk.replace(target / name, data)
    return LogCopy(records, copied, notes)


def _key_notes(log: Path) -> dict[str, bytes]:
    """The content of the log's key file and hand-overs by name."""
    vkey = bytes_of(log / VKEY)
    found = {path.name: path.read_bytes() for path in handover_files(log)}
    return found | ({VKEY: vkey} if vkey is not None else {})


def extend_copy(source: Path, target: Path, lines: int | None, known: Entry | None, disk: Disk) -> Entry:
    """Append the new part of a segment to its copy, up to `lines` lines in all (None: to the end).

    Raises:
        RefusedError: the segment does not continue the copy.
        TamperedError: the copy is shorter than its manifest states.
    """
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
    """Whether this is the name of a segment of the log."""
    return name.startswith(f"{LOG}/") and name.endswith(".jsonl")


def is_database(path: Path) -> bool:
    """Whether the file is an SQLite database, by its first bytes."""
    if path.suffix != ".db":
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def refers_to_files(name: str) -> bool:
    """Whether a file of this name refers to other files; it is copied before them."""
    return name.endswith(".db") or "/_delta_log/" in name


def decisions_in_spool(lines: bytes) -> Iterator[tuple[str, str]]:
    """(subject, time) of each decision in the whole lines of a spool."""
    for line in lines[: lines.rfind(b"\n") + 1].splitlines():
        try:
            row = orjson.loads(line) if line else None
        except orjson.JSONDecodeError:
            continue  # torn: the customer got an error, not a decision
        if isinstance(row, dict) and row.get("type") == "decision":
            yield str(row["key"]), str(row["at"])


def bytes_of(path: Path) -> bytes | None:
    """The content of a file; None if it does not exist."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def chunks_of(file: BinaryIO, most: int | None = None) -> Iterator[bytes]:
    """The content of a file from its position on, at most `most` bytes, in chunks of `CHUNK` bytes."""
    left = most
    while chunk := file.read(CHUNK if left is None else min(CHUNK, left)):
        left = None if left is None else left - len(chunk)
        yield chunk


def whole_lines(file: BinaryIO, count: int) -> Iterator[bytes]:
    """The next `count` whole lines of a file, as one chunk.

    Raises:
        TamperedError: there are fewer.
    """
    whole = b"".join(islice(file, count))
    if whole.count(b"\n") != count:
        raise TamperedError(f"{Path(file.name).name} ends before the record that its checkpoint counts", field="log")
    yield whole


def is_open(log: Path) -> bool:
    """Whether a ledger service has the log open."""
    try:
        with (log / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def reraise_unless_missing(error: OSError) -> None:
    """Raise the error unless the file does not exist any more."""
    if not isinstance(error, FileNotFoundError):
        raise error


@contextmanager
def backup_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a backup folder.

    Raises:
        RefusedError: another backup holds it.
    """
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefusedError(f"another backup into {path.parent} is under way", code="under_way") from error
        yield


@contextmanager
def as_unavailable(what: str) -> Iterator[None]:
    """Raise disk and database errors as UnavailableError with `what` as the consequence."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(f"{what}: {error}", field="backup") from error
