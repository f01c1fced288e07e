"""Signed notes and checkpoints: what was signed verifies, and any variation of it fails."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lineage.errors import UnavailableError
from lineage.log.checkpoint import SECTOR_BYTES, Checkpoint, from_sector, open_checkpoint, to_sector
from lineage.log.signed_note import NoteError, Signer, Verifier, split
from lineage.log.signing_key import signer_at, verifier_at

#: The example key and note in the documentation of Go's golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()


def signer(name: str = "plimsoll/0123", *, cosigns: bool = False) -> Signer:
    return Signer(name, Ed25519PrivateKey.from_private_bytes(bytes(range(32))), cosigns)


def test_a_note_of_another_implementation_is_read() -> None:
    verifier = Verifier.parse(GO_VKEY)
    assert verifier.vkey == GO_VKEY
    assert verifier.check(GO_NOTE) is None


def test_a_checkpoint_is_read_as_it_was_signed() -> None:
    checkpoint = Checkpoint("plimsoll/0123", 42, bytes(range(32)))
    note = checkpoint.sign(signer())
    assert open_checkpoint(note, signer().verifier) == checkpoint
    assert from_sector(to_sector(note)) == note
    assert len(to_sector(note)) == SECTOR_BYTES


def test_any_single_bit_of_a_stored_checkpoint_counts() -> None:
    sector = to_sector(Checkpoint("plimsoll/0123", 42, bytes(range(32))).sign(signer()))
    for position in range(SECTOR_BYTES):
        for bit in range(8):
            changed = bytearray(sector)
            changed[position] ^= 1 << bit
            with pytest.raises(NoteError):
                open_checkpoint(from_sector(bytes(changed)), signer().verifier)


def test_a_cosignature_says_when_and_covers_the_text() -> None:
    note = Checkpoint("plimsoll/0123", 42, bytes(range(32))).sign(signer())
    witness = signer("witness", cosigns=True)
    both = note + witness.cosign(note, 1_700_000_000)
    assert witness.verifier.check(both) == 1_700_000_000
    assert open_checkpoint(both, signer().verifier).size == 42
    other = Checkpoint("plimsoll/0123", 43, bytes(range(32))).sign(signer())
    with pytest.raises(NoteError, match="does not hold"):
        witness.verifier.check(other + witness.cosign(note, 1_700_000_000))
    with pytest.raises(NoteError, match="no signature"):
        witness.verifier.check(note)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 name\n",
        b"text\n\n- name AAAA\n",
        b"text\n\n\xe2\x80\x94 na+me AAAAAAAA\n",
        b"te\x00xt\n\n\xe2\x80\x94 name " + b"A" * 92 + b"\n",
        b"\xff\n\n\xe2\x80\x94 name " + b"A" * 92 + b"\n",
        b"text\n\n\xe2\x80\x94 name " + b"A" * 92,
    ],
)
def test_what_is_no_note(note: bytes) -> None:
    with pytest.raises(NoteError):
        split(note)


@pytest.mark.parametrize("text", [b"", b"no newline", b"tab\there\n", b"\xff\n"])
def test_what_cannot_be_signed(text: bytes) -> None:
    with pytest.raises(NoteError):
        signer().sign(text)


@pytest.mark.parametrize(
    "text",
    ["x\n1\n", "x\n01\nAAAA\n", "x\n-1\n" + "A" * 43 + "=\n", "x\n1\n" + "A" * 43 + "=\nmore\n", "x\n1e3\nAA==\n"],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.parse(text.encode())


@pytest.mark.parametrize("vkey", ["", "name", "name+00000000+AAAA", GO_VKEY.replace("c74f", "c74e"), GO_VKEY + "A"])
def test_what_is_no_key(vkey: str) -> None:
    with pytest.raises(NoteError):
        Verifier.parse(vkey)


def test_random_bytes_are_never_a_note() -> None:
    rng = random.Random(7)
    for _ in range(500):
        with pytest.raises(NoteError):
            open_checkpoint(rng.randbytes(rng.randint(0, 300)), signer().verifier)


def test_a_key_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "ledger.key"
    assert verifier_at(path) is None
    made = signer_at(path)
    assert signer_at(path).verifier == made.verifier == verifier_at(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_not_the_one_is_not_used(tmp_path: Path) -> None:
    one, other = tmp_path / "one.key", tmp_path / "other.key"
    signer_at(one)
    signer_at(other)
    one.write_bytes(other.read_bytes())
    with pytest.raises(UnavailableError, match="does not belong"):
        signer_at(one)
    one.write_text("nonsense")
    with pytest.raises(UnavailableError, match="backup"):
        signer_at(one)
