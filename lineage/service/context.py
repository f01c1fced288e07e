"""Application context of the ledger service: ledger, store, accounts, data subjects, followers."""

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
from lineage.segments import Segments
from lineage.service.inbox_cache import InboxCache
from lineage.service.metrics import Metrics
from lineage.service.personal_reads import PersonalReads
from lineage.settings import Settings
from lineage.signing import make_keys
from lineage.store.duckdb_store import Store
from lineage.witness.cosigner import Cosigner, OwnLog, check_against_copy, check_against_witness

PLATFORM_ACTOR = Actor("ledger", PLATFORM)
log = structlog.get_logger("plimsoll.ledger")


class Context:
    """The ledger of one home with its accounts, lineage store, witness client and other followers.

    Raises:
        RefusedError: another process has the log open.
        TamperedError: the log was changed, or does not continue the last checkpoint that the witness cosigned.
    """

    def __init__(self, settings: Settings, *, clock: Clock = now) -> None:
        self.settings = settings
        self.clock = clock
        self.accounts = Accounts(settings, clock=clock)
        self.ledger = Ledger(settings.log_folder, clock=clock, signer=signer_at(settings.log_key))
        try:
            self._compare_with_witness()
            self.segments = Segments(settings.root)
            self.store = Store(
                settings.lineage_store, self.ledger.records, decisions=settings.decisions, segments=self.segments
            )
            self.subjects = Subjects(settings, self.ledger, clock=clock, segments=self.segments)
        except BaseException:
            self.ledger.close()
            raise
        self.reads = PersonalReads(self.ledger, clock)
        self.metrics = Metrics()
        self.inboxes = InboxCache()
        self.outbox = Outbox.of_user(self.ledger.records, settings.log_folder.parent, clock=clock)
        self.cosigner = self._cosigner()
        self.ledger.follow(self._distribute)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._open()

    def _compare_with_witness(self) -> None:
        own, size = self.ledger.verifier, len(self.ledger.records)
        check_against_copy(self.settings.cosigned, self.settings.witness_pin, own, size, self.ledger.root)
        if not self.settings.witness_url:
            return
        try:
            check_against_witness(self.settings.witness_url, self.settings.witness_pin, own, size, self.ledger.root)
        except TamperedError:
            raise
        except UnavailableError as error:  # shown by /healthz; recording continues without the witness
            log.error("the log could not be compared with the witness", message=error.message)

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
        """Set the loop on which followers wait, and start delivery to OpenLineage and the witness."""
        self._loop = loop
        self.outbox.start()
        if self.cosigner is not None:
            self.cosigner.start()

    def _distribute(self, record: Record) -> None:
        try:
            self.store.add(record)
        except (
            UnavailableError
        ) as error:  # the record is in the log; the store keeps it queued, and queries fail until it is in
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
        """Return when there is a record with a number above `after`, or after `seconds`."""
        news = self._news
        if len(self.ledger.records) > after or seconds <= 0:
            return
        try:
            await asyncio.wait_for(news.wait(), seconds)
        except TimeoutError:
            return

    def health(self) -> dict[str, object]:
        """Public health: the number of records, the progress of witness and OpenLineage, and missing segments.

        `missing_segments` counts those that a query, a look-up or the door found unusable when it last wanted them.
        """
        delivery = self.outbox.state()
        openlineage = {name: delivery[name] for name in ("sent", "waiting", "dead", "failing_since")}
        witness = self.cosigner.state() if self.cosigner else None
        missing = len(self.segments.missing)
        health: dict[str, object] = {"ok": True, "records": len(self.ledger.records), "missing_segments": missing}
        return health | {"witness": witness, "openlineage": openlineage}

    def witness_vkey(self) -> str | None:
        """The pinned public key of the witness; None before first contact."""
        try:
            return self.settings.witness_pin.read_text().strip()
        except FileNotFoundError:
            return None

    def cosigned(self) -> bytes:
        """The newest cosigned checkpoint, a signed note.

        Raises:
            UnknownError: none was cosigned yet.
        """
        try:
            return self.settings.cosigned.read_bytes()
        except FileNotFoundError:
            raise UnknownError("no checkpoint has been cosigned yet; is a witness set?", field="cosigned") from None

    def cosigned_over(self, seq: int) -> tuple[int, bytes] | None:
        """Size and note of the newest cosigned checkpoint if it counts record `seq`, else None."""
        try:
            note = self.cosigned()
        except UnknownError:
            return None
        size = Checkpoint.parse(split(note)[0]).size
        return (size, note) if size >= seq else None

    def close(self) -> None:
        """Close the followers of the log, then the log."""
        with ExitStack() as everything:  # the log last, even if closing a follower fails
            everything.callback(self.ledger.close)
            everything.callback(self.store.close)
            everything.callback(self.subjects.close)
            if self.cosigner is not None:
                everything.callback(self.cosigner.close)
            everything.callback(self.outbox.close)
