"""A backup of the platform's state, taken while it runs, and the way back from it.

    MANIFEST.json    every file with digest, size and mode; written last and in one step
    log/             a copy of the log up to a checkpoint, which the independent verifier reads as it lies
    files/           everything else, each file under its SHA-256
    README.md        what this is, for whoever finds it on a bad day

A later backup into the same folder appends to the copy of the log and adds what is new. Nothing that the manifest
names is changed before the next one is in place: whatever happens, the last finished backup can be restored.

Each decision is on record exactly once after a restore too: spools, the sealer's cursor, log and vault are taken
between two looks at the cursor, and again if a sealing ended meanwhile.
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
    FORMAT,
    LOG,
    MANIFEST,
    PASSED_OVER,
    PENDING,
    PRIVATE,
    TRIES,
    VAULT,
    Entry,
    Manifest,
    alone,
    bytes_of,
    chunks_of,
    copy_log,
    decided_in,
    is_database,
    is_segment,
    names_others,
    read_manifest,
    telling,
    unless_gone,
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


_OURS = {MANIFEST, f"{MANIFEST}.new", _README, f"{_README}.new", "log", "files", "lock"}


_WITH_KEYS = "**It holds private keys and secrets: who has this folder can sign and read as the platform.**"


_WITHOUT = "It holds no private keys and secrets: nothing goes on from it without `keys/` and `secrets/`."


_TOLD = """# Backup of {log}

{keys} It also holds personal data: data sets, and decisions that were not sealed yet.

