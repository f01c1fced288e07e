"""Application context of the ledger service: ledger, store, accounts, data subjects, followers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

import structlog

from lineage.accounts.credentials import Credentials, First
from lineage.clock import Clock, now
from lineage.errors import RefusedError, TamperedError, UnavailableError, UnknownError
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
from lineage.rules.roles import SERVICES
from lineage.segments import Segments
from lineage.service.inbox_cache import InboxCache
from lineage.service.key_changes import KeyChanges, bar_bundles, finish_rotations
from lineage.service.later_store import LaterStore
from lineage.service.metrics import Metrics
from lineage.service.personal_reads import PersonalReads
from lineage.service.sign_ins import PLATFORM_ACTOR, SignIns
from lineage.service.witnessing import Witnessing
from lineage.settings import Settings
from lineage.signing import make_keys
from lineage.witness.comparison import check_against_copy, check_against_witness
from lineage.witness.cosigner import Cosigner, OwnLog

#: Those who waited during a restart, a kill switch among them, are answered before the store takes a CPU.
_STORE_AFTER_SECONDS = 1.0
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
        self.credentials = Credentials(settings, clock=clock)
        self.ledger = Ledger(settings.log_folder, clock=clock, signer=signer_at(settings.log_key))
        try:
            finish_rotations(settings, self.ledger)
            not_compared = self._compare_with_witness()
            self.segments = Segments(settings.root)
            self.store = LaterStore(
                settings.lineage_store, self.ledger.records, decisions=settings.decisions, segments=self.segments
            )
            self.subjects = Subjects(settings, self.ledger, clock=clock, segments=self.segments)
        except BaseException:
            self.ledger.close()
            raise
        self.sign_ins = SignIns(self.ledger, self.credentials, clock)
        self.reads = PersonalReads(self.ledger, clock)
        self.metrics = Metrics()
        self.inboxes = InboxCache()
        self.outbox = Outbox.of_user(self.ledger.records, settings.log_folder.parent, clock=clock)
        self.cosigner = self._cosigner()
        self.key_changes = KeyChanges(settings, self.ledger, self.cosigner)
        self.witnessing = Witnessing(self.ledger, self.cosigner, settings.witness_seconds, clock)
        #: Called once with the reason when the witness shows that this log is not the one it saw.
        self.stop: Callable[[str], None] = lambda _: None
        self.ledger.follow(self._distribute)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._open()
        if not_compared is not None:
            self.witnessing.record_absence(not_compared, at_opening=True)

    def _compare_with_witness(self) -> str | None:
        """Compare the log with what the witness saw; why that was not possible, or None.

        The copy of the last cosigned checkpoint beside the log cannot replace the witness: a folder that was put back
        as a whole holds the copy of its time.
        """
        own, size = self.ledger.keys, len(self.ledger.records)
        check_against_copy(self.settings.cosigned, self.settings.witness_pin, own, size, self.ledger.root)
        if not self.settings.witness_url:
            return None
        try:
            check_against_witness(self.settings.witness_url, self.settings.witness_pin, own, size, self.ledger.root)
        except TamperedError:
            raise
        except UnavailableError as error:
            if self.settings.witness_required:
                raise
            log.error("the log could not be compared with the witness", message=error.message)
            return error.message
        return None

    def _cosigner(self) -> Cosigner | None:
        if not self.settings.witness_url:
            return None
        ledger = self.ledger
        own = OwnLog(ledger.keys, ledger.checkpoint, ledger.prove_consistency, ledger.root)
        pin, cosigned = self.settings.witness_pin, self.settings.cosigned
        url, after = self.settings.witness_url, self._after_cosigning
        return Cosigner(own, url, pin=pin, cosigned=cosigned, clock=self.clock, after_round=after)

    def _after_cosigning(self) -> None:
        """Record what changed; a log that the witness refuses before it was ever compared ends the service."""
        self.witnessing.after_round()
        refused = self.cosigner.state()["refused"] if self.cosigner else None
        if refused and self.cosigner and not self.cosigner.compared:
            self.stop(refused)

    def _open(self) -> None:
        bar_bundles(self.settings, self.ledger)
        opened = {
            "records": len(self.ledger.records),
            "torn_bytes": self.ledger.torn_bytes,
            "signing_key": make_keys(self.settings),
        }
        self.ledger.append(Draft("LedgerOpened", PLATFORM_ACTOR, opened))
        for era in range(self.ledger.state.era + 1, LATEST + 1):
            self.ledger.append(Draft("RulesActivated", PLATFORM_ACTOR, activation(era)))
        for what, detail in self.settings.unsafe.items():
            self.ledger.append(Draft("UnsafeUsed", PLATFORM_ACTOR, {"what": what, "detail": detail}))
        for first in self.credentials.firsts():
            self._put_on_record(first)

    def _put_on_record(self, first: First) -> None:
        """Record an account of the first start. One that is on record already gets the new credentials, on record."""
        people = self.ledger.state.people
        if first.account in people.accounts:
            return
        known = people.named(first.name)
        if known is None:
            data: dict[str, object] = {"account": first.account, "name": first.name, "kind": first.kind}
            data |= {"roles": list(first.roles)}
            data |= {"bootstrap": first.kind == "person", "identity": None, "requested": None}
            self.ledger.append(Draft("AccountAdded", PLATFORM_ACTOR, data))
            return
        self.credentials.adopt(first, known.id)
        reset = {"account": known.id, "requested": None}
        reason = "the credentials file was lost; `plimsoll up` made new passwords on the machine"
        self.ledger.append(Draft("PasswordReset", PLATFORM_ACTOR, reset, reason=reason))

    def actor_of(self, token: str) -> Actor:
        """The account that a token belongs to, with the roles that the record gives it now.

        Raises:
            RefusedError: the token is unknown or has expired, or the account is disabled (401).
        """
        account = self.ledger.state.people.accounts.get(self.credentials.owner_of(token))
        if account is None or not account.active:
            raise RefusedError("the account of this token is disabled or not on record", code="token", status=401)
        return Actor(account.name, account.roles[0], account.id, account.roles[1:])

    def live_tokens(self) -> dict[str, dict[str, object]]:
        """SHA-256 of every live token with its account, for gateways; `service` is the role of the platform's own."""
        accounts = self.ledger.state.people.accounts
        live: dict[str, dict[str, object]] = {}
        for hashed, owner in self.credentials.live_tokens().items():
            account = accounts.get(owner)
            if account is not None and account.active:
                role = "service" if account.roles[0] in SERVICES else account.roles[0]
                about: dict[str, object] = {
                    "name": account.name,
                    "role": role,
                    "id": account.id,
                    "roles": list(account.roles),
                }
                live[hashed] = about
        return live

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the loop on which followers wait; start delivery to OpenLineage and the witness, then open the store."""
        self._loop = loop
        loop.call_later(_STORE_AFTER_SECONDS, self.store.begin)
        self.outbox.start()
        self.sign_ins.start()
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

    def tokens_changed(self) -> None:
        """Wake those who wait for news: tokens were added or ended, which is no fact."""
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
        away = self.ledger.state.away
        degraded = None if away is None else {"since": away.since, "record": away.seq, "at_opening": away.at_opening}
        return {
            "ok": True,
            "records": len(self.ledger.records),
            "store": self.store.state,
            "missing_segments": len(self.segments.missing),
            "unsafe": [{"what": what, "detail": detail} for what, detail in self.settings.unsafe.items()],
            "witness": witness,
            "witness_away": degraded,
            "openlineage": openlineage,
        }

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
            everything.callback(self.sign_ins.close)
