"""Restore of a backup: write its files, verify all of them, compare with the witness, and record losses."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from lineage.backup.manifest import (
    CURSOR,
    PENDING,
    REASON,
    Manifest,
    as_unavailable,
    bytes_of,
    chunks_of,
    copy_log,
    is_segment,
    read_manifest,
)
from lineage.backup.new_log import read_log, start_new_log, verifier_of
from lineage.clock import Clock, now
from lineage.errors import InvalidError, RefusedError, TamperedError, UnavailableError
from lineage.ledger import Ledger
from lineage.log.disk import Disk
from lineage.log.merkle import Tree
from lineage.log.reader import log_keys, segments
from lineage.log.signing_key import signer_at
from lineage.privacy.key_vault import Vault
from lineage.rules.draft import REASON_CHARACTERS, Draft
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM
from lineage.settings import Settings
from lineage.signing import make_keys
from lineage.verify import verify_ledger
from lineage.witness.comparison import check_against_copy, check_against_witness
from lineage.witness.protocol import file_name

_LEDGER = Actor("ledger", PLATFORM)
_OWN = 0o700  # of a recorded mode: earlier versions made files that other accounts could read


@dataclass
class Restored:
    """Summary of a restored and verified home.

    Attributes:
        erased: persons erased again, since the vault of the backup still had their keys.
        seen: records that the witness cosigned (None: it did not answer).
        lost: what is missing, as sentences.
        continues: name of the log that a new log replaces, if any.
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


def restore(
    source: Path,
    settings: Settings,
    *,
    log: Path | None = None,
    accept_loss: str | None = None,
    clock: Clock = now,
    disk: Disk | None = None,
) -> Restored:
    """Restore a backup into an empty home, verify all of it, and compare it with the witness.

    Args:
        source: folder of the backup.
        settings: the home to restore into.
        log: a newer copy of the same log, e.g. of the damaged home or another backup, used in place of the backup's.
        accept_loss: reason for accepting missing data; it is recorded. If the witness cosigned records that are
            missing, the log cannot continue under its name: a new log starts with the same records and names the old.
        clock: gives the time of the record of a loss.
        disk: port for disk operations.

    Raises:
        RefusedError: the home is not empty; or data is missing (code `loss`) and `accept_loss` is None.
        TamperedError: the backup is unfinished or was changed (`field` names the file), the log does not verify, or
            the witness cosigned another history.
        InvalidError: the folder `log` holds no log, or the reason is empty.
        UnavailableError: a file cannot be read or written.
    """
    _check_reason(accept_loss)
    manifest, disk = read_manifest(source), disk or Disk()
    with as_unavailable("nothing was restored"), _staging(settings.root) as staging:
        home = _settings_of(settings, staging)
        _write_files(source, manifest, staging, disk)
        if log is not None:
            _replace_log(log, home, disk)
        found, tree = _verify_home(home, manifest)
        if log is not None and found.erased:
            _rename_spools(home)
        records_gone = _compare_with_witness(settings, home, tree, found)
        if found.lost:
            _require_accepted_loss(home, manifest, found, accept_loss)
            if records_gone:
                found.continues = start_new_log(home)
                found.log = verifier_of(home).name
            _record_loss(home, found, f"of {manifest['at']}: {'; '.join(found.lost)}", str(accept_loss), clock)
        return found


def rehearse(source: Path, settings: Settings) -> Restored:
    """Restore a backup without keys, to measure the time: no comparison with the witness; the home cannot sign.

    Raises:
        RefusedError: the backup has keys; use `restore` for it.
        As `restore`.
    """
    manifest = read_manifest(source)
    if manifest["keys"]:
        raise RefusedError("a rehearsal takes a backup without keys; `restore` is for real", code="keys")
    with as_unavailable("nothing was restored"), _staging(settings.root) as staging:
        _write_files(source, manifest, staging, Disk())
        return _verify_home(_settings_of(settings, staging), manifest)[0]


def remove(folder: Path) -> None:
    """Delete a folder, also one with read-only folders in it."""
    for here, folders, _ in os.walk(folder):
        for name in folders:
            if not Path(here, name).is_symlink():
                Path(here, name).chmod(0o700)
    shutil.rmtree(folder)


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A folder for building a home; becomes the home on success, is deleted on failure."""
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


def _write_files(source: Path, manifest: Manifest, target: Path, disk: Disk) -> None:
    """Write and verify every file of the manifest."""
    for name in sorted(manifest["folders"]):
        (target / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, entry in manifest["files"].items():
        stored = source / "log" / Path(name).name if is_segment(name) else source / "files" / entry["sha256"]
        (target / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = hashlib.sha256()
        descriptor = disk.open(target / name)
        try:
            with stored.open("rb") as file:
                for chunk in chunks_of(file, entry["size"]):
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
        (target / name).chmod(entry["mode"] & _OWN)
    for folder in sorted({(target / name).parent for name in manifest["files"]}):
        disk.flush_folder(folder)
    for name, mode in sorted(manifest["folders"].items(), reverse=True):
        (target / name).chmod(mode & _OWN)


def _replace_log(log: Path, home: Settings, disk: Disk) -> None:
    """Replace the backup's log by a newer copy of it."""
    verifier, log = verifier_of(home), log.expanduser().resolve()
    if not segments(log):
        raise InvalidError(f"{log} holds no log; expected a folder with segments and a checkpoint", field="log")
    known, _ = read_log(home.log_folder, verifier)
    newer = home.log_folder.with_name("newer")
    newer.mkdir(mode=0o700)
    copy_log(log, newer, verifier, disk, {}, len(known))
    tree, _ = read_log(newer, verifier)
    if tree.root(len(known)) != known.root():
        raise TamperedError(f"the log in {log} is another history than the backup's, under the same key", field="log")
    remove(home.log_folder)
    newer.rename(home.log_folder)


