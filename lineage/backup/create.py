"""Backup of the platform's state, also while it runs.

    MANIFEST.json    every file with digest, size and mode; written last and atomically
    log/             a copy of the log up to a checkpoint; the independent verifier reads it
    files/           everything else, each file under its SHA-256
    README.md        what the folder is and how to restore it

A later backup into the same folder appends to the copy of the log and adds new files. Nothing that the manifest names
is changed before the next manifest is in place, so that the last finished backup can always be restored.

Each decision is on record exactly once after a restore too: spools, the sealer's cursor, log and vault are copied
between two reads of the cursor, and again if a sealing ended in between.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import orjson

from lineage.backup.manifest import (
    CURSOR,
    EXCLUDED,
    FORMAT,
    LOG,
    MANIFEST,
    PENDING,
    PRIVATE,
    TRIES,
    VAULT,
    Entry,
    Manifest,
    as_unavailable,
    backup_lock,
    bytes_of,
    chunks_of,
    copy_log,
    decisions_in_spool,
    is_database,
    is_segment,
    read_manifest,
    refers_to_files,
    reraise_unless_missing,
)
from lineage.clock import Clock, now, stamp
from lineage.digest import canonical, digest_of
from lineage.errors import InvalidError, RefusedError, UnavailableError, UnknownError
from lineage.log.disk import Disk
from lineage.log.reader import segments, verifier_in
from lineage.log.signed_note import Verifier
from lineage.log.signing_key import signer_at, verifier_at
from lineage.privacy.key_vault import Vault
from lineage.settings import Settings

_README = "README.md"


_BACKUP_NAMES = {MANIFEST, f"{MANIFEST}.new", _README, f"{_README}.new", "log", "files", "lock"}


_WITH_KEYS = "**It holds private keys and secrets: who has this folder can sign and read as the platform.**"


_WITHOUT_KEYS = "It holds no private keys and secrets: nothing goes on from it without `keys/` and `secrets/`."


_README_TEXT = """# Backup of {log}

{keys} It also holds personal data: data sets, and decisions that were not sealed yet.

