"""The ledger: checks a draft against the rules, appends it to the log and folds it into the state, in one step."""

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
from lineage.log.handover import LogKeys
from lineage.log.index import Records
from lineage.log.reader import Entry
from lineage.log.signed_note import Signer, Verifier
from lineage.log.writer import SEGMENT_BYTES, Log
from lineage.rules.draft import (
    REASON_CHARACTERS,
    Draft,
    Record,
    check_authorised,
    check_permitted,
    model_of,
    parsed_data,
)
from lineage.rules.proposal import Actor
from lineage.rules.roles import acting
from lineage.state.fold import LedgerState

Follower = Callable[[Record], None]
MakeDraft = Callable[[LedgerState], Draft]
#: Actor (None: the draft's own), idempotency key, how to draft the fact, and whether the rules apply.
AppendRequest = tuple[Actor | None, str | None, MakeDraft, bool]
Outcome = tuple[Record, bool]
_NO_DRAFT = Draft("", Actor("", ""), {})
_ATTEMPT_CHARACTERS = 200
T = TypeVar("T")


class Ledger:
    """The ledger over one log folder; one process at a time.

    Invariants: `records[i]` has `seq == i + 1`; the fold has applied exactly the records of the log; a fact is written
    only if its guard passed on the state of all records before it; only durable records can be read; times never
    decrease.

    Args:
        folder: the log folder; made when missing.
        clock: gives the time of each record.
        signer, segment_bytes, disk: as for `Log`.

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
        self._fold_lock = threading.Lock()  # held from the first guard of a group until the group is durable
        self._group: GroupCommit[AppendRequest, Outcome] = GroupCommit(self._commit)
        self._followers: list[Follower] = []
        self._keys: dict[str, int] = {}  # text keys: the garbage collector would walk tuples
        self._staged: list[Record] = []
        self.records = Records()
        self.state = LedgerState()
        try:
            for entry in self._log.replay():
                self._replay(entry)
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
            RefusedError: a guard refused it, the caller's view is stale, or the key was used for another request.
            UnavailableError: the disk failed.
        """
        return self._group.submit((None, None, lambda _: draft, True))[0]

    def act(self, actor: Actor, key: str | None, make: MakeDraft) -> Outcome:
        """Record what `make` drafts from the present state; no other append runs in between.

        Returns:
            The record and whether it is new; it is not when this actor's idempotency key made it before.

        Raises:
            As `append`, and what `make` raises.
        """
        return self._group.submit((actor, key, make, True))

    def read(self, extract: Callable[[LedgerState], T]) -> T:
        """Return what `extract` makes of the state. Appends wait for it: keep it short and return copies."""
        with self._fold_lock:
            return extract(self.state)

    def refuse(self, draft: Draft, refusal: RefusedError) -> Record:
        """Record that a control refused a draft; no rule can refuse this record. The caller raises `refusal`."""
        about = draft.release or draft.model or "platform"
        attempted = f"{draft.kind} {about}"[:_ATTEMPT_CHARACTERS]
        data = {"attempted": attempted, "code": refusal.code, "message": refusal.message[:REASON_CHARACTERS]}
        reason = draft.reason[:REASON_CHARACTERS] if draft.reason is not None else None
        model = model_of(draft)

        def make(state: LedgerState) -> Draft:
            known = model if model in state.models else None
            return Draft("ActionRefused", draft.actor, data, known, None, reason)

        return self._group.submit((None, None, make, False))[0]

    def checkpoint(self) -> bytes:
        """The signed note over every durable record."""
        with self._fold_lock:
            return self._log.note

    def prove(self, seq: int, size: int | None = None) -> tuple[bytes, list[bytes], bytes]:
        """Prove that record `seq` is in the log.

        Args:
            seq: number of the record, from 1.
            size: records that the checkpoint counts; all when None.

        Returns:
            The stored line, its inclusion proof (hashes of 32 bytes) and the checkpoint as a signed note.

        Raises:
            UnknownError: there is no such record among the first `size`.
        """
        with self._fold_lock:
            tree, durable = self._log.tree, len(self.records)
            size = durable if size is None else size
            if not 1 <= seq <= size <= durable:
                raise UnknownError(f"there is no record {seq} among the first {size} of {durable}", field="seq")
            note = Checkpoint(self._log.signer.name, size, tree.root(size)).sign(self._log.signer)
            return self.records.line(seq), tree.prove_inclusion(seq - 1, size), note

    def prove_consistency(self, old: int, new: int) -> list[bytes]:
        """Prove that the log of `old` records is a prefix of the log of `new` records: hashes of 32 bytes.

        Raises:
            UnknownError: `old` is larger than `new`, or there are fewer records.
        """
        with self._fold_lock:
            if not 0 <= old <= new <= len(self.records):
                raise UnknownError(f"no log of {old} and then {new} records; there are {len(self.records)}")
            return self._log.tree.prove_consistency(old, new)

    def root(self, size: int) -> bytes:
        """The Merkle root over the first `size` records."""
        with self._fold_lock:
            return self._log.tree.root(size)

    @property
    def keys(self) -> LogKeys:
        """The keys of the log, the present one last."""
        return self._log.keys

    def hand_over(self, new: Signer, install: Callable[[], None]) -> None:
        """Have another key sign checkpoints from here on; a record has to name both (`Log.hand_over`)."""
        with self._fold_lock:
            self._log.hand_over(new, install)

    @property
    def verifier(self) -> Verifier:
        """The public key of the log's checkpoints."""
        return self._log.signer.verifier

    def close(self) -> None:
        """Release the folder."""
        self._log.close()
        self.records.close()

    def _commit(self, group: Sequence[Slot[AppendRequest, Outcome]]) -> None:
        """Check, stage and fold each request on the state left by those before it, then make all durable at once."""
        with self._fold_lock:
            self.state.begin()
            try:
                for slot in group:
                    self._stage(slot)
                entries = self._log.commit()
            except BaseException:
                self._undo_group()
                raise
            self.state.settle()
            self.records.publish(entries)
            self._staged = []
        for entry in entries:
            for follower in self._followers:
                follower(entry.record)

    def _stage(self, slot: Slot[AppendRequest, Outcome]) -> None:
        try:
            earlier, draft, data = self._resolve(slot.request)
        except (PlimsollError, AttributeError, LookupError, TypeError, ValueError) as error:
            slot.error = error  # raised to this caller only; the rest of the group is committed
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
        self._apply(stored)
        slot.result = (stored, True)

    def _resolve(self, request: AppendRequest) -> tuple[Record | None, Draft, dict[str, Any]]:
        """The earlier record of the same request, or the checked draft with its data in stored form."""
        actor, key, make, apply_rules = request
        earlier = self._record_of_key(actor, key) if actor is not None else None
        if earlier is not None:
            return earlier, _NO_DRAFT, {}
        draft = make(self.state)
        earlier = self._earlier_record(draft)
        data = parsed_data(draft, self.state.era)
        if earlier is None and apply_rules:
            self._check_rules(draft, data)
        return earlier, draft, data

    def _undo_group(self) -> None:
        self._log.unstage()
        self.state.roll_back()
        for record in self._staged:
            if record["key"] is not None:
                del self._keys[_scoped(record["actor"]["name"], record["key"])]
        self._staged = []

    def _record_of_key(self, actor: Actor, key: str | None) -> Record | None:
        """The record that this actor's idempotency key made, if any; also one of the group under way."""
        seq = self._keys.get(_scoped(actor.name, key)) if key is not None else None
        if seq is None:
            return None
        durable = len(self.records)
        return self.records[seq - 1] if seq <= durable else self._staged[seq - durable - 1]

    def _earlier_record(self, draft: Draft) -> Record | None:
        earlier = self._record_of_key(draft.actor, draft.key)
        if earlier is None:
            return None
        # The ledger numbers a trained release itself: the number is not part of the request.
        release = None if earlier["kind"] == "ModelTrained" else earlier["release"]
        before = (earlier["kind"], earlier["model"], release, earlier["reason"], earlier["data"])
        if before != (draft.kind, model_of(draft), draft.release, draft.reason, parsed_data(draft, self.state.era)):
            raise RefusedError(
                f"idempotency key {draft.key!r} was used for another request (record {earlier['seq']}); use a new one",
                code="key_reused",
            )
        return earlier

    def _check_rules(self, draft: Draft, data: dict[str, Any]) -> None:
        model = model_of(draft)
        check_authorised(draft, self.state)  # first: a caller without the right learns nothing about the state
        etag = self.state.etag_of(model)
        if draft.etag is not None and etag is not None and draft.etag != etag:
            raise RefusedError(
                f"you saw state {draft.etag} of {model or 'all models'}, it is now {etag}; look again, then decide",
                code="stale",
                status=412,
                etag=etag,
            )
        check_permitted(draft, data, self.state)

    def _envelope(self, draft: Draft, data: dict[str, Any]) -> Record:
        model, release = model_of(draft), draft.release
        if draft.kind == "ModelTrained":
            release = self.state.next_release(str(model))
        self._latest = max(self._latest, stamp(self._clock()))  # times never decrease, even if the clock is set back
        return {
            "at": self._latest,
            "kind": draft.kind,
            "model": model,
            "release": release,
            "actor": self._actor(draft),
            "reason": draft.reason,
            "data": data,
            "key": draft.key,
        }

    def _actor(self, draft: Draft) -> dict[str, str]:
        actor = draft.actor
        if self.state.era < 3:
            return {"name": actor.name, "role": actor.role}
        return {"id": actor.person, "name": actor.name, "role": acting(draft.kind, actor, self.state.era)}

    def _apply(self, record: Record) -> None:
        self.state.apply(record)
        if record["key"] is not None:
            self._keys[_scoped(record["actor"]["name"], record["key"])] = record["seq"]

    def _replay(self, entry: Entry) -> None:
        record = entry.record
        try:
            self._apply(record)
            self.records.publish([entry])
            self._latest = max(self._latest, record["at"])
        except (LookupError, TypeError, ValueError) as error:
            seq = record["seq"]
            raise TamperedError(f"record {seq} cannot be what was recorded: {error!r}", record=seq) from error


def _scoped(actor: str, key: str) -> str:
    """An idempotency key within its actor's name space; names hold no line feed."""
    return f"{actor}\n{key}"
