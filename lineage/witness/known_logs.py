"""Keys in a witness's folder: its own, and one key for each watched log, pinned to the log's name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from lineage.errors import InvalidError, RefusedError, TamperedError, UnavailableError
from lineage.log.disk import Disk
from lineage.log.handover import HandOver
from lineage.log.signed_note import NoteError, Signer, Verifier
from lineage.secret_files import write_secret
from lineage.witness.protocol import file_name

OWN_KEY, OWN_VKEY = "witness.key", "witness.vkey"
_NAME_CHARACTERS = 200


def own_key(folder: Path, disk: Disk) -> Signer:
    """The witness's signer; its key is made when the folder is new.

    Raises:
        TamperedError: the private and public half do not belong together.
        UnavailableError: the key is missing or cannot be read.
    """
    vkey = folder / OWN_VKEY
    if vkey.exists() and not (folder / OWN_KEY).exists():
        message = f"{OWN_KEY} is gone; restore it, or begin as another witness in an empty folder"
        raise UnavailableError(message, field="key")
    private = _load_or_make(folder / OWN_KEY)
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    # named after the key, so that another key is another witness
    signer = Signer(f"plimsoll-witness/{hashlib.sha256(public).hexdigest()[:8]}", private, cosigns=True)
    if not vkey.exists():
        disk.replace(vkey, f"{signer.verifier.vkey}\n".encode())  # flushes the folder's names too
    if _read_vkey(vkey) != signer.verifier:
        raise TamperedError(f"{OWN_KEY} and {OWN_VKEY} are not of one key; restore both from one backup", field="key")
    return signer


def _load_or_make(path: Path) -> Ed25519PrivateKey:
    try:
        if not path.exists():
            made = Ed25519PrivateKey.generate()
            write_secret(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
        key = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"it is {type(key).__name__}; expected Ed25519")
    except (OSError, TypeError, ValueError) as error:
        raise UnavailableError(f"the witness's {path.name} cannot be used: {error}", field="key") from error
    return key


def watched_logs(folder: Path, own: Verifier) -> dict[str, Verifier]:
    """The watched logs' keys by name.

    Raises:
        InvalidError: a file in `logs/` is no verifier key, or not named after its log.
        RefusedError: a log's key is the witness's own.
    """
    known = {}
    for path in sorted((folder / "logs").glob("*.vkey")):
        verifier = _read_vkey(path)
        if path != vkey_file(folder, verifier.name):
            raise InvalidError(f"logs/{path.name} is the key of {verifier.name!r}; add it with --add", field="logs")
        check_not_own_key(own, verifier)
        known[verifier.name] = verifier
    return known


def watched_log(folder: Path, own: Verifier, origin: str) -> Verifier | None:
    """The key of one log; None if it is not watched.

    Raises:
        RefusedError: it is the witness's own.
    """
    path = vkey_file(folder, origin)
    if len(path.name) > _NAME_CHARACTERS + len(path.suffix) or not path.exists():
        return None
    verifier = _read_vkey(path)
    check_not_own_key(own, verifier)
    return verifier


def register(folder: Path, vkey: str, *, disk: Disk | None = None) -> Verifier:
    """Add a log to watch, also while the witness runs, and pin its key.

    Raises:
        InvalidError: it is not the verifier key of a log.
        RefusedError: another key is pinned for the log, or the key is the witness's own (403).
        UnavailableError: it could not be stored.
    """
    verifier = log_vkey(vkey)
    own = folder / OWN_VKEY
    if own.exists():
        check_not_own_key(_read_vkey(own), verifier)
    path = vkey_file(folder, verifier.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _put_first(path, f"{verifier.vkey}\n".encode(), disk or Disk())
    except OSError as error:
        raise UnavailableError(f"the key of {verifier.name} could not be stored: {error.strerror}") from error
    if _read_vkey(path) != verifier:
        message = f"{verifier.name} is known by another key; remove logs/{path.name} only if you know why it changed"
        raise RefusedError(message, code="key_changed", status=403, field="vkey")
    return verifier


def replace_key(folder: Path, handover: HandOver, *, disk: Disk) -> None:
    """Pin the new key of a hand-over in place of the former one; hand-overs are kept in `logs/<log>.handovers`.

    Raises:
        RefusedError: the new key is the witness's own (403).
        UnavailableError: it could not be stored.
    """
    check_not_own_key(_read_vkey(folder / OWN_VKEY), handover.new)
    path = vkey_file(folder, handover.head.origin)
    kept = path.with_suffix(".handovers")
    try:
        before = kept.read_bytes() if kept.exists() else b""
        if handover.note not in before:
            disk.replace(kept, before + handover.note + b"\n")
        disk.replace(path, f"{handover.new.vkey}\n".encode())
    except OSError as error:
        raise UnavailableError(f"the key of {handover.head.origin} could not be stored: {error.strerror}") from error


def _put_first(path: Path, data: bytes, disk: Disk) -> None:
    """Create a file atomically unless another process has created it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    disk.replace(draft, data)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # the caller compares
    finally:
        disk.unlink(draft)
    disk.flush_folder(path.parent)


def vkey_file(folder: Path, origin: str) -> Path:
    """The path of a log's key."""
    return folder / "logs" / f"{file_name(origin)}.vkey"


def _read_vkey(path: Path) -> Verifier:
    try:
        return Verifier.parse(path.read_text())
    except OSError as error:
        raise UnavailableError(f"{path.name} cannot be read: {error.strerror}", field="vkey") from error
    except ValueError as error:  # NoteError, or not UTF-8
        raise InvalidError(f"{path.name} holds no verifier key: {error}", field="vkey") from error


def log_vkey(vkey: str) -> Verifier:
    """Parse a log's verifier key.

    Raises:
        InvalidError: it is not one.
    """
    try:
        verifier = Verifier.parse(vkey)
    except NoteError as error:
        raise InvalidError(str(error), field="vkey") from error
    if verifier.cosigns or len(file_name(verifier.name)) > _NAME_CHARACTERS or not verifier.name.isprintable():
        message = f"{verifier.name[:80]!r} is no log's key; expected type 1 and a printable name of usual length"
        raise InvalidError(message, field="vkey")
    return verifier


def check_not_own_key(own: Verifier, watched: Verifier) -> None:
    """Refuse a log whose key is the witness's own.

    Raises:
        RefusedError: both keys are the same, whatever their names.
    """
    if own.key == watched.key:
        message = (
            f"{watched.name} signs with the witness's own key: nobody is his own witness; each needs a key of its own"
        )
        raise RefusedError(message, code="same_key", status=403, field="vkey")
