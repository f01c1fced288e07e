"""A checkpoint: how many records the log holds and the root of their Merkle tree, as the text of a signed note.

    plimsoll/5d1c0e0f7a3b4c21      the log's name
    1042                           records
    CsUYapGGPo4dkMgIAUqom/Xaj…     root, base64

The form is c2sp.org/tlog-checkpoint. On disk a checkpoint fills exactly one sector, so that a loss of power leaves the
old one or the new one.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from lineage.log.merkle import HASH_BYTES
from lineage.log.signed_note import NoteError, Signer, Verifier, split

SECTOR_BYTES = 512
_MOST_DIGITS = 15


@dataclass(frozen=True)
class Checkpoint:
    """Name, size and root of a log."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> bytes:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()

    @classmethod
    def parse(cls, text: bytes) -> Checkpoint:
        """Read the text of a note.

        Raises:
            NoteError: it is no checkpoint.
        """
        lines = text.decode(errors="replace").split("\n")
        if len(lines) < 4:
            raise NoteError("not a checkpoint: expected the log's name, its size and its root, a line each")
        origin, size, encoded = lines[:3]
        try:
            root = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            root = b""
        plain = size.isascii() and size.isdigit() and len(size) <= _MOST_DIGITS and str(int(size)) == size
        if not plain or len(root) != HASH_BYTES or base64.b64encode(root).decode() != encoded:
            raise NoteError(f"not a checkpoint: size {size[:20]!r}, root {encoded[:50]!r}")
        checkpoint = cls(origin, int(size), root)
        if checkpoint.text != text:
            raise NoteError("not a checkpoint of ours: more lines than name, size and root")
        return checkpoint

    def sign(self, signer: Signer) -> bytes:
        """The signed note."""
        return signer.sign(self.text)


def open_checkpoint(note: bytes, verifier: Verifier) -> Checkpoint:
    """The checkpoint in a note, after checking the log's own signature.

    Raises:
        NoteError: no valid signature of the log's key, or not a checkpoint of the log of that name.
    """
    verifier.check(note)
    checkpoint = Checkpoint.parse(split(note)[0])
    if checkpoint.origin != verifier.name:
        raise NoteError(f"the checkpoint is of {checkpoint.origin!r}, not of {verifier.name!r}")
    return checkpoint


def to_sector(note: bytes) -> bytes:
    """A note as stored on disk: one sector, padded with newlines."""
    return note.ljust(SECTOR_BYTES, b"\n")


def from_sector(data: bytes) -> bytes:
    """The note in a sector.

    Raises:
        NoteError: the bytes are not a note padded with newlines.
    """
    note = data.rstrip(b"\n") + b"\n"
    if len(data) != SECTOR_BYTES or to_sector(note) != data:
        raise NoteError(f"the stored checkpoint has {len(data)} bytes; expected {SECTOR_BYTES}")
    return note