def _rename_spools(home: Settings) -> None:
    """Rename the spools: after an erasure they seal to other bytes, which need other segment names."""
    for path in home.spool.glob("*.jsonl"):
        path.rename(path.with_name(f"restored-{path.name}"))
    for name in (CURSOR, PENDING):
        data = bytes_of(home.root / name)
        if data is not None:
            renamed = {f"restored-{spool}": where for spool, where in orjson.loads(data).items()}
            Disk().replace(home.root / name, orjson.dumps(renamed))


def _verify_home(home: Settings, manifest: Manifest) -> tuple[Restored, Tree]:
    """Verify a home whose files were written, and repeat the erasures on record."""
    verifier = verifier_of(home)
    tree, erased = read_log(home.log_folder, verifier)
    result = verify_ledger(home)
    if result.records < len(tree):
        first = result.problems[0]
        raise TamperedError(f"record {first['record']}: {first['problem']}", record=first["record"])
    size = sum(one["size"] for one in manifest["files"].values())
    counts = (result.records, len(manifest["files"]), size, result.segments, result.bundles, manifest["keys"])
    found = Restored(verifier.name, *counts)
    found.lost = [f"record {one['record']}: {one['problem']}" for one in result.problems]
    if home.vault.exists() and (home.secrets / "vault.key").exists():  # else the ledger service does it at its start
        with closing(Vault(home)) as vault:
            found.erased = vault.apply_erasures(erased)
    return found, tree


def _compare_with_witness(settings: Settings, home: Settings, tree: Tree, found: Restored) -> bool:
    """Compare with the witness, or with its folder on this machine; return whether records it cosigned are missing."""
    own, url = log_keys(home.log_folder, verifier_of(home)), settings.witness_url or settings.own_witness_url
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
            raise  # not an older log but another history
        found.seen = seen
        gone = f"the witness saw {seen} records of {own.name}, here are {len(tree)}: {seen - len(tree)} are gone"
        found.lost.insert(0, f"{gone}, and with them every erasure that they may hold")
        return True
    found.seen = head.size if head else None
    return False


def _check_reason(reason: str | None) -> None:
    if reason is not None and not 0 < len(reason.strip()) <= REASON:
        message = f"say why the loss is accepted, in at most {REASON} characters; it goes on record"
        raise InvalidError(message, field="accept_loss")


def _require_accepted_loss(home: Settings, manifest: Manifest, found: Restored, reason: str | None) -> None:
    if reason is None:
        summary = "; ".join(found.lost[:5]) + (f"; and {len(found.lost) - 5} more" if len(found.lost) > 5 else "")
        raise RefusedError(
            f"{summary}. Give a newer copy of the log (--log: of the old home, of another backup), or say why this may "
            "be gone (--accept-loss), which goes on record",
            code="loss",
            seen=found.seen,
            size=found.records,
        )
    if not manifest["keys"] or not home.log_key.exists():
        raise RefusedError(
            "the loss has to go on record, and this backup holds no keys; take one that does", code="keys"
        )


def _record_loss(home: Settings, found: Restored, what: str, reason: str, clock: Clock) -> None:
    """Record the loss: the log that this one continues, what is missing, and the reason for accepting that."""
    began = f"It continues {found.continues}, which ended. " if found.continues else ""
    summary = f"{began}Restored from a backup {what}"[: REASON_CHARACTERS - REASON - len(". Accepted: ")]
    ledger = Ledger(home.log_folder, clock=clock, signer=signer_at(home.log_key))
    try:
        data = {"records": len(ledger.records), "torn_bytes": ledger.torn_bytes, "signing_key": make_keys(home)}
        ledger.append(Draft("LedgerOpened", _LEDGER, data, reason=f"{summary}. Accepted: {reason}"))
        found.records = len(ledger.records)
    finally:
        ledger.close()


def _settings_of(settings: Settings, home: Path) -> Settings:
    """The same settings with another home; the witness stays the same."""
    return Settings(**settings.model_dump() | {"home": home})
