"""Signed notes: plain text followed by signature lines. Pure: bytes in, bytes out.

    text, ending in a newline
    <empty line>
    — name base64(key id || signature)

Form and key ids are those of the Go checksum database's notes (c2sp.org/signed-note), so that its tools read ours;
cosignatures are those of c2sp.org/tlog-cosignature, which include the time of the cosignature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_DASH = "— "  # U+2014 and a space
_ED25519, _COSIGNATURE = b"\x01", b"\x04"
_ID_BYTES, _TIME_BYTES, _SIGNATURE_BYTES = 4, 8, 64


class NoteError(ValueError):
    """A note is malformed, or the required signature is missing or invalid."""


@dataclass(frozen=True)
class Verifier:
    """A public key with its name in signature lines."""

    name: str
    key: bytes
    cosigns: bool = False

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || newline || algorithm || key), the first four bytes."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._kind + self.key).digest()[:_ID_BYTES]

    @property
    def vkey(self) -> str:
        """The key as text: `name+hexadecimal id+base64`."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._kind + self.key).decode()}"

    @property
    def _kind(self) -> bytes:
        return _COSIGNATURE if self.cosigns else _ED25519

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """Parse a key in the form of `vkey`.

        Raises:
            NoteError: it is not one.
        """
        name, _, rest = vkey.strip().partition("+")
        given, _, encoded = rest.partition("+")
        blob = _decode(encoded)
        if blob[:1] not in (_ED25519, _COSIGNATURE) or len(blob) != 33 or not _is_name(name):
            raise NoteError(f"{vkey[:80]!r} is no verifier key; expected name+id+base64 of an Ed25519 key")
        verifier = cls(name, blob[1:], blob[:1] == _COSIGNATURE)
        if verifier.key_id.hex() != given:
            raise NoteError(f"the id of verifier key {name!r} is {verifier.key_id.hex()}, not {given[:16]!r}")
        return verifier

    def check(self, note: bytes) -> int | None:
        """Check that the note carries a signature of this key.

        Returns:
            For a cosignature its time in seconds since 1970, else None.

        Raises:
            NoteError: the signature is missing or invalid.
        """
        text, signatures = split(note)
        key = Ed25519PublicKey.from_public_bytes(self.key)
        for name, key_id, signature in signatures:
            if (name, key_id) != (self.name, self.key_id):
                continue
            if len(signature) != _SIGNATURE_BYTES + (_TIME_BYTES if self.cosigns else 0):
                raise NoteError(f"the signature of {self.name} has {len(signature)} bytes")
            moment, message = self._signed(text, signature)
            try:
                key.verify(signature[-_SIGNATURE_BYTES:], message)
            except InvalidSignature:
                raise NoteError(f"the signature of {self.name} does not hold") from None
            return moment
        raise NoteError(f"the note carries no signature of {self.name}")

    def _signed(self, text: bytes, signature: bytes) -> tuple[int | None, bytes]:
        if not self.cosigns:
            return None, text
        moment = int.from_bytes(signature[:_TIME_BYTES], "big")
        return moment, _cosigned(text, moment)


@dataclass(frozen=True)
class Signer:
    """A private key with its name."""

    name: str
    private: Ed25519PrivateKey
    cosigns: bool = False

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return Verifier(self.name, public, self.cosigns)

    def sign(self, text: bytes) -> bytes:
        """A note of this text with one signature.

        Raises:
            NoteError: the text is not UTF-8 ending in a newline, or holds control characters.
        """
        _must_be_text(text)
        return text + b"\n" + self._line(self.private.sign(text))

    def cosign(self, note: bytes, moment: int) -> bytes:
        """The cosignature line of this witness for a note at `moment`, in seconds since 1970."""
        text, _ = split(note)
        signature = self.private.sign(_cosigned(text, moment))
        return self._line(moment.to_bytes(_TIME_BYTES, "big") + signature)

    def _line(self, signature: bytes) -> bytes:
        blob = base64.b64encode(self._key_id + signature).decode()
        return f"{_DASH}{self.name} {blob}\n".encode()

    @cached_property
    def _key_id(self) -> bytes:
        return self.verifier.key_id


def split(note: bytes) -> tuple[bytes, list[tuple[str, bytes, bytes]]]:
    """A note's text and its signature lines as (name, key id, signature), unchecked.

    Raises:
        NoteError: it is not a note.
    """
    text, gap, rest = note.rpartition(b"\n\n")
    if not gap or not rest.endswith(b"\n"):
        raise NoteError("not a signed note: an empty line and signature lines are expected at the end")
    text += b"\n"
    _must_be_text(text)
    signatures = []
    try:
        lines = rest.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise NoteError("not a signed note: not UTF-8") from error
    for line in lines:
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        blob = _decode(encoded)
        if not line.startswith(_DASH) or not _is_name(name) or len(blob) < _ID_BYTES + _SIGNATURE_BYTES:
            raise NoteError(f"not a signature line: {line[:60]!r}")
        signatures.append((name, blob[:_ID_BYTES], blob[_ID_BYTES:]))
    return text, signatures


def _cosigned(text: bytes, moment: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % moment + text


def _must_be_text(text: bytes) -> None:
    try:
        plain = text.decode()
    except UnicodeDecodeError as error:
        raise NoteError("a note's text has to be UTF-8") from error
    if not plain.endswith("\n") or any(ord(c) < 0x20 and c != "\n" for c in plain):
        raise NoteError("a note's text has to end in a newline and hold no other control characters")


def _is_name(name: str) -> bool:
    return bool(name) and not any(c.isspace() or c == "+" for c in name)


def _decode(encoded: str) -> bytes:
    """The decoded bytes; empty if the text is not their canonical base64, whose padding bits could be changed."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return blob if base64.b64encode(blob).decode() == encoded else b""
