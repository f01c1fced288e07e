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
