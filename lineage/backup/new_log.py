"""Continuing the records of a log under a new name and key, after records that a witness cosigned were lost."""

from __future__ import annotations

from pathlib import Path

from lineage.backup.manifest import (
    COSIGNED,
    Entry,
    is_open,
)
from lineage.errors import RefusedError, TamperedError
from lineage.log.checkpoint import Checkpoint, to_sector
from lineage.log.disk import Disk
from lineage.log.handover import handover_files
from lineage.log.merkle import Tree
from lineage.log.reader import CHECKPOINT, VKEY, Chain, verifier_in
from lineage.log.signed_note import Verifier
from lineage.log.signing_key import signer_at, verifier_at
from lineage.settings import Settings


def start_new_log(settings: Settings) -> str:
    """Continue the records of a log under a new name and key; return the old name. The log must not be open.

    The old log's last checkpoint and public key are kept in `ledger/ended/`; its private key is deleted, so that
    nothing can be signed in its name here. To a witness the new log is another log.

    Raises:
        RefusedError: a ledger service has the log open.
        TamperedError: the log does not verify.
    """
    log, old = settings.log_folder, verifier_of(settings)
    if is_open(log):
        raise RefusedError(f"a ledger service has {log} open; stop it first", code="already_open")
    tree, _ = read_log(log, old)
    ended = log.parent / "ended" / old.name.rpartition("/")[2]
    ended.mkdir(parents=True, mode=0o700)
    for name in (CHECKPOINT, VKEY, COSIGNED, *(path.name for path in handover_files(log))):
        if (log / name).exists():
            (log / name).rename(ended / name)
    for path in (settings.log_key, settings.log_key.with_suffix(".vkey")):
        path.unlink(missing_ok=True)
    signer, disk = signer_at(settings.log_key), Disk()
    disk.replace(log / VKEY, f"{signer.verifier.vkey}\n".encode())
    disk.replace(log / CHECKPOINT, to_sector(Checkpoint(signer.name, len(tree), tree.root()).sign(signer)))
    return old.name


def read_log(folder: Path, verifier: Verifier) -> tuple[Tree, list[Entry]]:
    """The Merkle tree over a whole log, and its erasure records; raises TamperedError if it does not verify."""
    whole = Chain(folder, verifier)
    erased = [entry.record for entry in whole if entry.record["kind"] == "SubjectErased"]
    return whole.tree, erased


def verifier_of(home: Settings) -> Verifier:
    verifier = verifier_at(home.log_key) or verifier_in(home.log_folder)
    if verifier is None:
        raise TamperedError("nothing names the key of the log", field="keys")
    return verifier
