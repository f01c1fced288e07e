"""Hand-over of a log from its key to the next one, and the keys of a log by the sizes that they sign.

A hand-over is a checkpoint with two more lines, signed by both keys:

    plimsoll/5d1c0e0f7a3b4c21                  the log's name, which stays
    1042                                       records; one of them is the `KeyRotated` that names both keys
    CsUYapGGPo4dkMgIAUqom/Xaj…                 root
    from plimsoll/5d1c0e0f7a3b4c21+1f2e…+AX…   the key that signed checkpoints up to here
    to plimsoll/5d1c0e0f7a3b4c21+9c0d…+AQ…     the key that signs them from here on

The old key's signature over the new key makes the new one trusted by everybody who trusts the old one, also without the
log. Hand-overs lie in the log's folder as `handover-0001`, `handover-0002`, ….
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lineage.errors import TamperedError
from lineage.log.checkpoint import Checkpoint, open_checkpoint
from lineage.log.signed_note import NoteError, Signer, Verifier, split

_PATTERN = "handover-" + "[0-9]" * 4


@dataclass(frozen=True)
class HandOver:
    """One hand-over; `note` is the text with both signatures."""

    head: Checkpoint
    old: Verifier
    new: Verifier
    note: bytes

    @classmethod
    def make(cls, head: Checkpoint, old: Signer, new: Signer) -> HandOver:
        """The hand-over of a log at `head`, signed by both keys."""
        text = head.text + f"from {old.verifier.vkey}\nto {new.verifier.vkey}\n".encode()
        note = old.sign(text) + new.sign(text)[len(text) + 1 :]
        return cls(head, old.verifier, new.verifier, note)

    @classmethod
    def parse(cls, note: bytes) -> HandOver:
        """Read a hand-over and check both signatures.

        Raises:
            NoteError: it is not one, or a signature is missing or invalid.
        """
        text, _ = split(note)
        *lines, old, new, _ = text.split(b"\n")
        if len(lines) != 3 or not old.startswith(b"from ") or not new.startswith(b"to "):
            raise NoteError("not a hand-over: expected name, size, root, `from KEY` and `to KEY`, a line each")
        head = Checkpoint.parse(b"\n".join(lines) + b"\n")
        keys = Verifier.parse(old[len(b"from ") :].decode()), Verifier.parse(new[len(b"to ") :].decode())
        for key in keys:
            if key.name != head.origin or key.cosigns:
                raise NoteError(f"the hand-over of {head.origin} names the key of {key.name}")
            key.check(note)
        if keys[0] == keys[1]:
            raise NoteError(f"the hand-over of {head.origin} names one key twice")
        return cls(head, *keys, note)


@dataclass(frozen=True)
class LogKeys:
    """The keys of a log, each handing over to the next one. A log without hand-overs has one key."""

    first: Verifier
    handovers: tuple[HandOver, ...] = ()

    @property
    def current(self) -> Verifier:
        """The key that signs checkpoints now."""
        return self.handovers[-1].new if self.handovers else self.first

    @property
    def name(self) -> str:
        """The log's name."""
        return self.first.name

    @property
    def all(self) -> list[Verifier]:
        """Every key, oldest first."""
        return [self.first, *(one.new for one in self.handovers)]

    def signer_of(self, note: bytes) -> Verifier:
        """The key that signed a checkpoint, if that key was in force at its size.

        Raises:
            NoteError: no key that was in force signed it, or it is no checkpoint.
        """
        size = Checkpoint.parse(split(note)[0]).size
        begins = [0, *(one.head.size for one in self.handovers)]
        ends = [*begins[1:], None]
        problem = NoteError(f"the note carries no signature of {self.name}")
        for key, begin, end in reversed(list(zip(self.all, begins, ends, strict=True))):
            if begin <= size and (end is None or size <= end):
                try:
                    key.check(note)
                except NoteError as error:
                    problem = error
                else:
                    return key
        raise problem

    def open(self, note: bytes) -> Checkpoint:
        """The checkpoint in a note, signed by the key that was in force at its size.

        Raises:
            NoteError: as `signer_of`, or it is a checkpoint of another log.
        """
        return open_checkpoint(note, self.signer_of(note))


def as_keys(own: Verifier | LogKeys) -> LogKeys:
    """The keys of a log of which one key or all are known."""
    return own if isinstance(own, LogKeys) else LogKeys(own)


def handover_files(folder: Path) -> list[Path]:
    """The files of a log's hand-overs, oldest first."""
    return sorted(folder.glob(_PATTERN))


def handover_name(number: int) -> str:
    """The file name of a log's hand-over, from 1."""
    return f"handover-{number:04d}"


def keys_of(folder: Path, stored: Verifier | None, trusted: Verifier) -> LogKeys:
    """The keys of the log in a folder.

    Args:
        folder: the log's folder.
        stored: the key that the folder names; None if it names none.
        trusted: any key of the log, from a source that is trusted.

    Raises:
        TamperedError: a hand-over is missing, was changed or is of other keys; or `trusted` is no key of this log.
    """
    found: list[HandOver] = []
    for number, path in enumerate(handover_files(folder), 1):
        try:
            one = HandOver.parse(path.read_bytes())
        except NoteError as error:
            raise TamperedError(f"{path.name} is not what was signed: {error}", record=0) from error
        before = found[-1] if found else None
        follows = before is None or (before.new == one.old and before.head.size <= one.head.size)
        if path.name != handover_name(number) or not follows:
            raise TamperedError(f"{path.name} does not follow the hand-over before it", record=0)
        found.append(one)
    keys = LogKeys(found[0].old if found else trusted, tuple(found))
    # between hand-over and `vkey` a crash may leave the former key there
    expected = (None, keys.current, *([found[-1].old] if found else []))
    if trusted not in keys.all or stored not in expected:
        raise TamperedError("the log's own public key is not the one that it is verified with", record=0)
    return keys
