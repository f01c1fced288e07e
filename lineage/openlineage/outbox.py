"""Delivery of OpenLineage events of all records, in order, at least once, without delaying the ledger.

Invariants:
- nothing leaves this machine unless a receiver is configured;
- an append only sets a flag; errors of delivery stay here;
- the cursor passes an event when the receiver has it, or when it is in the dead-letter file with the reason; after
  a crash in between it is sent again, the same bytes with the same run id;
- a receiver that fails is retried without end, with growing waits.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lineage.clock import Clock, now, stamp
from lineage.digest import canonical, digest_of
from lineage.errors import InvalidError, RefusedError, UnavailableError
from lineage.log.disk import Disk
from lineage.log.index import Record, Records
from lineage.openlineage.events import NAMESPACE, Translator, encode
from lineage.openlineage.receiver import Target, append_line, read_receiver

_BATCH_EVENTS = 50
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 300.0
log = structlog.get_logger("plimsoll.openlineage")


class Cursor(BaseModel):
    """Progress of delivery: `seq` records completely and `part` events of the next; events sent and dead so far."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    ledger: str = ""
    seq: int = Field(0, ge=0)
    part: int = Field(0, ge=0)
    sent: int = Field(0, ge=0)
    dead: int = Field(0, ge=0)


class Outbox:
    """Delivers the events of one ledger in a thread of its own, from its stored cursor on.

    Args:
        records: all records of the ledger.
        folder: holds `openlineage.cursor` and `openlineage.dead.jsonl`.
        target: the receiver; None delivers nothing.
        namespace: namespace of the events.
        clock: gives the times of failures.
        rng: jitter of the waits.
        why: reason shown by `state` when nothing is delivered.
    """

    def __init__(
        self,
        records: Records,
        folder: Path,
        target: Target | None,
        namespace: str = NAMESPACE,
        *,
        clock: Clock = now,
        rng: random.Random | None = None,
        why: str | None = None,
    ) -> None:
        self._records, self._target, self._clock, self._why = records, target, clock, why
        self._file, self.dead_letters = folder / "openlineage.cursor", folder / "openlineage.dead.jsonl"
        self._translator = Translator(records, namespace)
        self._rng, self._tries = rng or random.Random(), 0  # noqa: S311  no secret
        self._at = self._saved = Cursor()
        self._aside: str | None = None
        self._failing_since: str | None = None
        self._news, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def of_user(cls, records: Records, folder: Path, *, clock: Clock = now) -> Outbox:
        """An outbox for the configured receiver. An invalid configuration stops deliveries, not the ledger."""
        try:
            target, namespace = read_receiver()
        except (InvalidError, OSError) as error:
            log.error("nothing is sent to OpenLineage", why=str(error))
            return cls(records, folder, None, why=str(error))
        return cls(records, folder, target, namespace, clock=clock, why=None if target else "no receiver is set")

    def start(self) -> None:
        """Start delivery if there is a receiver."""
        if self._target is not None:
            self._thread = threading.Thread(target=self._run, name="openlineage", daemon=True)
            self._thread.start()

    def wake(self, _: Record | None = None) -> None:
        """Signal a new record; returns at once. Can be passed to `Ledger.follow`."""
        self._news.set()

    def close(self, seconds: float = 2.0) -> None:
        """Stop after the event under way; waits at most `seconds`. Call before the ledger closes."""
        self._closing.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def state(self) -> dict[str, Any]:
        """`{"url", "sent", "waiting", "dead", "failing_since", "why"}`: events sent and dead, records waiting."""
        at, target = self._at, self._target
        waiting = len(self._records) - at.seq if target else 0
        counts = {"url": target.url if target else None, "sent": at.sent, "waiting": waiting, "dead": at.dead}
        return counts | {"failing_since": self._failing_since, "why": self._why}

    def step(self) -> float | None:
        """Deliver one batch; return the seconds to wait before the next, None when all was sent."""
        if self._target is None:
            return None
        try:
            more = self._deliver(self._target)
        except (UnavailableError, OSError) as error:
            return self._failed(error)
        self._succeeded()
        return 0.0 if more else None

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._news.clear()
                wait = self.step()
                (self._news if wait is None else self._closing).wait(wait)
        except BaseException as error:  # a programming error: the thread ends, `state` shows it
            self._failed(error)
            raise

    def _deliver(self, target: Target) -> bool:
        """Send the events of the next records; return whether there are more records."""
        if len(self._records) and not self._at.ledger:
            self._at = self._saved = self._load()
        enough = self._at.sent + self._at.dead + _BATCH_EVENTS
        try:
            while self._at.seq < len(self._records) and self._at.sent + self._at.dead < enough:
                self._send_record(self._records[self._at.seq], target)
                if self._closing.is_set():
                    break
        finally:
            if self._at != self._saved:
                Disk().replace(self._file, self._at.model_dump_json().encode())
                self._saved = self._at
        return self._at.seq < len(self._records)

    def _send_record(self, record: Record, target: Target) -> None:
        bodies = []
        try:
            bodies = [encode(event) for event in self._translator.events(record)]
        except (AttributeError, LookupError, TypeError, ValueError, InvalidError) as error:
            self._set_aside(record, f"it cannot be translated: {error!r}", None)
        for body in bodies[self._at.part :]:
            if self._closing.is_set():
                return
            try:
                target.send(body)
                self._move(sent=self._at.sent + 1, part=self._at.part + 1)
            except RefusedError as error:
                self._set_aside(record, error.message, body)
            self._succeeded()
        self._move(seq=record["seq"], part=0)

    def _set_aside(self, record: Record, why: str, body: bytes | None) -> None:
        log.warning("an event for OpenLineage is set aside", seq=record["seq"], why=why)
        line = {"at": stamp(self._clock()), "seq": record["seq"], "kind": record["kind"], "why": why}
        append_line(self.dead_letters, canonical(line | {"event": orjson.loads(body) if body else None}))
        self._aside = why
        self._move(dead=self._at.dead + 1, part=self._at.part + 1)

    def _move(self, **to: int) -> None:
        self._at = self._at.model_copy(update=to)

    def _load(self) -> Cursor:
        """The stored cursor; the beginning if that is of another ledger or beyond its last record."""
        ledger = digest_of(self._records[0])
        try:
            read = Cursor.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return Cursor(ledger=ledger)
        except ValidationError:
            read = Cursor()
        if read.ledger == ledger and read.seq <= len(self._records):
            return read
        log.warning("the cursor is not of this ledger as it stands; everything is sent again", seq=read.seq)
        return Cursor(ledger=ledger)

    def _failed(self, error: BaseException) -> float:
        """Note a failure; return the seconds until the next try: doubling, minus up to half at random."""
        self._why = str(error) or repr(error)
        if self._failing_since is None:
            self._failing_since = stamp(self._clock())
            log.warning("OpenLineage events wait", why=self._why)
        wait = min(_FIRST_WAIT * 2.0 ** min(self._tries, 30), _LONGEST_WAIT)
        self._tries += 1
        return wait * self._rng.uniform(0.5, 1.0)

    def _succeeded(self) -> None:
        if self._failing_since is not None:
            log.info("OpenLineage events are delivered again", since=self._failing_since)
        self._failing_since, self._why, self._tries = None, self._aside, 0
