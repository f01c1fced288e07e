"""The cosigner: submits every new checkpoint to the witness, and compares the witness's last checkpoint with the log.

    log/cosigned     the newest checkpoint that the witness cosigned, with both signatures
    witness.vkey     the witness's key, pinned on first contact; another one is refused

An unreachable witness delays nothing; `Cosigner.state` has the number of records without cosignature. When the log
does not continue the witness's checkpoint, `state` reports it at once and for as long as the ledger runs.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from lineage.clock import Clock, now, stamp
from lineage.errors import PlimsollError, TamperedError, UnavailableError
from lineage.log.checkpoint import Checkpoint
from lineage.log.disk import Disk
from lineage.log.handover import LogKeys, as_keys
from lineage.log.signed_note import NoteError, Verifier, split
from lineage.witness.client import SECONDS, Answer, Root, WitnessClient, check_cosigned
from lineage.witness.comparison import read_copy
from lineage.witness.protocol import Submission, line_of

_INTERVAL = 1.0
_FIRST_REST, _LONGEST_REST = 0.5, 60.0
log = structlog.get_logger("plimsoll.cosigning")


@dataclass(frozen=True)
class OwnLog:
    """The cosigner's access to the log; each function is called from its thread and takes the ledger's lock itself.

    Args:
        verifier: the public half of the key that signs checkpoints, or the log's keys where it had several.
        checkpoint: the newest signed note, over every record that is durable.
        prove: the consistency proof from the first size to the second.
        root: the root over the first n records.
    """

    verifier: Verifier | LogKeys
    checkpoint: Callable[[], bytes]
    prove: Callable[[int, int], list[bytes]]
    root: Root


class Cosigner:
    """Submits a log's newest checkpoint to the witness after new records, one request at a time.

    Args:
        own: the log.
        url: address of the witness.
        pin: the file of the witness's key.
        cosigned: the file of the newest checkpoint with both signatures.
        clock: gives the time since when the witness does not answer.
        seconds: timeout of one request.
        interval: seconds between two cosignatures; records in between share the next one.
        rng: jitter, so that many logs do not retry at the same moment.
        disk: port for disk operations.
        after_round: called by the thread after each round, without any lock.

    Raises:
        InvalidError: `url` is not an address.
    """

    def __init__(
        self,
        own: OwnLog,
        url: str,
        *,
        pin: Path,
        cosigned: Path,
        clock: Clock = now,
        seconds: float = SECONDS,
        interval: float = _INTERVAL,
        rng: random.Random | None = None,
        disk: Disk | None = None,
        after_round: Callable[[], None] = lambda: None,
    ) -> None:
        self.after_round = after_round
        self._own, self._pin, self._path = own, pin, cosigned
        self._disk = disk or Disk()
        self._client = WitnessClient(url, pin, own.verifier, seconds=seconds, disk=self._disk)
        self._clock, self._seconds, self._interval = clock, seconds, interval
        self._rng = rng or random.Random()  # noqa: S311  not a secret
        self._flight = threading.Lock()
        self._turn = threading.Condition()  # never held during a request or while the log is read
        self._thread: threading.Thread | None = None
        self._news, self._closed, self._hurry = True, False, False
        self._compared = False
        self._size = 0
        self._failures = 0
        self._refused: str | None = None
        self._forgot: str | None = None
        self._problem: str | None = None
        self._since: str | None = None

    def start(self) -> None:
        """Start the thread; its first round compares the witness's checkpoint with the log."""
        self._thread = threading.Thread(target=self._run, name="cosigner", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Signal that there are new records; returns at once."""
        with self._turn:
            self._news = True
            self._turn.notify_all()

    def close(self) -> None:
        """Submit the newest checkpoint once more unless the witness fails, and stop; call before the log is closed."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        if self._thread is not None:
            self._thread.join(3 * self._seconds)
        else:
            self._client.close()

    def wait(self, size: int, seconds: float) -> bool:
        """Return whether `size` records are cosigned, as soon as they are or after `seconds`."""
        with self._turn:
            self._turn.wait_for(lambda: self._size >= size or self._refused is not None, seconds)
            return self._size >= size

    def wait_for(self, size: int, seconds: float) -> bool:
        """Have `size` records cosigned at once; return whether they are, as soon as they are or the witness failed.

        While the witness is failing it is tried again at once, but not waited for.
        """
        with self._turn:
            if self._size < size:
                self._hurry = self._news = True
                self._turn.notify_all()
            if not self._failures:
                ended = lambda: self._size >= size or self._refused is not None or self._failures > 0  # noqa: E731
                self._turn.wait_for(ended, seconds)
            return self._size >= size

    @property
    def failures(self) -> int:
        """Rounds in a row that failed; also 1 for good once log and witness disagree."""
        with self._turn:
            return max(self._failures, self._refused is not None)

    @property
    def compared(self) -> bool:
        """Whether the witness cosigned the log since the cosigner was made."""
        return self._compared

    @property
    def cosigned(self) -> int:
        """Records that are cosigned, as far as is known here."""
        with self._turn:
            return self._size

    def rekey(self, keys: LogKeys) -> None:
        """Go on under the keys of a log that was handed to another key; the witness is shown the hand-over."""
        with self._flight:
            self._own = replace(self._own, verifier=keys)
            self._client.own = keys
        self.wake()

    def state(self) -> dict[str, Any]:
        """The state for health and metrics.

        Returns:
            `witness`: its address; `vkey`: its pinned key or None; `cosigned_size`: records cosigned; `lag`: records
            not cosigned; `refused`: why log and witness disagree for good, or None; `forgot`: what the witness has
            lost, or None; `problem` and `unreachable_since` of a witness that does not answer properly, or None.
        """
        size = Checkpoint.parse(split(self._own.checkpoint())[0]).size
        vkey = self._pin.read_text(errors="replace").strip() if self._pin.is_file() else None
        with self._turn:
            return {
                "witness": self._client.url,
                "vkey": vkey,
                "cosigned_size": self._size,
                "lag": max(0, size - self._size),
                "refused": self._refused,
                "forgot": self._forgot,
                "problem": self._problem,
                "unreachable_since": self._since,
            }

    def submit(self) -> bool:
        """One round: offer the newest checkpoint unless it is cosigned. Return whether it now is."""
        with self._flight:
            if self._refused is not None:
                return False
            try:
                size = self._round()
            except TamperedError as error:
                self._note(refused=error.message)
            except PlimsollError as error:
                self._note(problem=error.message)
            else:
                self._note(size=size)
                return True
            return False

    def _round(self) -> int:
        witness = self._client.verifier()
        head, note = self._newest()
        copy = self._copy(head.size)
        old = copy.size if copy else 0
        if self._compared and copy == head:
            return head.size
        with self._turn:
            self._size = old
        answer = self._offer(old, head, note)
        if answer.status == 404:
            self._client.introduce()
            answer = self._offer(old, head, note)
        if answer.status == 403 and as_keys(self._own.verifier).handovers:
            self._hand_over(old)
            answer = self._offer(old, head, note)
        known = answer.known_size
        if known is not None and known != old and known <= head.size:
            if known < old:
                self._note(forgot=f"the witness cosigned {old} records before and knows of {known} now")
            answer = self._offer(known, head, note)
        if answer.status != 200:
            # A refusal counts as evidence against the log only if a checkpoint signed by the witness shows it.
            self._client.compare(head.size, self._own.root)
            raise UnavailableError(f"the witness at {self._client.url} answered {answer.text}", field="witness")
        self._keep(witness, note, answer)
        self._compared = True
        return head.size

    def _hand_over(self, old: int) -> None:
        """Show the witness each hand-over of the log; it takes the one whose former key it knows."""
        for one in as_keys(self._own.verifier).handovers:
            size = min(old, one.head.size)
            answer = self._client.hand_over(Submission(size, self._own.prove(size, one.head.size), one.note))
            known = answer.known_size
            if known is not None and known <= one.head.size:
                self._client.hand_over(Submission(known, self._own.prove(known, one.head.size), one.note))

    def _copy(self, size: int) -> Checkpoint | None:
        try:
            note = read_copy(self._path, self._pin)
        except TamperedError as error:  # of another witness, or damaged: ignored, and replaced by the next cosignature
            log.warning("the cosigned checkpoint is not used", message=error.message)
            return None
        return None if note is None else check_cosigned(note, self._own.verifier, size, self._own.root)

    def _newest(self) -> tuple[Checkpoint, bytes]:
        note = self._own.checkpoint()
        try:
            return as_keys(self._own.verifier).open(note), note
        except NoteError as error:
            raise TamperedError(f"the log's own checkpoint does not hold: {error}", field="checkpoint") from error

    def _offer(self, old: int, head: Checkpoint, note: bytes) -> Answer:
        return self._client.submit(Submission(old, self._own.prove(old, head.size), note))

    def _keep(self, witness: Verifier, note: bytes, answer: Answer) -> None:
        try:
            line = line_of(witness, note + answer.body)
        except NoteError as error:
            raise UnavailableError(
                f"what {self._client.url} answers does not count: {error}; pinned is {witness.name}", field="witness"
            ) from error
        try:
            self._disk.replace(self._path, note + line)
        except OSError as error:
            raise UnavailableError(f"the cosigned checkpoint could not be stored: {error.strerror}") from error

    def _note(
        self,
        *,
        size: int | None = None,
        refused: str | None = None,
        forgot: str | None = None,
        problem: str | None = None,
    ) -> None:
        with self._turn:
            if size is not None:
                self._size, self._failures, self._problem, self._since = size, 0, None, None
            if problem is not None:
                self._failures, self._news, self._problem = self._failures + 1, True, problem
                self._since = self._since or stamp(self._clock())
            self._refused, self._forgot = refused or self._refused, forgot or self._forgot
            self._turn.notify_all()
            first = self._failures == 1
        if refused is not None:
            log.error("the log and its witness disagree", message=refused)
        if forgot is not None or (problem is not None and first):
            log.warning("not cosigned", message=forgot or problem)

    def _run(self) -> None:
        while self._next():
            self.submit()
            self.after_round()
        with self._turn:
            last = self._news and not self._failures
        if last:
            self.submit()
        self._client.close()

    def _next(self) -> bool:
        """Wait until there is something to do and enough time has passed; False once closed."""
        with self._turn:
            self._turn.wait_for(lambda: self._closed or self._hurry, self._rest())
            self._turn.wait_for(lambda: self._closed or (self._news and self._refused is None))
            self._hurry = False
            if not self._closed:
                self._news = False
            return not self._closed

    def _rest(self) -> float:
        if self._failures:
            return rest_after(self._failures, self._rng)
        return self._interval if self._compared else 0.0


def rest_after(failures: int, rng: random.Random) -> float:
    """Seconds to wait after this many failures in a row: doubled each time up to a minute, with jitter."""
    doubled = _FIRST_REST * 2.0 ** min(failures - 1, 16)
    return min(doubled, _LONGEST_REST) * rng.uniform(0.5, 1.0)