- Put it back: `plimsoll backup restore FOLDER --home NEW_HOME`. That checks every byte and verifies the record.
- `MANIFEST.json` names every file with its SHA-256. Where it is missing the backup was never finished.
- `log/` is a copy of the log; the independent verifier reads it: `python verify.py log FOLDER/log`.
- Give a newer copy of the log with `--log`, if there is one: whoever was erased since then stays erased.
"""


@dataclass(frozen=True)
class Made:
    """A finished backup. `bytes` in all, `copied` of them by this one; `left_out` is what was no regular file.

    Where `settled` is false a sealing ended during every attempt: after a restore some decisions may stand in two
    segments.
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
) -> Made:
    """Back up a home, whether or not the platform runs.

    Args:
        folder: made when missing; with an earlier backup of the same log in it only what is new is copied.
        keys: whether private keys and secrets go along. Who has a backup with them can sign and read as the platform.

    Raises:
        InvalidError: the folder lies in the home, the home in the folder, or it holds something else.
        UnknownError: there is no log to back up.
        RefusedError: the folder holds a backup of another log or of more records, or another backup is under way.
        TamperedError: the log or the earlier backup is not what was written.
        UnavailableError: a file cannot be read or written; an earlier backup is as it was.
    """
    folder = folder.expanduser().resolve()
    if folder.is_relative_to(settings.root) or settings.root.is_relative_to(folder):
        raise InvalidError(f"{folder} and {settings.root} lie in each other; choose a folder elsewhere", field="dest")
    with telling("the backup is not finished, an earlier one is as it was"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        foreign = {path.name for path in folder.iterdir()} - _OURS
        if foreign:
            raise InvalidError(f"{folder} holds {min(foreign)}, which is no part of a backup", field="dest")
        with alone(folder / "lock"):
            return _Backup(settings, folder, keys, disk or Disk()).make(stamp(clock()))


class _Backup:
    """One backup under way."""

    def __init__(self, settings: Settings, folder: Path, keys: bool, disk: Disk) -> None:
        self._settings, self._folder, self._keys, self._disk = settings, folder, keys, disk
        there = (folder / MANIFEST).exists()
        self._before: Manifest = read_manifest(folder) if there else {"log": None, "records": 0, "files": {}}
        self._verifier = self._signer()
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

    def make(self, at: str) -> Made:
        """Copy everything, the manifest last."""
        self._take_log()  # most of it, so that the cut is short
        settled = self._cut()
        for first in (True, False):  # what names other files comes before them: whatever it names is there then
            for name, path in self._walk():
                if name not in self._files and names_others(name) is first:
                    self._keep(name, path)
        manifest = {"v": FORMAT, "at": at, "log": self._verifier.name, "records": self._records, "keys": self._keys}
        manifest |= {"settled": settled, "left_out": sorted(self._left_out)}
        manifest |= {"folders": self._folders, "files": self._files}
        for inner in ("log", "files"):
            self._disk.flush_folder(self._folder / inner)
        told = _TOLD.format(log=self._verifier.name, keys=_WITH_KEYS if self._keys else _WITHOUT)
        self._disk.replace(self._folder / _README, told.encode())
        whole = canonical(manifest | {"digest": digest_of(manifest)})
        self._disk.replace(self._folder / MANIFEST, whole + b"\n")
        self._sweep()
        size = sum(one["size"] for one in self._files.values())
        counts = (len(self._files), size, self._copied, self._keys, settled, sorted(self._left_out))
        return Made(self._verifier.name, self._records, *counts)

    def _signer(self) -> Verifier:
        """The log's public key; where keys go along, all of them have to be there and be the right ones."""
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

    def _cut(self) -> bool:
        """What has to fit together; whether it does."""
        for _ in range(TRIES):
            sealed = self._sealed()
            self._files = {name: one for name, one in self._files.items() if not name.startswith("spool/")}
            for name, path in self._walk("ledger"):  # before the log: nothing is told of records it does not hold
                if name != VAULT:
                    self._keep(name, path)
            for name in (CURSOR, PENDING):
                self._files.pop(name, None)
                if name in sealed:
                    self._put(name, [sealed[name]])
            spooled = self._take_spools(orjson.loads(sealed.get(CURSOR, b"{}")))
            self._take_log()
            self._take_vault(spooled)
            if self._sealed() == sealed:
                return True
        return False

    def _sealed(self) -> dict[str, bytes]:
        """How far the spools are sealed, and what is being sealed."""
        found = {name: bytes_of(self._settings.root / name) for name in (CURSOR, PENDING)}
        return {name: data for name, data in found.items() if data is not None}

    def _take_spools(self, cursor: dict[str, int]) -> list[tuple[str, str]]:
        """What is not sealed yet, the rest as line ends; who was decided about, and when."""
        found: list[tuple[str, str]] = []
        for path in sorted(self._settings.spool.glob("*.jsonl")):
            data = bytes_of(path)
            if data is None:
                continue  # sealed to its end and removed
            end = min(cursor.get(path.name, 0), len(data))
            self._put(f"spool/{path.name}", [b"\n" * end + data[end:]])
            found += decided_in(data[end:])
        return found

    def _take_vault(self, spooled: list[tuple[str, str]]) -> None:
        """The vault, once it knows everybody in the spools: whoever is erased later is erased by a key it holds."""
        if spooled and (self._settings.secrets / "vault.key").exists():  # without it nobody is decided about
            with closing(Vault(self._settings)) as vault:
                vault.identify(spooled)
        if self._settings.vault.exists():
            self._keep(VAULT, self._settings.vault)

    def _take_log(self) -> None:
        target = self._folder / "log"
        size = sum(one["size"] for one in self._log.values())
        copy = copy_log(self._settings.log_folder, target, self._verifier, self._disk, self._log, self._records)
        self._log, self._records = copy.segments, copy.records
        self._copied += sum(one["size"] for one in copy.segments.values()) - size
        self._files |= {f"{LOG}/{name}": one for name, one in copy.segments.items()}
        for name, data in copy.notes.items():
            self._put(f"{LOG}/{name}", [data])

    def _walk(self, below: str = "") -> Iterator[tuple[str, Path]]:
        """Name and path of each file of the home that is state."""
        root = self._settings.root
        apart = {self._settings.witness_home.expanduser().resolve(), self._settings.ray_tmp.resolve()}
        for here, folders, files in os.walk(root / below, onerror=unless_gone):
            for name in [*folders, *files]:
                path = Path(here, name)
                told = path.relative_to(root).as_posix()
                if not self._is_state(told) or path in apart:
                    if name in folders:
                        folders.remove(name)
                elif path.is_symlink() or not (path.is_dir() or path.is_file()):
                    if path.is_symlink() or path.exists():
                        self._left_out.add(told)
                elif path.is_dir():
                    self._folders[told] = path.stat().st_mode & 0o777
                else:
                    yield told, path

    def _is_state(self, name: str) -> bool:
        passed_over = PASSED_OVER if self._keys else PASSED_OVER + PRIVATE
        return not any(fnmatch(name, pattern) for pattern in passed_over)

    def _keep(self, name: str, path: Path) -> None:
        """Copy a file unless the backup has it; one that went away meanwhile is none."""
        try:
            status = path.stat()
            known = self._before["files"].get(name)
            if is_database(path):
                with self._snapshot(path) as copy, copy.open("rb") as file:
                    self._put(name, chunks_of(file), status.st_mode)
            elif known and (known["size"], known["mtime"]) == (status.st_size, status.st_mtime_ns) and self._has(known):
                self._files[name] = known | {"mode": status.st_mode & 0o777}
            else:
                with path.open("rb") as file:
                    self._put(name, chunks_of(file), status.st_mode, status.st_mtime_ns)
        except FileNotFoundError:
            if path.exists():
                raise

    @contextmanager
    def _snapshot(self, path: Path) -> Iterator[Path]:
        """A database as it stands between two transactions, whoever writes it."""
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

    def _put(self, name: str, chunks: Iterable[bytes], mode: int = 0o600, mtime: int = 0) -> None:
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

    def _sweep(self) -> None:
        """Forget what the manifest does not name any more, old copies of the vault among it."""
        named = {one["sha256"] for one in self._files.values()}
        for path in (self._folder / "files").iterdir():
            if path.name not in named:
                self._disk.unlink(path)
