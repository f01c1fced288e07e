"""The witness protocol (c2sp.org/tlog-witness): messages, the check of a submission, and the stored heads.

    old 1040                       the size that the witness last cosigned
    PlRNCrwHpqhGrupue0L7gxbj…      how the new tree continues the old one, a hash a line
    <empty line>
    plimsoll/5d1c0e0f7a3b4c21      the new checkpoint, a signed note
    …

`check_continuation` is the whole rule, and pure: a witness cosigns a head only if it continues the last one that it
cosigned. Sentences of the specification are quoted beside the code for them. `Memory` has to survive any crash.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from lineage.clock import stamp
from lineage.digest import canonical
from lineage.errors import InvalidError, RefusedError, TamperedError, UnavailableError
from lineage.log.checkpoint import Checkpoint
from lineage.log.disk import Disk
from lineage.log.merkle import EMPTY_ROOT, HASH_BYTES, ProofError, check_consistency
from lineage.log.signed_note import NoteError, Verifier, split

BODY_BYTES = 64 * 1024
SIZE_TYPE = "text/x.tlog.size"
_TAIL_BYTES = 4096
_MOST_PROOF_LINES = 63  # "The client MUST NOT send more than 63 consistency proof lines."
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,14}")


class MalformedError(InvalidError):
    """The bytes are not a message of this protocol."""

    status = 400
    code = "malformed"


@dataclass(frozen=True)
class Seen:
    """The last head of a log that the witness cosigned, and the time of the cosignature (seconds since 1970)."""

    size: int
    root: bytes
    moment: int


NOTHING = Seen(0, EMPTY_ROOT, 0)  # "or zero if it never cosigned a checkpoint for that origin"


@dataclass(frozen=True)
class Submission:
    """The body of an `add-checkpoint` request."""

    old: int
    proof: list[bytes]
    note: bytes

    @property
    def body(self) -> bytes:
        """The bytes to send."""
        hashes = "".join(base64.b64encode(one).decode() + "\n" for one in self.proof)
        return f"old {self.old}\n{hashes}\n".encode() + self.note

    @classmethod
    def parse(cls, body: bytes) -> Submission:
        """Read a request.

        Raises:
            MalformedError: it is not one; the note is not checked here.
        """
        head, gap, note = body.partition(b"\n\n")
        first, *rest = head.decode("ascii", errors="replace").split("\n")
        if not gap or not first.startswith("old "):
            raise MalformedError("expected `old SIZE`, proof lines, an empty line and a checkpoint", field="body")
        old = parse_size(first.removeprefix("old "))
        if len(rest) > _MOST_PROOF_LINES:
            raise MalformedError(f"{len(rest)} proof lines; at most {_MOST_PROOF_LINES} make sense", field="proof")
        return cls(old, [_hash(line) for line in rest], note)


def parse_size(text: str) -> int:
    """A size in ASCII decimal without leading zeroes.

    Raises:
        MalformedError: it is not one.
    """
    if not _DECIMAL.fullmatch(text):
        raise MalformedError(f"size {text[:40]!r}; expected a decimal number without leading zeroes", field="size")
    return int(text)


def _hash(line: str) -> bytes:
    try:
        value = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != HASH_BYTES or base64.b64encode(value).decode() != line:
        raise MalformedError(f"proof line {line[:60]!r}; expected {HASH_BYTES} bytes in base64", field="proof")
    return value


def read_checkpoint(note: bytes) -> Checkpoint:
    """The checkpoint in a note, without checking signatures.

    Raises:
        MalformedError: it is not a checkpoint's note.
    """
    try:
        return Checkpoint.parse(split(note)[0])
    except NoteError as error:
        raise MalformedError(f"the checkpoint cannot be read: {error}", field="checkpoint") from error


def check_continuation(seen: Seen, offer: Submission, head: Checkpoint) -> None:
    """Refuse `head` unless it continues `seen`, the last head that the witness cosigned.

    Raises:
        MalformedError: the old size is larger than the new one (400).
        RefusedError: the old size is not the one last cosigned (409, code `stale`, with `size`); the same size has
            another root (409, code `fork`); the proof does not show that the new tree continues the old one (422).
    """
    # "The old size MUST be equal to or lower than the checkpoint size. Otherwise […] 400 Bad Request"
    if offer.old > head.size:
        raise MalformedError(f"the old size {offer.old} is larger than the checkpoint's, {head.size}", field="old")
    # "The witness MUST check that the old size matches the size of the latest checkpoint it cosigned […] 409"
    if offer.old != seen.size:
        message = f"the newest checkpoint cosigned of {head.origin} has size {seen.size}, not {offer.old}"
        raise RefusedError(message, code="stale", field="old", size=seen.size)
    # "If the old size matches the checkpoint size, the witness MUST check that the root hashes are also identical."
    if head.size == seen.size and head.root != seen.root:
        message = f"{head.origin} has shown another root for size {seen.size} before; both cannot be its history"
        raise RefusedError(message, code="fork", field="checkpoint")
    # "If the Merkle Consistency Proof doesn't verify, […] 422 Unprocessable Entity"
    try:
        check_consistency(seen.size, head.size, seen.root, head.root, offer.proof)
    except ProofError as error:
        message = f"{head.origin} is not shown to continue what was cosigned: {error}"
        raise RefusedError(message, code="inconsistent", status=422, field="proof") from error


def line_of(verifier: Verifier, note: bytes) -> bytes:
    """The signature line of this key; lines of other keys are ignored.

    Raises:
        NoteError: there is none, or one that names this key is invalid.
    """
    text, signatures = split(note)
    lines = note[len(text) + 1 :].split(b"\n")
    mine = [
        line + b"\n"
        for line, (name, key_id, _) in zip(lines, signatures, strict=False)  # nothing follows the last newline
        if (name, key_id) == (verifier.name, verifier.key_id)
    ]
    for line in mine:
        verifier.check(text + b"\n" + line)
    if not mine:
        raise NoteError(f"the note carries no signature of {verifier.name}")
    return mine[0]


def file_name(origin: str) -> str:
    """A log's name as a file name."""
    return quote(origin, safe="")


