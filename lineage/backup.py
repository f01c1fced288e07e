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

import fcntl
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import orjson

from lineage.chain import CHECKPOINT, VKEY, Chain, read_note, segments, verifier_in
from lineage.checkpoint import Checkpoint, open_checkpoint, to_sector
from lineage.clock import Clock, now, stamp
from lineage.cosigning import check_against_copy, check_against_witness
from lineage.digest import canonical, digest_of
from lineage.disk import Disk
from lineage.draft import REASON_CHARACTERS, Draft
from lineage.errors import InvalidError, RefusedError, TamperedError, UnavailableError, UnknownError
from lineage.guards import PLATFORM, Actor
from lineage.ledger import Ledger
from lineage.logkey import signer_at, verifier_at
from lineage.merkle import Tree
from lineage.note import NoteError, Verifier
from lineage.settings import Settings
from lineage.signing import make_keys
from lineage.subjects import Vault
from lineage.verify import verify_ledger
from lineage.witnessing import file_name

MANIFEST, FORMAT = "MANIFEST.json", 1
Entry = dict[str, Any]
Manifest = dict[str, Any]
_LOG, _VAULT, _COSIGNED = "ledger/log", "ledger/subjects.db", "cosigned"
_CURSOR, _PENDING = "decisions/cursor.json", "decisions/pending.json"
_README = "README.md"
_OURS = {MANIFEST, f"{MANIFEST}.new", _README, f"{_README}.new", "log", "files", "lock"}
_CHUNK, _TRIES, _REASON = 1024 * 1024, 20, 1_000
#: No state: made from the log, of one run of the platform, or half written; `*` stands for folders too.
_PASSED_OVER = (
    *("run", "logs", "tune", "status.json", "secrets/session.json", ".restoring"),
    *("ledger/lineage.duckdb*", "decisions/index.db*", "ledger/*.lock", "*.db-journal", "*.db-wal", "*.db-shm"),
    *("ledger/*.new", "keys/*.new", "secrets/*.new", "decisions/*.part", "datasets/*.tmp"),
    *("artefacts/.staging-*", "reports/.report-*"),
    "datasets/*/_last_checkpoint",  # Delta's hint at a file that may come after the copy; its log says the same
    *(_LOG, "spool", _CURSOR, _PENDING),  # taken apart from the rest
)
_PRIVATE = ("keys/*.key", "secrets/*")
_LEDGER = Actor("ledger", PLATFORM)
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


