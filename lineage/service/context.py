"""What the routes of the ledger service share: the ledger, what is derived from it, and who is told of news."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import structlog

from lineage.accounts import Accounts
from lineage.clock import Clock, now
from lineage.errors import TamperedError, UnavailableError, UnknownError
from lineage.facts.eras import LATEST
from lineage.ledger import Ledger
from lineage.log.checkpoint import Checkpoint
from lineage.log.signed_note import split
from lineage.log.signing_key import signer_at
from lineage.openlineage.outbox import Outbox
from lineage.privacy.erasure import Subjects
from lineage.rules.draft import Draft, Record
from lineage.rules.eras import activation
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM
from lineage.service.inbox_cache import InboxCache
from lineage.service.metrics import Metrics
from lineage.settings import Settings
from lineage.signing import make_keys
from lineage.store.duckdb_store import Store
from lineage.witness.cosigner import Cosigner, OwnLog, check_against_copy, check_against_witness

PLATFORM_ACTOR = Actor("ledger", PLATFORM)
log = structlog.get_logger("plimsoll.ledger")


class Context:
    """One home's ledger and everything that follows it.

    Raises:
        RefusedError: another process has the log.
        TamperedError: the log was changed, or it does not continue what the witness saw.
    """

    def __init__(self, settings: Settings, *, clock: Clock = now) -> None:
        self.settings = settings
        self.clock = clock
        self.accounts = Accounts(settings, clock=clock)
        self.ledger = Ledger(settings.log_folder, clock=clock, signer=signer_at(settings.log_key))
        try:
            self._hold_against_witness()
            self.store = Store(settings.lineage_store, self.ledger.records, decisions=settings.decisions)
            self.subjects = Subjects(settings, self.ledger, clock=clock)
        except BaseException:
            self.ledger.close()
            raise
        self.metrics = Metrics()
        self.inboxes = InboxCache()
        self.outbox = Outbox.of_user(self.ledger.records, settings.log_folder.parent, clock=clock)
        self.cosigner = self._cosigner()
        self.ledger.follow(self._spread)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._open()

    def _hold_against_witness(self) -> None:
        own, size = self.ledger.verifier, len(self.ledger.records)
        check_against_copy(self.settings.cosigned, self.settings.witness_pin, own, size, self.ledger.root)
        if not self.settings.witness_url:
            return
        try:
            check_against_witness(self.settings.witness_url, self.settings.witness_pin, own, size, self.ledger.root)
        except TamperedError:
            raise
        except UnavailableError as error:  # flagged in /healthz from now on; the record must not stand still for it
            log.error("the witness cannot be asked what it saw", message=error.message)

    def _cosigner(self) -> Cosigner | None:
        if not self.settings.witness_url:
            return None
        ledger = self.ledger
        own = OwnLog(ledger.verifier, ledger.checkpoint, ledger.prove_consistency, ledger.root)
        pin, cosigned = self.settings.witness_pin, self.settings.cosigned
        return Cosigner(own, self.settings.witness_url, pin=pin, cosigned=cosigned, clock=self.clock)

    def _open(self) -> None:
        opened = {
            "records": len(self.ledger.records),
            "torn_bytes": self.ledger.torn_bytes,
            "signing_key": make_keys(self.settings),
        }
        self.ledger.append(Draft("LedgerOpened", PLATFORM_ACTOR, opened))
        for era in range(self.ledger.state.era + 1, LATEST + 1):
            self.ledger.append(Draft("RulesActivated", PLATFORM_ACTOR, activation(era)))
        known = {r["data"]["account"] for r in self.ledger.records.find(kinds=["AccountAdded"]).records}
        for name, role in self.accounts.people().items():
            if name not in known:
                self.ledger.append(Draft("AccountAdded", PLATFORM_ACTOR, {"account": name, "role": role}))

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Followers wait on this loop; what is told to other processes begins to be told."""
        self._loop = loop
        self.outbox.start()
        if self.cosigner is not None:
            self.cosigner.start()

    def _spread(self, record: Record) -> None:
        try:
            self.store.add(record)
        except UnavailableError as error:  # the log has the record, the store will; whoever queries it is told
            log.error("the lineage store lags behind", message=error.message)
        self.metrics.count(record)
        self.outbox.wake()
        if self.cosigner is not None:
            self.cosigner.wake()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self, after: int, seconds: float) -> None:
        """Return when there is a record behind `after`, or after `seconds`."""
        news = self._news
        if len(self.ledger.records) > after or seconds <= 0:
            return
        try:
            await asyncio.wait_for(news.wait(), seconds)
        except TimeoutError:
            return

    def health(self) -> dict[str, object]:
        """What anybody may know: that it answers, how long the log is, and who outside has seen it."""
        told = self.outbox.state()
        openlineage = {name: told[name] for name in ("sent", "waiting", "dead", "failing_since")}
        witness = self.cosigner.state() if self.cosigner else None
        return {"ok": True, "records": len(self.ledger.records), "witness": witness, "openlineage": openlineage}

    def witness_vkey(self) -> str | None:
        """The key of the witness that this log's checkpoints are cosigned by, as it was pinned."""
        try:
            return self.settings.witness_pin.read_text().strip()
        except FileNotFoundError:
            return None

    def cosigned(self) -> bytes:
        """The newest checkpoint that the witness saw.

        Raises:
            UnknownError: there is none.
        """
        try:
            return self.settings.cosigned.read_bytes()
        except FileNotFoundError:
            raise UnknownError("no checkpoint has been cosigned yet; is a witness set?", field="cosigned") from None

    def cosigned_over(self, seq: int) -> tuple[int, bytes] | None:
        """That checkpoint and its size if it counts record `seq`, else None."""
        try:
            note = self.cosigned()
        except UnknownError:
            return None
        size = Checkpoint.parse(split(note)[0]).size
        return (size, note) if size >= seq else None

    def close(self) -> None:
        """Close what follows the log, then the log."""
        with ExitStack() as everything:  # the log last, and also when something that follows it cannot be closed
            everything.callback(self.ledger.close)
            everything.callback(self.store.close)
            everything.callback(self.subjects.close)
            if self.cosigner is not None:
                everything.callback(self.cosigner.close)
            everything.callback(self.outbox.close)
