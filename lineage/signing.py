"""Signatures of bundles in the OpenSSF model-signing format under the platform's own key, without network access."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lineage.digest import digest_bytes
from lineage.errors import TamperedError, UnavailableError
from lineage.secret_files import write_secret
from lineage.settings import Settings

_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_SIGNATURE_BYTES = 1024 * 1024  # bytes


def _private_key(settings: Settings) -> Path:
    return settings.root / "keys" / "signing.key"


def _public_key(settings: Settings) -> Path:
    return settings.root / "keys" / "signing.pub"


def signature_of(folder: Path) -> Path:
    """The path of a bundle folder's signature: beside the folder, so that the folder's digest does not cover it."""
    return folder.with_name(folder.name + ".sig")


def make_keys(settings: Settings) -> str:
    """Make the signing key pair (ECDSA P-256) if it is missing; return its name, the digest of the public half.

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
        # The private half is written last and atomically: if it exists, the pair is complete.
        write_secret(
            private,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
        )
    return key_name(settings)


def key_name(settings: Settings) -> str:
    """The digest of the public key: the name of the key in facts.

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
    """Check that every file of a bundle folder is as signed, that none is missing and none was added.

    Raises:
        TamperedError: the signature does not match the bytes, or there is none.
    """
    from model_signing import verifying

    signature = signature_of(folder)
    if not signature.is_file():
        raise TamperedError(f"bundle {folder.name[:12]} has no signature; it cannot be used", field="signature")
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=_public_key(settings)).verify(folder, signature)
    except Exception as error:  # a forged signature may raise any error in the parsers
        raise TamperedError(
            f"the signature of bundle {folder.name[:12]} does not hold: {error!r:.300}", field="signature"
        ) from error


def verify_files(name: str, files: Mapping[str, bytes], signature: Path, settings: Settings) -> None:
    """Check that files in memory are as signed, that none is missing and none was added.

    Unlike `verify` it does not read the files again, so that the bytes checked are the bytes used. It accepts only what
    `sign` writes: a DSSE envelope under the platform's key around an in-toto statement that lists every file.

    Args:
        name: name of the bundle in errors.
        files: content by file name.
        signature: the file that `sign` wrote.
        settings: the home folder with the public key.

    Raises:
        TamperedError: the signature does not match the bytes, or there is none.
        UnavailableError: there is no key.
    """
    try:
        with signature.open("rb") as file:
            envelope = file.read(_SIGNATURE_BYTES)
    except OSError as error:
        raise TamperedError(f"bundle {name[:12]} has no signature; it cannot be used", field="signature") from error
    try:
        key = serialization.load_pem_public_key(_public_key(settings).read_bytes())
    except OSError as error:
        raise UnavailableError("there is no signing key; `plimsoll up` makes one on first start") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TamperedError("the platform's signing key is not an elliptic curve's; restore it", field="signature")
    try:
        signed = _signed_digests(json.loads(envelope), key)
    except (InvalidSignature, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise TamperedError(
            f"the signature of bundle {name[:12]} does not hold: {error!r:.300}", field="signature"
        ) from error
    found = {one: hashlib.sha256(content).hexdigest() for one, content in files.items()}
    if signed != found:
        odd = sorted(one for one in signed.keys() | found.keys() if signed.get(one) != found.get(one))
        raise TamperedError(
            f"the signature of bundle {name[:12]} does not hold: {', '.join(odd)[:200]} not as signed",
            field="signature",
        )


def _signed_digests(bundle: Any, key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """SHA-256 in hexadecimal by file name, after checking the signature over them. Parsing errors are raised as is."""
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"], validate=True)
    (one,) = envelope["signatures"]
    parts = (b"DSSEv1", b"%d" % len(_PAYLOAD), _PAYLOAD.encode(), b"%d" % len(payload), payload)
    key.verify(base64.b64decode(one["sig"], validate=True), b" ".join(parts), ec.ECDSA(hashes.SHA256()))
    statement = json.loads(payload)
    predicate = statement["predicate"]
    kinds = (envelope["payloadType"], statement["_type"], statement["predicateType"])
    if kinds != (_PAYLOAD, _STATEMENT, _PREDICATE) or predicate["serialization"]["method"] != "files":
        raise ValueError(f"it is a statement of another kind: {kinds}")
    resources = predicate["resources"]
    digests = {resource["name"]: str(resource["digest"]) for resource in resources}
    if len(digests) != len(resources) or any(resource["algorithm"] != "sha256" for resource in resources):
        raise ValueError("a file is listed twice or under another algorithm")
    return digests
