"""Signatures of bundles in the OpenSSF model-signing format under the platform's own key, without network access."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
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
        _write_pair(private, public)
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


class BundleKeys:
    """The signing key of bundles, its former keys and the bundles that are not loaded any more.

    keys/signing.key, signing.pub             the key in force
    keys/signing-next.key, signing-next.pub   the next one, until its rotation is on record and installed
    keys/former/<id>.pub                      keys that were in force before
    keys/revoked/<id>.pub                     keys of which nothing counts
    keys/revoked-bundles                      digests of bundles, a line each, that are not loaded
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.root / "keys"

    @property
    def _next(self) -> tuple[Path, Path]:
        return self._folder / "signing-next.key", self._folder / "signing-next.pub"

    def prepare(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The key in force and a new one, as they are recorded.

        Raises:
            UnavailableError: a key cannot be read or written.
        """
        name = make_keys(self._settings)
        private, public = self._next
        try:
            if not private.exists():
                _write_pair(private, public)
            old, new = _public_key(self._settings).read_text(), public.read_text()
        except OSError as error:
            raise UnavailableError(f"a new signing key could not be written: {error.strerror}", field="key") from error
        return {"id": name, "public": old}, {"id": digest_bytes(new.encode()), "public": new}

    def finish(self, in_force: str | None) -> None:
        """Install the next key if `in_force`, the public key on record, is its public half; else throw it away.

        Raises:
            UnavailableError: a file cannot be written.
        """
        private, public = self._next
        try:
            if public.exists() and in_force is not None and public.read_text() == in_force:
                now = _public_key(self._settings)
                if now.read_text() != in_force:
                    self._place("former", now.read_text())
                if private.exists():
                    private.replace(_private_key(self._settings))
                public.replace(now)
            for path in self._next:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError(f"the signing key could not be installed: {error.strerror}", field="key") from error

    def bar(self, digests: Iterable[str], key_ids: Iterable[str]) -> None:
        """Have no process load these bundles, nor any bundle that was signed by these keys.

        Raises:
            UnavailableError: a file cannot be written.
        """
        try:
            for key_id in key_ids:
                path = self._path("former", key_id)
                if path.exists():
                    self._place("revoked", path.read_text())
                    path.unlink()
            lines = "".join(f"{digest.removeprefix('sha256:')}\n" for digest in sorted(set(digests)))
            path = self._folder / "revoked-bundles"
            if lines or path.exists():
                write_secret(path, lines)
        except OSError as error:
            raise UnavailableError(f"revoked bundles could not be listed: {error.strerror}", field="key") from error

    def counting(self) -> list[Path]:
        """Files of the public keys whose signatures count: the one in force, then former ones."""
        return [_public_key(self._settings), *sorted((self._folder / "former").glob("*.pub"))]

    def revoked(self) -> list[Path]:
        """Files of the public keys of which nothing counts."""
        return sorted((self._folder / "revoked").glob("*.pub"))

    def named(self, key_id: str) -> Path:
        """The file of the public key with this id, whether or not it counts now.

        Raises:
            TamperedError: there is none.
        """
        for path in (*self.counting(), *self.revoked()):
            if path.exists() and digest_bytes(path.read_bytes()) == key_id:
                return path
        raise TamperedError(f"the signing key {key_id[:19]}… is none of this platform", field="signature")

    def check_not_barred(self, name: str) -> None:
        """Refuse a bundle that is listed as revoked.

        Raises:
            TamperedError: its signing key was revoked before it was registered.
            UnavailableError: the list cannot be read.
        """
        try:
            barred = (self._folder / "revoked-bundles").read_text().split()
        except FileNotFoundError:
            return
        except OSError as error:
            raise UnavailableError(f"the list of revoked bundles cannot be read: {error.strerror}") from error
        if name in barred:
            message = f"bundle {name[:12]} is signed by a key that was revoked before it was registered"
            raise TamperedError(f"{message}; train it again", field="signature")

    def _place(self, where: str, pem: str) -> None:
        path = self._path(where, digest_bytes(pem.encode()))
        path.parent.mkdir(exist_ok=True, mode=0o700)
        write_secret(path, pem)

    def _path(self, where: str, key_id: str) -> Path:
        return self._folder / where / f"{key_id.removeprefix('sha256:')}.pub"


def _write_pair(private: Path, public: Path) -> None:
    """Make a key pair (ECDSA P-256); the private half is written last and atomically: if it exists, both do."""
    key = ec.generate_private_key(ec.SECP256R1())
    private.parent.mkdir(parents=True, exist_ok=True)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, spki))
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    write_secret(private, pem.decode())


def sign(folder: Path, settings: Settings) -> str:
    """Sign every file of a bundle folder; return the name of the key.

    Raises:
        UnavailableError: the key or the folder cannot be read.
    """
    from model_signing import signing

    name = key_name(settings)
    signing.Config().use_elliptic_key_signer(private_key=_private_key(settings)).sign(folder, signature_of(folder))
    return name


def verify(folder: Path, settings: Settings, *, key_id: str | None = None) -> None:
    """Check that every file of a bundle folder is as signed, that none is missing and none was added.

    Args:
        folder: of the bundle.
        settings: the home with the public keys.
        key_id: the key that the record names for this bundle, which may have been revoked since; None for any key of
            the platform whose signatures count now.

    Raises:
        TamperedError: the signature does not match the bytes, there is none, or its key is revoked.
    """
    from model_signing import verifying

    signature = signature_of(folder)
    if not signature.is_file():
        raise TamperedError(f"bundle {folder.name[:12]} has no signature; it cannot be used", field="signature")
    keys = BundleKeys(settings)
    paths = [*keys.revoked(), *reversed(keys.counting())] if key_id is None else [keys.named(key_id)]
    for path in paths:
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=path).verify(folder, signature)
        except Exception as error:  # a forged signature may raise any error in the parsers
            if path != paths[-1]:
                continue
            raise TamperedError(
                f"the signature of bundle {folder.name[:12]} does not hold: {error!r:.300}", field="signature"
            ) from error
        if key_id is None and path in keys.revoked():
            raise _revoked(folder.name)
        return


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
    keys = BundleKeys(settings)
    keys.check_not_barred(name)
    try:
        known = [_load_public(path) for path in keys.counting()]
        revoked = [_load_public(path) for path in keys.revoked()]
    except OSError as error:
        raise UnavailableError("there is no signing key; `plimsoll up` makes one on first start") from error
    try:
        if _is_signed_by(json.loads(envelope), revoked):
            raise _revoked(name)
        signed = _signed_by_one(json.loads(envelope), known)
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


def _load_public(path: Path) -> ec.EllipticCurvePublicKey:
    key = serialization.load_pem_public_key(path.read_bytes())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TamperedError(f"the signing key {path.name} is not an elliptic curve's; restore it", field="signature")
    return key


def _revoked(name: str) -> TamperedError:
    message = f"bundle {name[:12]} is signed by a key that is revoked from its beginning on; train it again"
    return TamperedError(message, field="signature")


def _is_signed_by(bundle: Any, keys: list[ec.EllipticCurvePublicKey]) -> bool:
    for key in keys:
        with suppress(InvalidSignature):
            return bool(_signed_digests(bundle, key))
    return False


def _signed_by_one(bundle: Any, keys: list[ec.EllipticCurvePublicKey]) -> dict[str, str]:
    """As `_signed_digests`, for the first of these keys whose signature holds."""
    for key in keys[:-1]:
        with suppress(InvalidSignature):
            return _signed_digests(bundle, key)
    return _signed_digests(bundle, keys[-1])


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
