"""The ledger: guards, log and fold as one. What it acknowledges is on disk, legal and folded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lineage.clock import Clock, now, stamp
from lineage.errors import PlimsollError, RefusedError, TamperedError, UnknownError
from lineage.log.checkpoint import Checkpoint
from lineage.log.disk import Disk
from lineage.log.group_commit import GroupCommit, Slot
from lineage.log.index import Records
from lineage.log.reader import Entry
from lineage.log.signed_note import Signer, Verifier
from lineage.log.writer import SEGMENT_BYTES, Log
from lineage.rules.draft import REASON_CHARACTERS, Draft, Record, authorised, model_of, parsed, permitted
from lineage.rules.proposal import Actor
from lineage.state.fold import LedgerState

Follower = Callable[[Record], None]
Make = Callable[[LedgerState], Draft]
#: A wish: whose it is, the idempotency key, what is to be drafted, and whether rules may refuse it.
Wish = tuple[Actor | None, str | None, Make, bool]
Outcome = tuple[Record, bool]
_NOTHING = Draft("", Actor("", ""), {})
_ATTEMPT_CHARACTERS = 200
T = TypeVar("T")


class Ledger:
    """One process's hold on a log folder.

    Invariants: `records[i]` has `seq == i + 1`; the fold has seen exactly the records of the log; a fact is written
    only if its guard passed on the state that all records before it add up to; nobody reads what is not durable yet;
    times never decrease.

    Args:
        signer: as for `Log`.

    Raises:
        RefusedError: another process has the folder.
        TamperedError: the log was changed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock = now,
        signer: Signer | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        disk: Disk | None = None,
    ) -> None:
        self._log = Log(folder, signer=signer, segment_bytes=segment_bytes, disk=disk)
        self._clock = clock
        self._latest = ""
        self._fold = threading.Lock()  # held from the first guard of a group until the group is durable
        self._group: GroupCommit[Wish, Outcome] = GroupCommit(self._commit)
        self._followers: list[Follower] = []
        self._keys: dict[str, int] = {}  # by text: tuples would have the garbage collector walk all of them
        self._staged: list[Record] = []
        self.records = Records()
        self.state = LedgerState()
        try:
            for entry in self._log.replay():
                self._fold_in(entry)
        except BaseException:
            self.close()
            raise

    @property
    def torn_bytes(self) -> int:
        """Bytes of an unacknowledged record that a crash left and opening cut."""
        return self._log.torn_bytes

    def follow(self, follower: Follower) -> None:
        """Call `follower` with every record from now on, in order, right after it is durable."""
        self._followers.append(follower)

    def append(self, draft: Draft) -> Record:
        """Record a fact, or return the record that the same idempotency key made before.

        Raises:
            InvalidError: the fact is not well formed.
            RefusedError: a guard said no, the caller's view is stale, or the key was used for something else.
            UnavailableError: the disk did not take it.
        """
        return self._group.ask((None, None, lambda _: draft, True))[0]

    def act(self, actor: Actor, key: str | None, make: Make) -> Outcome:
        """Record what `make` drafts from the present state, which nothing changes meanwhile.

        Returns:
            The record and whether it is new; it is not when this actor's idempotency key made it before.

        Raises:
            As `append`, and what `make` raises.
        """
        return self._group.ask((actor, key, make, True))

    def read(self, look: Callable[[LedgerState], T]) -> T:
        """What `look` makes of the fold, which stands still meanwhile; let it take copies, not references."""
        with self._fold:
            return look(self.state)

    def refuse(self, draft: Draft, refusal: RefusedError) -> Record:
        """Put on record that a control refused somebody, then the caller raises it."""
        about = draft.release or draft.model or "platform"
        attempted = f"{draft.kind} {about}"[:_ATTEMPT_CHARACTERS]
        data = {"attempted": attempted, "code": refusal.code, "message": refusal.message[:REASON_CHARACTERS]}
        reason = draft.reason[:REASON_CHARACTERS] if draft.reason is not None else None
        model = model_of(draft)

        def make(state: LedgerState) -> Draft:
            known = model if model in state.models else None
            return Draft("ActionRefused", draft.actor, data, known, None, reason)

        return self._group.ask((None, None, make, False))[0]

    def checkpoint(self) -> bytes:
        """The signed note over every durable record."""
        with self._fold:
            return self._log.note

    def prove(self, seq: int, size: int | None = None) -> tuple[bytes, list[bytes], bytes]:
        """Show that record `seq` is in the log: its line, its inclusion proof, the checkpoint that it leads to.

        Args:
            size: of the checkpoint; all records when None.

        Raises:
            UnknownError: there is no such record, or not within that size.
        """
        with self._fold:
            tree, here = self._log.tree, len(self.records)
            size = here if size is None else size
            if not 1 <= seq <= size <= here:
                raise UnknownError(f"there is no record {seq} among the first {size} of {here}", field="seq")
            note = Checkpoint(self._log.signer.name, size, tree.root(size)).sign(self._log.signer)
            return self.records.line(seq), tree.prove_inclusion(seq - 1, size), note

    def prove_consistency(self, old: int, new: int) -> list[bytes]:
        """Show that the log of `old` records is a prefix of that of `new`.

        Raises:
            UnknownError: there are not so many.
        """
        with self._fold:
            if not 0 <= old <= new <= len(self.records):
                raise UnknownError(f"no log of {old} and then {new} records; there are {len(self.records)}")
            return self._log.tree.prove_consistency(old, new)

    def root(self, size: int) -> bytes:
        """The Merkle root over the first `size` records."""
        with self._fold:
            return self._log.tree.root(size)

    @property
    def verifier(self) -> Verifier:
        """The public key that checks the log's checkpoints."""
        return self._log.signer.verifier

    def close(self) -> None:
        """Release the folder."""
        self._log.close()
        self.records.close()

    def _commit(self, group: Sequence[Slot[Wish, Outcome]]) -> None:
        """Guard, stage and fold each wish on what those before it add up to, then make all of them durable at once."""
        with self._fold:
            self.state.begin()
            try:
                for slot in group:
                    self._grant(slot)
                entries = self._log.commit()
            except BaseException:
                self._take_back()
                raise
            self.state.settle()
            self.records.publish(entries)
            self._staged = []
        for entry in entries:
            for follower in self._followers:
                follower(entry.record)

    def _grant(self, slot: Slot[Wish, Outcome]) -> None:
        try:
            earlier, draft, data = self._hear(slot.asked)
        except (PlimsollError, AttributeError, LookupError, TypeError, ValueError) as error:
            slot.error = error  # raised where it was asked for; the others of the group go on
            return
        if earlier is not None:
            slot.result = (earlier, False)
            return
        try:
            stored = self._log.stage(self._envelope(draft, data))
        except PlimsollError as error:
            slot.error = error
            return
        self._staged.append(stored)
        self._take(stored)
        slot.result = (stored, True)

    def _hear(self, wish: Wish) -> tuple[Record | None, Draft, dict[str, Any]]:
        """The record that was made before for this wish, or the draft that no rule refuses, with its data."""
        actor, key, make, ruled = wish
        earlier = self._recorded(actor, key) if actor is not None else None
        if earlier is not None:
            return earlier, _NOTHING, {}
        draft = make(self.state)
        earlier = self._repeated(draft)
        data = parsed(draft, self.state.era)
        if earlier is None and ruled:
            self._check(draft, data)
        return earlier, draft, data

    def _take_back(self) -> None:
        self._log.unstage()
        self.state.roll_back()
        for record in self._staged:
            if record["key"] is not None:
                del self._keys[_scoped(record["actor"]["name"], record["key"])]
        self._staged = []

    def _recorded(self, actor: Actor, key: str | None) -> Record | None:
        """The record that this actor's idempotency key made, if any; also one of the group under way."""
        seq = self._keys.get(_scoped(actor.name, key)) if key is not None else None
        if seq is None:
            return None
        durable = len(self.records)
        return self.records[seq - 1] if seq <= durable else self._staged[seq - durable - 1]

    def _repeated(self, draft: Draft) -> Record | None:
        earlier = self._recorded(draft.actor, draft.key)
        if earlier is None:
            return None
        # The ledger numbers a trained release itself, so the number is no part of what the caller sent.
        release = None if earlier["kind"] == "ModelTrained" else earlier["release"]
        before = (earlier["kind"], earlier["model"], release, earlier["reason"], earlier["data"])
        if before != (draft.kind, model_of(draft), draft.release, draft.reason, parsed(draft, self.state.era)):
            raise RefusedError(
                f"idempotency key {draft.key!r} was used for another request (record {earlier['seq']}); use a new one",
                code="key_reused",
            )
        return earlier

    def _check(self, draft: Draft, data: dict[str, Any]) -> None:
        model = model_of(draft)
        authorised(draft, self.state)  # before anything is said about the state
        etag = self.state.etag_of(model)
        if draft.etag is not None and etag is not None and draft.etag != etag:
            raise RefusedError(
                f"you saw state {draft.etag} of {model or 'all models'}, it is now {etag}; look again, then decide",
                code="stale",
                status=412,
                etag=etag,
            )
        permitted(draft, data, self.state)

    def _envelope(self, draft: Draft, data: dict[str, Any]) -> Record:
        model, release = model_of(draft), draft.release
        if draft.kind == "ModelTrained":
            release = self.state.next_release(str(model))
        self._latest = max(self._latest, stamp(self._clock()))  # a clock that is put back does not put time back
        return {
            "at": self._latest,
            "kind": draft.kind,
            "model": model,
            "release": release,
            "actor": {"name": draft.actor.name, "role": draft.actor.role},
            "reason": draft.reason,
            "data": data,
            "key": draft.key,
        }

    def _take(self, record: Record) -> None:
        self.state.apply(record)
        if record["key"] is not None:
            self._keys[_scoped(record["actor"]["name"], record["key"])] = record["seq"]

    def _fold_in(self, entry: Entry) -> None:
        record = entry.record
        try:
            self._take(record)
            self.records.publish([entry])
            self._latest = max(self._latest, record["at"])
        except (LookupError, TypeError, ValueError) as error:
            seq = record["seq"]
            raise TamperedError(f"record {seq} cannot be what was recorded: {error!r}", record=seq) from error


def _scoped(actor: str, key: str) -> str:
    """An idempotency key as its actor's own; no name holds a line feed."""
    return f"{actor}\n{key}"
