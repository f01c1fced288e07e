"""The key that signs a log's checkpoints; it also gives the log its name."""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lineage.errors import UnavailableError
from lineage.log.signed_note import Signer, Verifier
from lineage.secret_files import write_secret


def signer_at(path: Path, name: str = "plimsoll") -> Signer:
    """The signer of the private key at `path`, made if missing. Its public half is beside it, with suffix `.vkey`.

    Args:
        path: file of the private key.
        name: a new key is named `name/<16 hexadecimal digits>`.

    Raises:
        UnavailableError: a key cannot be read or written, is not an Ed25519 key, or the two halves do not belong
            together.
    """
    public = path.with_suffix(".vkey")
    try:
        _finish_install(path)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = Signer(f"{name}/{secrets.token_hex(8)}", Ed25519PrivateKey.generate())
            public.write_text(fresh.verifier.vkey + "\n")
            write_secret(path, _pem(fresh.private))  # last: if it exists, both do
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        known = Verifier.parse(public.read_text())
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"it is {type(key).__name__}; expected Ed25519")
        signer = Signer(known.name, key)
        if signer.verifier != known:
            raise ValueError(f"it does not belong to {public.name}")
        return signer
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"the signing key {path.name} cannot be used: {error}. Restore it from the backup of the keys", field="key"
        ) from error


def next_signer_at(path: Path) -> Signer:
    """The signer that will follow the one at `path`, with the same name; made if missing, beside it as `.next`.

    Raises:
        UnavailableError: as `signer_at`, or it cannot be written.
    """
    present, draft = signer_at(path), next_key(path)
    try:
        if not draft.exists():
            fresh = Signer(present.name, Ed25519PrivateKey.generate())
            draft.with_suffix(".vkey").write_text(fresh.verifier.vkey + "\n")
            write_secret(draft, _pem(fresh.private))
    except OSError as error:
        raise UnavailableError(f"a new key could not be written: {error.strerror}", field="key") from error
    return signer_at(draft)


def next_key(path: Path) -> Path:
    """The file of the key that will follow the one at `path`."""
    return path.with_name(f"{path.stem}-next{path.suffix}")


def install_next(path: Path) -> None:
    """Replace the key at `path` by its successor; the private half of the former key is destroyed.

    Raises:
        OSError: the disk failed; `signer_at` finishes what was begun.
    """
    vkey = next_key(path).with_suffix(".vkey").read_text()
    draft = path.with_suffix(".vkey.new")
    draft.write_text(vkey)
    draft.replace(path.with_suffix(".vkey"))
    _finish_install(path)


def discard_next(path: Path) -> None:
    """Remove a successor that was never installed."""
    next_key(path).unlink(missing_ok=True)
    next_key(path).with_suffix(".vkey").unlink(missing_ok=True)


def _finish_install(path: Path) -> None:
    """Move the successor's private half into place if the public half is there already."""
    draft, public = next_key(path), path.with_suffix(".vkey")
    other = draft.with_suffix(".vkey")
    if public.exists() and other.exists() and public.read_text() == other.read_text():
        if draft.exists():
            draft.replace(path)
        other.unlink()


def public_keys(path: Path) -> list[Verifier]:
    """The public keys whose signatures count now: the one at `path`, and its successor while one is being installed.

    Raises:
        UnavailableError: a key cannot be read.
    """
    found = (verifier_at(path), verifier_at(next_key(path)))
    return [one for one in dict.fromkeys(found) if one is not None]


def verifier_at(path: Path) -> Verifier | None:
    """The public half of the key at `path`, whose private half need not be readable; None if there is none.

    Raises:
        UnavailableError: it cannot be read.
    """
    public = path.with_suffix(".vkey")
    try:
        return Verifier.parse(public.read_text()) if public.exists() else None
    except (OSError, ValueError) as error:
        raise UnavailableError(f"the public key {public.name} cannot be read: {error}", field="key") from error


def _pem(key: Ed25519PrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
