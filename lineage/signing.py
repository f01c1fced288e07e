"""Bundles are signed with the OpenSSF model-signing format under the platform's own key; nothing goes online."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lineage.accounts import write_secret
from lineage.digest import digest_bytes
from lineage.errors import TamperedError, UnavailableError
from lineage.settings import Settings


def _private_key(settings: Settings) -> Path:
    return settings.root / "keys" / "signing.key"


def _public_key(settings: Settings) -> Path:
    return settings.root / "keys" / "signing.pub"


def signature_of(folder: Path) -> Path:
    """Where the signature of a bundle folder lies: beside it, so that the folder's digest does not cover it."""
    return folder.with_name(folder.name + ".sig")


def make_keys(settings: Settings) -> str:
    """Make the signing key pair (ECDSA P-256) unless it is there; return the key's name, the digest of its public half.

    Raises:
        UnavailableError: the folder cannot be written.
    """
    private, public = _private_key(settings), _public_key(settings)
    if not private.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        private.parent.mkdir(parents=True, exist_ok=True)
        public.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        # The private half comes last and whole: once it is there, the pair is complete.
        write_secret(
            private,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
        )
    return key_name(settings)


def key_name(settings: Settings) -> str:
    """The digest of the public key, by which facts name the key that signed.

    Raises:
        UnavailableError: there is no key yet.
    """
    try:
        return digest_bytes(_public_key(settings).read_bytes())
    except OSError as error:
        raise UnavailableError("there is no signing key; `plimsoll up` makes one on first start") from error


def sign(folder: Path, settings: Settings) -> str:
    """Sign every file of a bundle folder; return the name of the key.

    Raises:
        UnavailableError: the key or the folder cannot be read.
    """
    from model_signing import signing

    name = key_name(settings)
    signing.Config().use_elliptic_key_signer(private_key=_private_key(settings)).sign(folder, signature_of(folder))
    return name


def verify(folder: Path, settings: Settings) -> None:
    """Check that every file is as signed, that none is missing and none was added.

    Raises:
        TamperedError: the signature does not match the bytes, or there is none.
    """
    from model_signing import verifying

    signature = signature_of(folder)
    if not signature.is_file():
        raise TamperedError(f"bundle {folder.name[:12]} has no signature; it cannot be used", field="signature")
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=_public_key(settings)).verify(folder, signature)
    except Exception as error:  # whatever a forged signature makes the parsers stumble over, it does not hold
        raise TamperedError(
            f"the signature of bundle {folder.name[:12]} does not hold: {error!r:.300}", field="signature"
        ) from error
