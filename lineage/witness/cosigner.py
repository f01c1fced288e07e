"""The ledger's side of its witness: every new checkpoint is cosigned, and what the witness saw is held against the log.

    log/cosigned     the newest checkpoint that the witness cosigned, with both signatures
    witness.vkey     the witness's key, pinned on first contact; another one is refused

A witness that cannot be reached holds nothing up; `Cosigner.state` tells how far it is behind. A witness that saw a
history which the log does not continue is told at once, and for as long as the ledger runs.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from lineage.clock import Clock, now, stamp
from lineage.errors import PlimsollError, TamperedError, UnavailableError
from lineage.log.checkpoint import Checkpoint, open_checkpoint
from lineage.log.disk import Disk
from lineage.log.signed_note import NoteError, Verifier, split
from lineage.witness.client import SECONDS, Answer, Link, Root, check_cosigned
from lineage.witness.protocol import Submission, line_of

_INTERVAL = 1.0
_FIRST_REST, _LONGEST_REST = 0.5, 60.0
log = structlog.get_logger("plimsoll.cosigning")


def check_against_witness(
    url: str, pin: Path, own: Verifier, size: int, root: Root, *, seconds: float = SECONDS
) -> Checkpoint | None:
    """Ask the witness what it saw of a log, and hold that against the log.

    Args:
        url: where the witness answers.
        pin: the file of the witness's key, written on first contact.
        own: the public half of the log's key.
        size: records in the log.
        root: the root over the first so many of them.
        seconds: how long to wait for an answer.

    Returns:
        The newest checkpoint that the witness cosigned, which the log continues; None if it does not know the log.

    Raises:
        TamperedError: the log is shorter than what the witness saw, or another; `seen` and `size` in the detail. Catch
            it before UnavailableError, which it is a kind of.
        RefusedError: what answers is not the witness whose key was pinned, or it has the log's own key.
        UnavailableError: the witness does not answer; whether to go on is for the caller.
    """
    link = Link(url, pin, own, seconds=seconds)
    try:
        return link.compare(size, root)
    finally:
        link.close()


def check_against_copy(cosigned: Path, pin: Path, own: Verifier, size: int, root: Root) -> Checkpoint | None:
    """Hold the cosigned checkpoint that is kept beside a log against the log; nobody is asked.

    Returns:
        That checkpoint; None where there is none.

    Raises:
        TamperedError: the log does not continue it, or it is not one that the pinned key cosigned.
    """
    note = _read_copy(cosigned, pin)
    return None if note is None else check_cosigned(note, own, size, root)


def _read_copy(cosigned: Path, pin: Path) -> bytes | None:
    try:
        note = cosigned.read_bytes()
        Verifier.parse(pin.read_text()).check(note)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"{cosigned.name} cannot be read: {error.strerror}", field="cosigned") from error
    except ValueError as error:  # NoteError, or not UTF-8
        raise TamperedError(f"{cosigned.name} is not what the witness cosigned: {error}", field="cosigned") from error
    return note


@dataclass(frozen=True)
class OwnLog:
    """What the cosigner asks of the log; each is called from its thread and takes the ledger's lock itself.

    Args:
        verifier: the public half of the key that signs checkpoints.
        checkpoint: the newest signed note, over every record that is durable.
        prove: the consistency proof from the first size to the second.
        root: the root over the first so many records.
    """

    verifier: Verifier
    checkpoint: Callable[[], bytes]
    prove: Callable[[int, int], list[bytes]]
    root: Root


class Cosigner:
    """Has a log's newest checkpoint cosigned, one request at a time, whenever there is news.

    Args:
        own: the log.
        url: where the witness answers.
        pin: the file of the witness's key.
        cosigned: the file of the newest checkpoint with both signatures.
        clock: tells since when the witness does not answer.
        seconds: how long one question may take.
        interval: seconds between two cosignatures; what is recorded meanwhile shares the next one.
        chance: spreads what many logs do when a witness comes back.

    Raises:
        InvalidError: the address is none.
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
        chance: random.Random | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._own, self._pin, self._path = own, pin, cosigned
        self._disk = disk or Disk()
        self._link = Link(url, pin, own.verifier, seconds=seconds, disk=self._disk)
        self._clock, self._seconds, self._interval = clock, seconds, interval
        self._chance = chance or random.Random()  # noqa: S311  nobody gains by guessing it
        self._flight = threading.Lock()
        self._turn = threading.Condition()  # held for moments only: never while the log or the witness is asked
        self._thread: threading.Thread | None = None
        self._news, self._closed = True, False
        self._met = False
        self._size = 0
        self._failures = 0
        self._refused: str | None = None
        self._forgot: str | None = None
        self._problem: str | None = None
        self._since: str | None = None

    def start(self) -> None:
        """Begin; the first thing is to hold what the witness saw against the log."""
        self._thread = threading.Thread(target=self._run, name="cosigner", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there are new records; returns at once."""
        with self._turn:
            self._news = True
            self._turn.notify_all()

    def close(self) -> None:
        """Have the newest checkpoint cosigned if the witness answers, and end; call before the log is closed."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        if self._thread is not None:
            self._thread.join(3 * self._seconds)
        else:
            self._link.close()

    def wait(self, size: int, seconds: float) -> bool:
        """Return whether so many records are cosigned, as soon as they are or after `seconds`."""
        with self._turn:
            self._turn.wait_for(lambda: self._size >= size or self._refused is not None, seconds)
            return self._size >= size

    def state(self) -> dict[str, Any]:
        """For health and metrics.

        Returns:
            `witness` address; `vkey` its pinned key or None; `cosigned_size` records that it vouches for; `lag`
            records that it does not; `refused` why it never will again, or None; `forgot` what it has lost, or None;
            `problem` and `unreachable_since` of a witness that does not answer as it should, or None.
        """
        size = Checkpoint.parse(split(self._own.checkpoint())[0]).size
        vkey = self._pin.read_text(errors="replace").strip() if self._pin.is_file() else None
        with self._turn:
            return {
                "witness": self._link.url,
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
        witness = self._link.verifier()
        head, note = self._newest()
        copy = self._copy(head.size)
        old = copy.size if copy else 0
        if self._met and copy == head:
            return head.size
        with self._turn:
            self._size = old
        answer = self._offer(old, head, note)
        if answer.status == 404:
            self._link.introduce()
            answer = self._offer(old, head, note)
        known = answer.known
        if known is not None and known != old and known <= head.size:
            if known < old:
                self._note(forgot=f"the witness cosigned {old} records before and knows of {known} now")
            answer = self._offer(known, head, note)
        if answer.status != 200:
            # It refuses: because of what it saw? Only what its key signed counts for that.
            self._link.compare(head.size, self._own.root)
            raise UnavailableError(f"the witness at {self._link.url} answered {answer.text}", field="witness")
        self._keep(witness, note, answer)
        self._met = True
        return head.size

    def _copy(self, size: int) -> Checkpoint | None:
        try:
            note = _read_copy(self._path, self._pin)
        except TamperedError as error:  # of another witness, or spoilt: no help, and replaced soon
            log.warning("the cosigned checkpoint is not used", message=error.message)
            return None
        return None if note is None else check_cosigned(note, self._own.verifier, size, self._own.root)

    def _newest(self) -> tuple[Checkpoint, bytes]:
        note = self._own.checkpoint()
        try:
            return open_checkpoint(note, self._own.verifier), note
        except NoteError as error:
            raise TamperedError(f"the log's own checkpoint does not hold: {error}", field="checkpoint") from error

    def _offer(self, old: int, head: Checkpoint, note: bytes) -> Answer:
        return self._link.offer(Submission(old, self._own.prove(old, head.size), note))

    def _keep(self, witness: Verifier, note: bytes, answer: Answer) -> None:
        try:
            line = line_of(witness, note + answer.body)
        except NoteError as error:
            raise UnavailableError(
                f"what {self._link.url} answers does not count: {error}; pinned is {witness.name}", field="witness"
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
        with self._turn:
            last = self._news and not self._failures
        if last:
            self.submit()
        self._link.close()

    def _next(self) -> bool:
        """Wait until there is something to do and enough time has passed; False once closed."""
        with self._turn:
            self._turn.wait_for(lambda: self._closed, self._rest())
            self._turn.wait_for(lambda: self._closed or (self._news and self._refused is None))
            if not self._closed:
                self._news = False
            return not self._closed

    def _rest(self) -> float:
        if self._failures:
            return rest_after(self._failures, self._chance)
        return self._interval if self._met else 0.0


def rest_after(failures: int, chance: random.Random) -> float:
    """Seconds to wait after so many failures in a row: doubled each time up to a minute, and never the same for all."""
    doubled = _FIRST_REST * 2.0 ** min(failures - 1, 16)
    return min(doubled, _LONGEST_REST) * chance.uniform(0.5, 1.0)