- Put it back: `plimsoll backup restore FOLDER --home NEW_HOME`. That checks every byte and verifies the record.
- `MANIFEST.json` names every file with its SHA-256. Where it is missing the backup was never finished.
- `log/` is a copy of the log; the independent verifier reads it: `python verify.py log FOLDER/log`.
- Give a newer copy of the log with `--log`, if there is one: people erased since this backup stay erased.
"""


@dataclass(frozen=True)
class BackupSummary:
    """Summary of a finished backup.

    Attributes:
        log: name of the log.
        bytes: size of all files.
        copied: bytes copied by this run.
        keys: whether it holds private keys and secrets.
        settled: False if a sealing ended during every attempt: after a restore some decisions may be in two segments.
        left_out: names that are not regular files.
    """

    log: str
    records: int
    files: int
    bytes: int
    copied: int
    keys: bool
    settled: bool
    left_out: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def create(
    settings: Settings, folder: Path, *, keys: bool = True, clock: Clock = now, disk: Disk | None = None
) -> BackupSummary:
    """Back up a home, whether or not the platform runs.

    Args:
        settings: the home to back up.
        folder: made when missing; if it holds an earlier backup of the same log, only new files are copied.
        keys: whether to include private keys and secrets. With them the backup can sign and read as the platform.
        clock: gives the time in the manifest.
        disk: port for disk operations.

    Raises:
        InvalidError: the folder is inside the home, the home inside the folder, or it holds other files.
        UnknownError: there is no log to back up.
        RefusedError: the folder holds a backup of another log or of more records, or another backup is under way.
        TamperedError: the log or the earlier backup was changed.
        UnavailableError: a file cannot be read or written; an earlier backup is unchanged.
    """
    folder = folder.expanduser().resolve()
    if folder.is_relative_to(settings.root) or settings.root.is_relative_to(folder):
        raise InvalidError(f"{folder} and {settings.root} lie in each other; choose a folder elsewhere", field="dest")
    with as_unavailable("the backup is not finished, an earlier one is unchanged"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        foreign = {path.name for path in folder.iterdir()} - _BACKUP_NAMES
        if foreign:
            raise InvalidError(f"{folder} holds {min(foreign)}, which is no part of a backup", field="dest")
        with backup_lock(folder / "lock"):
            return _Backup(settings, folder, keys, disk or Disk()).make(stamp(clock()))


class _Backup:
    """One backup under way."""

    def __init__(self, settings: Settings, folder: Path, keys: bool, disk: Disk) -> None:
        self._settings, self._folder, self._keys, self._disk = settings, folder, keys, disk
        there = (folder / MANIFEST).exists()
        self._before: Manifest = read_manifest(folder) if there else {"log": None, "records": 0, "files": {}}
        self._verifier = self._checked_verifier()
        if self._before["log"] not in (None, self._verifier.name):
            raise RefusedError(f"{folder} holds a backup of {self._before['log']}; choose another", code="other_log")
        self._files: dict[str, Entry] = {}
        self._folders: dict[str, int] = {}
        self._left_out: set[str] = set()
        self._records, self._copied = self._before["records"], 0
        known = self._before["files"].items()
        self._log = {Path(name).name: one for name, one in known if is_segment(name)}
        for inner in ("log", "files"):
            (folder / inner).mkdir(exist_ok=True, mode=0o700)

    def make(self, at: str) -> BackupSummary:
        """Copy everything, the manifest last."""
        self._copy_log()  # most of it, so that the consistent copy is short
        settled = self._copy_consistent()
        for first in (True, False):  # files that refer to others first: those they refer to exist then
            for name, path in self._walk():
                if name not in self._files and refers_to_files(name) is first:
                    self._copy_file(name, path)
        manifest = {"v": FORMAT, "at": at, "log": self._verifier.name, "records": self._records, "keys": self._keys}
        manifest |= {"settled": settled, "left_out": sorted(self._left_out)}
        manifest |= {"folders": self._folders, "files": self._files}
        for inner in ("log", "files"):
            self._disk.flush_folder(self._folder / inner)
        relative = _README_TEXT.format(log=self._verifier.name, keys=_WITH_KEYS if self._keys else _WITHOUT_KEYS)
        self._disk.replace(self._folder / _README, relative.encode())
        whole = canonical(manifest | {"digest": digest_of(manifest)})
        self._disk.replace(self._folder / MANIFEST, whole + b"\n")
        self._remove_unnamed()
        size = sum(one["size"] for one in self._files.values())
        counts = (len(self._files), size, self._copied, self._keys, settled, sorted(self._left_out))
        return BackupSummary(self._verifier.name, self._records, *counts)

    def _checked_verifier(self) -> Verifier:
        """The log's public key; if keys are included, checks that all of them exist and fit."""
        key, log = self._settings.log_key, self._settings.log_folder
        verifier = verifier_at(key) or verifier_in(log)
        if verifier is None or not segments(log):
            raise UnknownError(f"there is no log under {log}; nothing to back up", field="home")
        if self._keys:
            needed = {
                key: True,
                key.with_name("signing.key"): key.with_name("signing.pub").exists(),
                self._settings.secrets / "vault.key": self._settings.vault.exists(),
            }
            for path, needs in needed.items():
                if needs and not path.exists():
                    raise UnavailableError(f"{path} is missing; put it back, or back up without keys", field="keys")
            signer_at(key)
        return verifier

    def _copy_consistent(self) -> bool:
        """Copy the files that depend on each other; return whether no sealing ended meanwhile."""
        for _ in range(TRIES):
            sealed = self._sealed()
            self._files = {name: one for name, one in self._files.items() if not name.startswith("spool/")}
            for name, path in self._walk("ledger"):  # before the log: they must not refer to records after its copy
                if name != VAULT:
                    self._copy_file(name, path)
            for name in (CURSOR, PENDING):
                self._files.pop(name, None)
                if name in sealed:
                    self._store(name, [sealed[name]])
            spooled = self._copy_spools(orjson.loads(sealed.get(CURSOR, b"{}")))
            self._copy_log()
            self._copy_vault(spooled)
            if self._sealed() == sealed:
                return True
        return False

    def _sealed(self) -> dict[str, bytes]:
        """Content of the sealer's cursor and of its pending file, by name; missing ones are left out."""
        found = {name: bytes_of(self._settings.root / name) for name in (CURSOR, PENDING)}
        return {name: data for name, data in found.items() if data is not None}

    def _copy_spools(self, cursor: dict[str, int]) -> list[tuple[str, str]]:
        """Copy the unsealed part of spools, the sealed part as newlines; return (subject, time) of its decisions."""
        found: list[tuple[str, str]] = []
        for path in sorted(self._settings.spool.glob("*.jsonl")):
            data = bytes_of(path)
            if data is None:
                continue  # sealed to its end and removed
            end = min(cursor.get(path.name, 0), len(data))
            self._store(f"spool/{path.name}", [b"\n" * end + data[end:]])
            found += decisions_in_spool(data[end:])
        return found

    def _copy_vault(self, spooled: list[tuple[str, str]]) -> None:
        """Copy the vault after making keys for all subjects in the spools, so that later erasures apply to the copy."""
        if spooled and (self._settings.secrets / "vault.key").exists():  # without it there are no decisions
            with closing(Vault(self._settings)) as vault:
                vault.identify(spooled)
        if self._settings.vault.exists():
            self._copy_file(VAULT, self._settings.vault)

    def _copy_log(self) -> None:
        target = self._folder / "log"
        size = sum(one["size"] for one in self._log.values())
        copy = copy_log(self._settings.log_folder, target, self._verifier, self._disk, self._log, self._records)
        self._log, self._records = copy.segments, copy.records
        self._copied += sum(one["size"] for one in copy.segments.values()) - size
        self._files |= {f"{LOG}/{name}": one for name, one in copy.segments.items()}
        for name, data in copy.notes.items():
            self._store(f"{LOG}/{name}", [data])

    def _walk(self, below: str = "") -> Iterator[tuple[str, Path]]:
        """Name and path of each file of the home that belongs to the state."""
        root = self._settings.root
        apart = {self._settings.witness_home.expanduser().resolve(), self._settings.ray_tmp.resolve()}
        for here, folders, files in os.walk(root / below, onerror=reraise_unless_missing):
            for name in [*folders, *files]:
                path = Path(here, name)
                relative = path.relative_to(root).as_posix()
                if not self._is_state(relative) or path in apart:
                    if name in folders:
                        folders.remove(name)
                elif path.is_symlink() or not (path.is_dir() or path.is_file()):
                    if path.is_symlink() or path.exists():
                        self._left_out.add(relative)
                elif path.is_dir():
                    self._folders[relative] = path.stat().st_mode & 0o777
                else:
                    yield relative, path

    def _is_state(self, name: str) -> bool:
        excluded = EXCLUDED if self._keys else EXCLUDED + PRIVATE
        return not any(fnmatch(name, pattern) for pattern in excluded)

    def _copy_file(self, name: str, path: Path) -> None:
        """Copy a file unless the backup has it; a file that was removed meanwhile is skipped."""
        try:
            status = path.stat()
            known = self._before["files"].get(name)
            if is_database(path):
                with self._snapshot(path) as copy, copy.open("rb") as file:
                    self._store(name, chunks_of(file), status.st_mode)
            elif known and (known["size"], known["mtime"]) == (status.st_size, status.st_mtime_ns) and self._has(known):
                self._files[name] = known | {"mode": status.st_mode & 0o777}
            else:
                with path.open("rb") as file:
                    self._store(name, chunks_of(file), status.st_mode, status.st_mtime_ns)
        except FileNotFoundError:
            if path.exists():
                raise

    @contextmanager
    def _snapshot(self, path: Path) -> Iterator[Path]:
        """A consistent copy of a database, also while another process writes it."""
        draft = self._folder / "files" / ".database"
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600))
        with (
            closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=30)) as source,
            closing(sqlite3.connect(draft)) as target,
        ):
            source.backup(target)
        yield draft
        draft.unlink()

    def _has(self, entry: Entry) -> bool:
        place = self._folder / "files" / str(entry["sha256"])
        return place.is_file() and place.stat().st_size == entry["size"]

    def _store(self, name: str, chunks: Iterable[bytes], mode: int = 0o600, mtime: int = 0) -> None:
        """Store content under its digest."""
        place = self._folder / "files"
        draft = place / ".draft"
        draft.unlink(missing_ok=True)
        found, size = hashlib.sha256(), 0
        descriptor = self._disk.open(draft)
        try:
            for chunk in chunks:
                self._disk.append(descriptor, chunk)
                found.update(chunk)
                size += len(chunk)
            self._disk.flush(descriptor)
        finally:
            self._disk.close(descriptor)
        entry: Entry = {"sha256": found.hexdigest(), "size": size, "mode": mode & 0o777, "mtime": mtime}
        self._copied += 0 if self._has(entry) else size
        self._disk.rename(draft, place / entry["sha256"])
        self._files[name] = entry

    def _remove_unnamed(self) -> None:
        """Delete files that the manifest does not name any more, such as old copies of the vault."""
        named = {one["sha256"] for one in self._files.values()}
        for path in (self._folder / "files").iterdir():
            if path.name not in named:
                self._disk.unlink(path)