@dataclass
class Restored:
    """A home that was put back and verified.

    `erased` persons were still known to the vault and are not any more; `seen` records a witness vouches for (None:
    none could be asked); `lost` says what is gone; `continues` is the log in whose place a new one was begun.
    """

    log: str
    records: int
    files: int
    bytes: int
    segments: int
    bundles: int
    keys: bool
    erased: int = 0
    seen: int | None = None
    lost: list[str] = field(default_factory=list)
    continues: str | None = None

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
    with _told("the backup is not finished, an earlier one is as it was"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        foreign = {path.name for path in folder.iterdir()} - _OURS
        if foreign:
            raise InvalidError(f"{folder} holds {min(foreign)}, which is no part of a backup", field="dest")
        with _alone(folder / "lock"):
            return _Backup(settings, folder, keys, disk or Disk()).make(stamp(clock()))


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
        self._log = {Path(name).name: one for name, one in known if _is_segment(name)}
        for inner in ("log", "files"):
            (folder / inner).mkdir(exist_ok=True, mode=0o700)

    def make(self, at: str) -> Made:
        """Copy everything, the manifest last."""
        self._take_log()  # most of it, so that the cut is short
        settled = self._cut()
        for first in (True, False):  # what names other files comes before them: whatever it names is there then
            for name, path in self._walk():
                if name not in self._files and _names_others(name) is first:
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
        for _ in range(_TRIES):
            sealed = self._sealed()
            self._files = {name: one for name, one in self._files.items() if not name.startswith("spool/")}
            for name, path in self._walk("ledger"):  # before the log: nothing is told of records it does not hold
                if name != _VAULT:
                    self._keep(name, path)
            for name in (_CURSOR, _PENDING):
                self._files.pop(name, None)
                if name in sealed:
                    self._put(name, [sealed[name]])
            spooled = self._take_spools(orjson.loads(sealed.get(_CURSOR, b"{}")))
            self._take_log()
            self._take_vault(spooled)
            if self._sealed() == sealed:
                return True
        return False

    def _sealed(self) -> dict[str, bytes]:
        """How far the spools are sealed, and what is being sealed."""
        found = {name: _read(self._settings.root / name) for name in (_CURSOR, _PENDING)}
        return {name: data for name, data in found.items() if data is not None}

    def _take_spools(self, cursor: dict[str, int]) -> list[tuple[str, str]]:
        """What is not sealed yet, the rest as line ends; who was decided about, and when."""
        found: list[tuple[str, str]] = []
        for path in sorted(self._settings.spool.glob("*.jsonl")):
            data = _read(path)
            if data is None:
                continue  # sealed to its end and removed
            end = min(cursor.get(path.name, 0), len(data))
            self._put(f"spool/{path.name}", [b"\n" * end + data[end:]])
            found += _decided(data[end:])
        return found

    def _take_vault(self, spooled: list[tuple[str, str]]) -> None:
        """The vault, once it knows everybody in the spools: whoever is erased later is erased by a key it holds."""
        if spooled and (self._settings.secrets / "vault.key").exists():  # without it nobody is decided about
            with closing(Vault(self._settings)) as vault:
                vault.identify(spooled)
        if self._settings.vault.exists():
            self._keep(_VAULT, self._settings.vault)

    def _take_log(self) -> None:
        target = self._folder / "log"
        size = sum(one["size"] for one in self._log.values())
        copy = _copy_log(self._settings.log_folder, target, self._verifier, self._disk, self._log, self._records)
        self._log, self._records = copy.segments, copy.records
        self._copied += sum(one["size"] for one in copy.segments.values()) - size
        self._files |= {f"{_LOG}/{name}": one for name, one in copy.segments.items()}
        for name, data in copy.notes.items():
            self._put(f"{_LOG}/{name}", [data])

    def _walk(self, below: str = "") -> Iterator[tuple[str, Path]]:
        """Name and path of each file of the home that is state."""
        root = self._settings.root
        apart = {self._settings.witness_home.expanduser().resolve(), self._settings.ray_tmp.resolve()}
        for here, folders, files in os.walk(root / below, onerror=_unless_gone):
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
        passed_over = _PASSED_OVER if self._keys else _PASSED_OVER + _PRIVATE
        return not any(fnmatch(name, pattern) for pattern in passed_over)

    def _keep(self, name: str, path: Path) -> None:
        """Copy a file unless the backup has it; one that went away meanwhile is none."""
        try:
            status = path.stat()
            known = self._before["files"].get(name)
            if _is_database(path):
                with self._snapshot(path) as copy, copy.open("rb") as file:
                    self._put(name, _chunks(file), status.st_mode)
            elif known and (known["size"], known["mtime"]) == (status.st_size, status.st_mtime_ns) and self._has(known):
                self._files[name] = known | {"mode": status.st_mode & 0o777}
            else:
                with path.open("rb") as file:
                    self._put(name, _chunks(file), status.st_mode, status.st_mtime_ns)
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


@dataclass(frozen=True)
class _Copy:
    records: int
    segments: dict[str, Entry]
    notes: dict[str, bytes]


def _copy_log(
    source: Path, target: Path, verifier: Verifier, disk: Disk, before: dict[str, Entry], at_least: int
) -> _Copy:
    """Bring the copy of a log up to what is acknowledged now, of which nothing can be taken back.

    Args:
        before: segments as the copy has them; more than that is left of an attempt that was cut short.
        at_least: so many records the log has to have.
    """
    cosigned = _read(source / _COSIGNED)  # first: the copy must not fall short of what a witness saw
    note = read_note(source)
    if note is None:
        raise UnavailableError(f"{source} has no checkpoint yet; start the ledger service once", field="log")
    try:
        head = open_checkpoint(note, verifier)
    except NoteError as error:
        raise TamperedError(f"the checkpoint in {source} cannot be relied on: {error}", field="log") from error
    # Behind the checkpoint of a log that is written lies what may still be taken back; else it counts, as after a
    # loss of power.
    records = head.size if _is_written(source) else sum(1 for _ in Chain(source, verifier))
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
            copied[path.name] = _extend(path, target / path.name, lines, known, disk)
    notes = {CHECKPOINT: to_sector(note), VKEY: f"{verifier.vkey}\n".encode()}
    notes |= {_COSIGNED: cosigned} if cosigned is not None else {}
    for name, data in notes.items():
        disk.replace(target / name, data)
    return _Copy(records, copied, notes)


def _extend(source: Path, target: Path, lines: int | None, known: Entry | None, disk: Disk) -> Entry:
    """Append to the copy of a segment what the segment has more, up to so many lines or (None) to its end."""
    have = known["size"] if known else 0
    descriptor = disk.open(target)
    try:
        if disk.size(descriptor) < have:
            raise TamperedError(f"log/{target.name} is shorter than {MANIFEST} says; begin a new backup", field="dest")
        disk.truncate(descriptor, have)
        with source.open("rb") as file:
            found, before = hashlib.sha256(), 0
            for chunk in _chunks(file, have):
                found.update(chunk)
                before += chunk.count(b"\n")
            if known and found.hexdigest() != known["sha256"]:
                raise RefusedError(f"log/{target.name} is of another history than {source}", code="other_history")
            for chunk in _chunks(file) if lines is None else _lines(file, lines - before):
                disk.append(descriptor, chunk)
                found.update(chunk)
        disk.flush(descriptor)
        return {"sha256": found.hexdigest(), "size": disk.size(descriptor), "mode": 0o600, "mtime": 0}
    finally:
        disk.close(descriptor)


def restore(
    source: Path,
    settings: Settings,
    *,
    log: Path | None = None,
    accept_loss: str | None = None,
    clock: Clock = now,
    disk: Disk | None = None,
) -> Restored:
    """Put a backup back into a home that holds nothing, verify all of it, and ask the witness what it saw.

    Args:
        log: a newer copy of the same log, e.g. of the damaged home or another backup; it is taken instead.
        accept_loss: why what is gone may be gone; it goes on record. Where a witness saw records that are gone, the
            log cannot go on under its name: a new one is begun that holds the same records and says what it continues.

    Raises:
        RefusedError: the home holds something; or something is gone (code `loss`) and nobody accepts it.
        TamperedError: the backup is unfinished or was changed (`field` names the file), the log does not verify, or
            the witness saw another history.
        InvalidError: the log given is no newer one, or the reason is empty.
        UnavailableError: a file cannot be read or written.
    """
    _check_reason(accept_loss)
    manifest, disk = read_manifest(source), disk or Disk()
    with _told("nothing was restored"), _staging(settings.root) as staging:
        home = _at(settings, staging)
        _lay(source, manifest, staging, disk)
        if log is not None:
            _take_newer(log, home, disk)
        found, tree = _examine(home, manifest)
        if log is not None and found.erased:
            _rename_spools(home)
        behind = _compare(settings, home, tree, found)
        if found.lost:
            _accept(home, manifest, found, accept_loss)
            if behind:
                found.continues = begin_anew(home)
                found.log = _verifier(home).name
            _put_on_record(home, found, f"of {manifest['at']}: {'; '.join(found.lost)}", str(accept_loss), clock)
        return found


def rehearse(source: Path, settings: Settings) -> Restored:
    """Put a backup without keys back, for measuring: the witness is not asked, and the home can sign nothing.

    Raises:
        RefusedError: the backup has keys; only `restore` makes a home to work with.
        As `restore`.
    """
    manifest = read_manifest(source)
    if manifest["keys"]:
        raise RefusedError("a rehearsal takes a backup without keys; `restore` is for real", code="keys")
    with _told("nothing was restored"), _staging(settings.root) as staging:
        _lay(source, manifest, staging, Disk())
        return _examine(_at(settings, staging), manifest)[0]


def begin_anew(settings: Settings) -> str:
    """Go on with the same records under a new name and key; the log must not be open. Returns the old name.

    Of the old log its last checkpoint and its public key are kept in `ledger/ended/`, its private key is not: nothing
    can be signed in its name here any more. A witness remembers it as it was and meets the new one as a new log.

    Raises:
        RefusedError: a ledger has the log open.
        TamperedError: the log does not verify.
    """
    log, old = settings.log_folder, _verifier(settings)
    if _is_written(log):
        raise RefusedError(f"a ledger service has {log} open; stop it first", code="already_open")
    tree, _ = _read_log(log, old)
    ended = log.parent / "ended" / old.name.rpartition("/")[2]
    ended.mkdir(parents=True, mode=0o700)
    for name in (CHECKPOINT, VKEY, _COSIGNED):
        if (log / name).exists():
            (log / name).rename(ended / name)
    for path in (settings.log_key, settings.log_key.with_suffix(".vkey")):
        path.unlink(missing_ok=True)
    signer, disk = signer_at(settings.log_key), Disk()
    disk.replace(log / VKEY, f"{signer.verifier.vkey}\n".encode())
    disk.replace(log / CHECKPOINT, to_sector(Checkpoint(signer.name, len(tree), tree.root()).sign(signer)))
    return old.name


def remove(folder: Path) -> None:
    """Delete a folder also where folders in it may not be written."""
    for here, folders, _ in os.walk(folder):
        for name in folders:
            if not Path(here, name).is_symlink():
                Path(here, name).chmod(0o700)
    shutil.rmtree(folder)


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """Where a home is put together; it becomes the home when all went well, and nothing is left of it when not."""
    existed = root.exists()
    if existed and (not root.is_dir() or any(root.iterdir())):
        raise RefusedError(f"{root} is not empty; restore into a home that holds nothing", code="not_empty")
    staging = root / ".restoring"
    staging.mkdir(parents=True, mode=0o700)
    try:
        yield staging
        for path in sorted(staging.iterdir(), key=lambda path: path.name == "ledger"):  # the ledger last
            path.rename(root / path.name)
        staging.rmdir()
        Disk().flush_folder(root)
    except BaseException:
        remove(staging)
        if not existed and not any(root.iterdir()):
            root.rmdir()
        raise


def _lay(source: Path, manifest: Manifest, target: Path, disk: Disk) -> None:
    """Every file of the manifest, if it is what was backed up."""
    for name in sorted(manifest["folders"]):
        (target / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, entry in manifest["files"].items():
        stored = source / "log" / Path(name).name if _is_segment(name) else source / "files" / entry["sha256"]
        (target / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = hashlib.sha256()
        descriptor = disk.open(target / name)
        try:
            with stored.open("rb") as file:
                for chunk in _chunks(file, entry["size"]):
                    disk.append(descriptor, chunk)
                    found.update(chunk)
            if found.hexdigest() != entry["sha256"]:
                where = stored.relative_to(source)
                raise TamperedError(f"{name} is not what was backed up ({where} was changed)", field=name)
            disk.flush(descriptor)
        except FileNotFoundError as error:
            raise TamperedError(f"{name} is missing: there is no {stored.relative_to(source)}", field=name) from error
        finally:
            disk.close(descriptor)
        (target / name).chmod(entry["mode"])
    for folder in sorted({(target / name).parent for name in manifest["files"]}):
        disk.flush_folder(folder)
    for name, mode in sorted(manifest["folders"].items(), reverse=True):
        (target / name).chmod(mode)


def _take_newer(log: Path, home: Settings, disk: Disk) -> None:
    """Put a newer copy of the log in the place of the backup's."""
    verifier, log = _verifier(home), log.expanduser().resolve()
    if not segments(log):
        raise InvalidError(f"{log} holds no log; expected a folder with segments and a checkpoint", field="log")
    known, _ = _read_log(home.log_folder, verifier)
    newer = home.log_folder.with_name("newer")
    newer.mkdir(mode=0o700)
    _copy_log(log, newer, verifier, disk, {}, len(known))
    tree, _ = _read_log(newer, verifier)
    if tree.root(len(known)) != known.root():
        raise TamperedError(f"the log in {log} is another history than the backup's, under the same key", field="log")
    remove(home.log_folder)
    newer.rename(home.log_folder)


def _rename_spools(home: Settings) -> None:
    """Have what is spooled sealed under other names than before somebody in it was erased: its bytes are others now."""
    for path in home.spool.glob("*.jsonl"):
        path.rename(path.with_name(f"restored-{path.name}"))
    for name in (_CURSOR, _PENDING):
        data = _read(home.root / name)
        if data is not None:
            renamed = {f"restored-{spool}": where for spool, where in orjson.loads(data).items()}
            Disk().replace(home.root / name, orjson.dumps(renamed))


def _examine(home: Settings, manifest: Manifest) -> tuple[Restored, Tree]:
    """Verify a home that was laid, and forget again whom its record says to be erased."""
    verifier = _verifier(home)
    tree, erased = _read_log(home.log_folder, verifier)
    result = verify_ledger(home)
    if result.records < len(tree):
        first = result.problems[0]
        raise TamperedError(f"record {first['record']}: {first['problem']}", record=first["record"])
    size = sum(one["size"] for one in manifest["files"].values())
    counts = (result.records, len(manifest["files"]), size, result.segments, result.bundles, manifest["keys"])
    found = Restored(verifier.name, *counts)
    found.lost = [f"record {one['record']}: {one['problem']}" for one in result.problems]
    if home.vault.exists() and (home.secrets / "vault.key").exists():  # else the ledger service does it when it starts
        with closing(Vault(home)) as vault:
            found.erased = vault.apply_erasures(erased)
    return found, tree


def _compare(settings: Settings, home: Settings, tree: Tree, found: Restored) -> bool:
    """Ask the witness, or where none answers its folder on this machine; whether it saw records that are gone."""
    own, url = _verifier(home), settings.witness_url or settings.own_witness_url
    try:
        try:
            head = check_against_witness(url, home.witness_pin, own, len(tree), tree.root)
        except TamperedError:
            raise
        except UnavailableError:
            memory = settings.witness_home / "seen" / f"{file_name(own.name)}.note"
            head = check_against_copy(memory, home.witness_pin, own, len(tree), tree.root)
    except TamperedError as error:
        seen = error.detail.get("seen", 0)
        if seen <= len(tree):
            raise  # not an older record but another
        found.seen = seen
        gone = f"the witness saw {seen} records of {own.name}, here are {len(tree)}: {seen - len(tree)} are gone"
        found.lost.insert(0, f"{gone}, and with them every erasure that they may hold")
        return True
    found.seen = head.size if head else None
    return False


def _check_reason(reason: str | None) -> None:
    if reason is not None and not 0 < len(reason.strip()) <= _REASON:
        message = f"say why the loss is accepted, in at most {_REASON} characters; it goes on record"
        raise InvalidError(message, field="accept_loss")


def _accept(home: Settings, manifest: Manifest, found: Restored, reason: str | None) -> None:
    if reason is None:
        told = "; ".join(found.lost[:5]) + (f"; and {len(found.lost) - 5} more" if len(found.lost) > 5 else "")
        raise RefusedError(
            f"{told}. Give a newer copy of the log (--log: of the old home, of another backup), or say why this may "
            "be gone (--accept-loss), which goes on record",
            code="loss",
            seen=found.seen,
            size=found.records,
        )
    if not manifest["keys"] or not home.log_key.exists():
        raise RefusedError(
            "the loss has to go on record, and this backup holds no keys; take one that does", code="keys"
        )


def _put_on_record(home: Settings, found: Restored, what: str, reason: str, clock: Clock) -> None:
    """The first record of a home with a loss says what it continues, what is gone and who accepted it for what."""
    began = f"It continues {found.continues}, which ended. " if found.continues else ""
    told = f"{began}Restored from a backup {what}"[: REASON_CHARACTERS - _REASON - len(". Accepted: ")]
    ledger = Ledger(home.log_folder, clock=clock, signer=signer_at(home.log_key))
    try:
        data = {"records": len(ledger.records), "torn_bytes": ledger.torn_bytes, "signing_key": make_keys(home)}
        ledger.append(Draft("LedgerOpened", _LEDGER, data, reason=f"{told}. Accepted: {reason}"))
        found.records = len(ledger.records)
    finally:
        ledger.close()


def _read_log(folder: Path, verifier: Verifier) -> tuple[Tree, list[Entry]]:
    """The tree over a whole log and its erasures; raises TamperedError where it does not hold."""
    whole = Chain(folder, verifier)
    erased = [entry.record for entry in whole if entry.record["kind"] == "SubjectErased"]
    return whole.tree, erased


def _verifier(home: Settings) -> Verifier:
    verifier = verifier_at(home.log_key) or verifier_in(home.log_folder)
    if verifier is None:
        raise TamperedError("nothing names the key of the log", field="keys")
    return verifier


def _at(settings: Settings, home: Path) -> Settings:
    """The same settings for another home; the witness stays where it is."""
    return Settings(**settings.model_dump() | {"home": home})


def _is_segment(name: str) -> bool:
    return name.startswith(f"{_LOG}/") and name.endswith(".jsonl")


def _is_database(path: Path) -> bool:
    if path.suffix != ".db":
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _names_others(name: str) -> bool:
    return name.endswith(".db") or "/_delta_log/" in name


def _decided(lines: bytes) -> Iterator[tuple[str, str]]:
    """Whom the whole lines of a spool say a decision of, and when it was."""
    for line in lines[: lines.rfind(b"\n") + 1].splitlines():
        try:
            row = orjson.loads(line) if line else None
        except orjson.JSONDecodeError:
            continue  # torn: the customer got an error, not a decision
        if isinstance(row, dict) and row.get("type") == "decision":
            yield str(row["key"]), str(row["at"])


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _chunks(file: BinaryIO, most: int | None = None) -> Iterator[bytes]:
    """What a file holds from here on, at most so many bytes."""
    left = most
    while chunk := file.read(_CHUNK if left is None else min(_CHUNK, left)):
        left = None if left is None else left - len(chunk)
        yield chunk


def _lines(file: BinaryIO, count: int) -> Iterator[bytes]:
    """So many whole lines from here on, in one piece."""
    whole = b"".join(islice(file, count))
    if whole.count(b"\n") != count:
        raise TamperedError(f"{Path(file.name).name} ends before the record that its checkpoint counts", field="log")
    yield whole


def _is_written(log: Path) -> bool:
    """Whether a ledger has the log open."""
    try:
        with (log / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefusedError(f"another backup into {path.parent} is under way", code="under_way") from error
        yield


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(f"{what}: {error}", field="backup") from error
