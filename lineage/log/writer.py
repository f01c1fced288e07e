"""The append-only log: segment files of one JSON record a line, hashed as stored, on disk before acknowledgement.

Invariants:
- a record's line is never rewritten; its hash is taken of the bytes as stored;
- every line names the hash of the line before it, and is a leaf of the Merkle tree whose root the checkpoint signs;
- `commit` returns after fsync; when fsync fails the log refuses records until it is opened again;
- the checkpoint is written after the records it counts are durable: after a crash it may lag, never run ahead;
- a last line without its newline is a crash, not tampering: it was never acknowledged and is cut on opening;
- one process at a time: a second one is refused.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lineage.digest import canonical
from lineage.errors import RefusedError, TamperedError, UnavailableError
from lineage.log.checkpoint import Checkpoint, to_sector
from lineage.log.disk import Disk
from lineage.log.handover import HandOver, LogKeys, handover_files, handover_name
from lineage.log.merkle import Tree, leaf_hash
from lineage.log.reader import (
    CHECKPOINT,
    FORMAT,
    OLD_HEAD,
    VKEY,
    ZERO,
    Chain,
    Entry,
    Line,
    log_keys,
    segments,
    verifier_in,
)
from lineage.log.signed_note import Signer
from lineage.log.signing_key import signer_at

SEGMENT_BYTES = 64 * 1024 * 1024
_CLOSED = "it was closed"
Record = dict[str, Any]


class Log:
    """The one writer of a log folder.

    Args:
        folder: made when missing.
        signer: signs checkpoints; None for a key in the folder itself, which protects against accidents but not
            against writers of that folder.
        segment_bytes: a new segment begins when a group would take the current one beyond this size.
        disk: port for disk operations.

    Raises:
        RefusedError: another process has the folder open.
        TamperedError: the chain is broken, or the folder is another log's; `plimsoll audit verify` names the record.
    """

    def __init__(
        self,
        folder: Path,
        *,
        signer: Signer | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        disk: Disk | None = None,
    ) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._disk = disk or Disk()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        try:
            self.signer = signer or signer_at(folder / "log.key")
            self._known = self._claim()
        except BaseException:
            os.close(self._lock)
            raise
        self.tree = Tree()
        self.keys = LogKeys(self.signer.verifier)
        self.torn_bytes = 0
        self._prev = ZERO
        self._broken: str | None = None
        self._checkpoint: int | None = None
        self._file: int | None = None
        self._path = folder
        self._size = 0
        self._staged: list[tuple[Record, bytes, bytes]] = []

    @property
    def seq(self) -> int:
        """The number of the newest record."""
        return len(self.tree)

    @property
    def note(self) -> bytes:
        """The signed checkpoint over every record that is durable."""
        return Checkpoint(self.signer.name, self.seq, self.tree.root()).sign(self.signer)

    def replay(self) -> Iterator[Entry]:
        """Read and verify every record; must be exhausted once before the first append.

        Raises:
            TamperedError: as `Chain`.
            UnavailableError: the folder cannot be written.
        """
        whole = Chain(self.folder, self.signer.verifier if self._known else None)
        self.keys = whole.keys or LogKeys(self.signer.verifier)
        self.tree = whole.tree
        for entry in whole:
            self._prev = entry.leaf.hex()
            yield entry
        self.torn_bytes = self._cut_torn_tail(whole)  # only after verification: a tampered log is not cut
        self._begin()

    def stage(self, record: Record) -> Record:
        """Number and chain a record; return it as `commit` will store it.

        Raises:
            InvalidError: it cannot be written as JSON. Nothing was staged.
            UnavailableError: the log is closed or an earlier write failed.
        """
        if self._broken:
            raise UnavailableError(f"the log takes no records since {self._broken}; restart the ledger service")
        prev = self._staged[-1][2].hex() if self._staged else self._prev
        whole = record | {"seq": self.seq + len(self._staged) + 1, "prev": prev, "v": FORMAT}
        line = canonical(whole)
        self._staged.append((whole, line, leaf_hash(line)))
        return whole

    def commit(self) -> list[Entry]:
        """Make the staged records durable, all or none; return them with their lines.

        Raises:
            UnavailableError: the disk failed. Nothing was stored, and nothing is staged any more.
        """
        staged, self._staged = self._staged, []
        if not staged:
            return []
        offset = self._store(b"".join([line + b"\n" for _, line, _ in staged]))
        self.tree.extend([leaf for _, _, leaf in staged])
        entries = []
        for record, line, leaf in staged:
            entries.append(Entry(record, Line(line, self._path, offset), leaf))
            offset += len(line) + 1
        self._prev = staged[-1][2].hex()
        self._note_checkpoint()
        return entries

    def unstage(self) -> None:
        """Discard the staged records."""
        self._staged = []

    def append(self, record: Record) -> Record:
        """Stage and commit one record; return it as stored."""
        stored = self.stage(record)
        self.commit()
        return stored

    def hand_over(self, new: Signer, install: Callable[[], None]) -> None:
        """Have another key sign checkpoints from here on; a record of the log has to name both keys.

        A crash at any point leaves a log that opens under the key that is installed.

        Args:
            new: has the log's name.
            install: makes it the key with which the log will be opened.

        Raises:
            UnavailableError: the disk failed; the log refuses records until it is opened again.
        """
        head = Checkpoint(self.signer.name, self.seq, self.tree.root())
        try:
            if self.keys.current != new.verifier:  # else a crash came after the hand-over was written
                made = HandOver.make(head, self.signer, new)
                self._disk.replace(self.folder / handover_name(len(self.keys.handovers) + 1), made.note)
                self._disk.flush_folder(self.folder)
                self.keys = LogKeys(self.keys.first, (*self.keys.handovers, made))
            install()
            self.signer = new
            self._disk.replace(self.folder / VKEY, new.verifier.vkey.encode() + b"\n")
        except OSError as error:
            self._broken = f"the hand-over to another key failed ({error.strerror})"
            raise UnavailableError(f"the log could not be handed over: {error.strerror}", field="key") from error
        self._note_checkpoint()

    def close(self) -> None:
        """Release the folder; the log refuses records from now on."""
        if self._broken == _CLOSED:
            return
        self._broken = _CLOSED
        self._close_segment()
        if self._checkpoint is not None:
            self._disk.close(self._checkpoint)
        os.close(self._lock)

    def _store(self, data: bytes) -> int:
        """Append to the segment and flush; return the offset of the data there."""
        descriptor = self._segment(len(data))
        before = self._size
        try:
            self._disk.append(descriptor, data)
        except OSError as error:
            # A short write leaves lines that were never acknowledged: cut them; only if that fails, refuse records.
            self._take_back(descriptor, before)
            raise UnavailableError(f"the record could not be written: {error.strerror}. Nothing was stored") from error
        try:
            self._disk.flush(descriptor)
        except OSError as error:
            # After a failed fsync the kernel may have dropped the pages: a second fsync could falsely succeed.
            self._broken = f"a flush to disk failed ({error.strerror})"
            self._take_back(descriptor, before)
            raise UnavailableError(f"the record could not be made durable: {error.strerror}") from error
        self._size = before + len(data)
        return before

    def _note_checkpoint(self) -> None:
        # One sector, overwritten in place, not flushed: after a loss of power it is the old one or the new one.
        assert self._checkpoint is not None  # noqa: S101  replay has opened it
        try:
            self._disk.write_at(self._checkpoint, to_sector(self.note), 0)
        except OSError as error:
            self._broken = f"the checkpoint could not be written ({error.strerror})"

    def _claim(self) -> bool:
        """Whether the folder is already a log of this key; a log of another key is refused."""
        known, own = verifier_in(self.folder), self.signer.verifier
        if known is None:
            return False
        files = handover_files(self.folder)
        if known != own and (not files or log_keys(self.folder, known).current != own):
            raise TamperedError(
                f"the log in {self.folder.name} is signed by {known.vkey}, the key given is of {self.signer.name!r}; "
                "restore the key that belongs to it",
                record=0,
            )
        return True

    def _begin(self) -> None:
        """Convert the folder to the present format and make its content durable."""
        try:
            if verifier_in(self.folder) != self.signer.verifier:
                self._disk.replace(self.folder / VKEY, self.signer.verifier.vkey.encode() + b"\n")
            self._disk.replace(self.folder / CHECKPOINT, to_sector(self.note))
            self._checkpoint = self._disk.open_fixed(self.folder / CHECKPOINT)
            self._disk.unlink(self.folder / OLD_HEAD)  # of the first format; replaced by the checkpoint
            self._disk.flush_folder(self.folder)
        except OSError as error:
            raise UnavailableError(f"the log cannot be written: {error.strerror}") from error

    def _take_back(self, descriptor: int, size: int) -> None:
        try:
            self._disk.truncate(descriptor, size)
        except OSError as error:
            self._broken = f"a half-written record could not be taken back ({error.strerror})"

    def _segment(self, more: int) -> int:
        if self._file is not None and self._size + more <= self._segment_bytes:
            return self._file
        self._close_segment()
        try:
            existing = segments(self.folder)
            path = existing[-1] if existing else None
            if path is None or path.stat().st_size + more > self._segment_bytes:
                path = self.folder / f"{self.seq + 1:012d}.jsonl"
            self._file, self._path = self._disk.open(path), path
            self._size = self._disk.size(self._file)
            self._disk.flush_folder(self.folder)
        except OSError as error:
            self._close_segment()
            raise UnavailableError(f"no segment can be opened: {error.strerror}. Nothing was stored") from error
        return self._file

    def _close_segment(self) -> None:
        if self._file is not None:
            self._disk.close(self._file)
            self._file = None

    def _cut_torn_tail(self, read: Chain) -> int:
        last = next(reversed(segments(self.folder)), None)
        if last is None:
            return 0
        begins = int(last.stem) > len(read.tree)  # the last segment holds no whole line
        whole = 0 if begins else read.whole_bytes
        descriptor = self._disk.open(last)
        try:
            size = self._disk.size(descriptor)
            if whole < size:
                self._disk.truncate(descriptor, whole)
            self._disk.flush(descriptor)  # whole lines that were not acknowledged before a crash become part of the log
        finally:
            self._disk.close(descriptor)
        return size - whole


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise RefusedError(
            f"another ledger service has {folder} open; stop it (`plimsoll down`) or choose another PLIMSOLL_HOME",
            code="already_open",
        ) from error
    return descriptor