class Memory:
    """Store of the last cosigned head of each log.

        <log>.note      the newest checkpoint cosigned, with the cosignature
        <log>.jsonl     every head cosigned and when, for examiners
        <log>.refused   the newest checkpoint that the log signed and the witness refused: evidence

    Not thread-safe.
    """

    def __init__(self, folder: Path, witness: Verifier, disk: Disk) -> None:
        self._folder, self._witness, self._disk = folder, witness, disk
        self._seen: dict[str, Seen] = {}

    def recall(self, origin: str) -> Seen:
        """The last cosigned head of a log, read from disk the first time. A history left behind by a crash catches up.

        Raises:
            TamperedError: the note is not what was stored, or is older than the history.
            UnavailableError: it cannot be read.
        """
        if origin in self._seen:
            return self._seen[origin]
        try:
            last = self._last_of_history(origin)
            seen = self._read_note(origin)
            if last is not None and (last[0] > seen.size or (last[0] == seen.size and last[1] != seen.root)):
                message = f"{last[0]} records of {origin} were cosigned, but the newest note kept says {seen.size}"
                raise TamperedError(message + "; the witness's folder was changed or put back", field="seen")
            if seen != NOTHING and last != (seen.size, seen.root):
                self._note_history(origin, seen)
            # a crash may leave the note renamed but not flushed: flush it before it is used
            self._disk.flush_folder(self._folder)
        except OSError as error:
            raise UnavailableError(f"what was seen of {origin} cannot be read: {error.strerror}") from error
        self._seen[origin] = seen
        return seen

    def keep(self, origin: str, found: Seen, note: bytes) -> None:
        """Store the newest head of a log; return once it is on disk.

        Raises:
            UnavailableError: it may not be on disk.
        """
        before = self.recall(origin)
        # The copy in memory is dropped until all is stored: after an error the next request reads the disk.
        del self._seen[origin]
        try:
            self._disk.replace(self.file(origin, "note"), note)
            if before == NOTHING or (before.size, before.root) != (found.size, found.root):
                self._note_history(origin, found)
        except OSError as error:
            raise UnavailableError(f"the checkpoint could not be stored: {error.strerror}; not cosigned") from error
        self._seen[origin] = found

    def keep_evidence(self, origin: str, note: bytes) -> None:
        """Keep a checkpoint that was refused.

        Raises:
            OSError: the disk failed.
        """
        self._disk.replace(self.file(origin, "refused"), note)

    def file(self, origin: str, kind: str) -> Path:
        """The path of a file about a log."""
        return self._folder / f"{file_name(origin)}.{kind}"

    def _read_note(self, origin: str) -> Seen:
        path = self.file(origin, "note")
        if not path.exists():
            return NOTHING
        note = path.read_bytes()
        try:
            moment = self._witness.check(note)
            head = Checkpoint.parse(split(note)[0])
        except NoteError as error:
            raise TamperedError(f"{path.name} is not what the witness stored: {error}", field="seen") from error
        if head.origin != origin or not moment:
            raise TamperedError(f"{path.name} is a checkpoint of {head.origin!r}, not of {origin!r}", field="seen")
        return Seen(head.size, head.root, moment)

    def _last_of_history(self, origin: str) -> tuple[int, bytes] | None:
        """Size and root in the last whole line; a partial line after it is cut."""
        path = self.file(origin, "jsonl")
        if not path.exists():
            return None
        with path.open("rb+") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if whole < len(tail):
                file.truncate(start + whole)
        if not whole and not start:
            return None
        try:
            entry: dict[str, Any] = orjson.loads(tail[:whole].splitlines()[-1])
            return int(entry["size"]), bytes.fromhex(entry["root"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise TamperedError(f"the last line of {path.name} is not the witness's", field="seen") from error

    def _note_history(self, origin: str, seen: Seen) -> None:
        at = stamp(datetime.fromtimestamp(seen.moment, UTC))
        line = canonical({"time": at, "size": seen.size, "root": seen.root.hex()})
        descriptor = self._disk.open(self.file(origin, "jsonl"))
        try:
            self._disk.append(descriptor, line + b"\n")
            self._disk.flush(descriptor)
        finally:
            self._disk.close(descriptor)
        self._disk.flush_folder(self._folder)
