"""The ledger: guards, log and fold as one. What it acknowledges is on disk, legal and folded."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lineage.clock import Clock, now, stamp
from lineage.digest import digest_of
from lineage.errors import InvalidError, RefusedError, TamperedError
from lineage.facts import parse_fact, subject_of
from lineage.guards import PEOPLE_MAY, PLATFORM, Actor, guard, may
from lineage.log import Log
from lineage.state import LedgerState

Record = dict[str, Any]
Follower = Callable[[Record], None]
REASON_CHARACTERS = 4_000
_ATTEMPT_CHARACTERS = 200
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
T = TypeVar("T")


@dataclass(frozen=True)
class Draft:
    """A fact that somebody asks the ledger to record."""

    kind: str
    actor: Actor
    data: dict[str, Any]
    model: str | None = None
    release: str | None = None
    reason: str | None = None
    key: str | None = None
    etag: int | None = None


class Ledger:
    """One process's hold on a log folder.

    Invariants: `records[i]` has `seq == i + 1`; the fold has seen exactly the records of the log; a fact is written
    only if its guard passed on the state that all records before it add up to.

    Raises:
        RefusedError: another process has the folder.
        TamperedError: the log was changed.
    """

    def __init__(self, folder: Path, *, clock: Clock = now) -> None:
        self._log = Log(folder)
        self._clock = clock
        self._lock = threading.Lock()  # one append at a time
        self._fold = threading.Lock()  # nobody reads a half-applied record
        self._followers: list[Follower] = []
        self._keys: dict[tuple[str, str], tuple[int, str]] = {}
        self.records: list[Record] = []
        self.state = LedgerState()
        try:
            for record in self._log.replay():
                self._fold_in(record)
        except BaseException:
            self._log.close()
            raise

    @property
    def torn_bytes(self) -> int:
        """Bytes of an unacknowledged record that a crash left and opening cut."""
        return self._log.torn_bytes

    @property
    def head(self) -> str:
        """Hash of the newest line."""
        return self._log.head

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
        with self._lock:
            return self._append(draft)

    def act(self, actor: Actor, key: str | None, make: Callable[[LedgerState], Draft]) -> tuple[Record, bool]:
        """Record what `make` drafts from the present state, which nothing changes meanwhile.

        Returns:
            The record and whether it is new; it is not when this actor's idempotency key made it before.

        Raises:
            As `append`, and what `make` raises.
        """
        with self._lock:
            if (earlier := self.recorded(actor, key)) is not None:
                return earlier, False
            return self._append(make(self.state)), True

    def read(self, look: Callable[[LedgerState], T]) -> T:
        """What `look` makes of the fold, which stands still meanwhile; let it take copies, not references."""
        with self._fold:
            return look(self.state)

    def refuse(self, draft: Draft, refusal: RefusedError) -> Record:
        """Put on record that a control refused somebody, then the caller raises it."""
        about = draft.release or draft.model or "platform"
        attempted = f"{draft.kind} {about}"[:_ATTEMPT_CHARACTERS]
        message = refusal.message[:REASON_CHARACTERS]
        data = {"attempted": attempted, "code": refusal.code, "message": message}
        model = _model_of(draft)
        with self._lock:
            known = model if model in self.state.models else None
            reason = draft.reason[:REASON_CHARACTERS] if draft.reason is not None else None
            platform = Draft("ActionRefused", draft.actor, data, known, None, reason)
            return self._store(self._envelope(platform, parse_fact("ActionRefused", data)))

    def recorded(self, actor: Actor, key: str | None) -> Record | None:
        """The record that this actor's idempotency key made, if any."""
        known = self._keys.get((actor.name, key)) if key is not None else None
        return self.records[known[0] - 1] if known else None

    def close(self) -> None:
        """Release the folder."""
        self._log.close()

    def _append(self, draft: Draft) -> Record:
        if (earlier := self._repeated(draft)) is not None:
            return earlier
        return self._store(self._accept(draft))

    def _store(self, record: Record) -> Record:
        stored = self._log.append(record)
        self._take(stored)
        for follower in self._followers:
            follower(stored)
        return stored

    def _repeated(self, draft: Draft) -> Record | None:
        if draft.key is None:
            return None
        earlier = self._keys.get((draft.actor.name, draft.key))
        if earlier is None:
            return None
        seq, content = earlier
        if content != _content(draft.kind, draft.model, draft.release, draft.reason, _parsed(draft)):
            raise RefusedError(
                f"idempotency key {draft.key!r} was used for another request (record {seq}); use a new one",
                code="key_reused",
            )
        return self.records[seq - 1]

    def _accept(self, draft: Draft) -> Record:
        data, model = _parsed(draft), _model_of(draft)
        _authorised(draft, self.state)
        known = self.state.models.get(model or "")
        if draft.etag is not None and known is not None and draft.etag != known.etag:
            raise RefusedError(
                f"you saw state {draft.etag} of {model}, it is now {known.etag}; look again, then decide",
                code="stale",
                status=412,
                etag=known.etag,
            )
        guard(draft.kind, draft.actor, model, draft.release, data, self.state)
        return self._envelope(draft, data)

    def _envelope(self, draft: Draft, data: dict[str, Any]) -> Record:
        model, release = _model_of(draft), draft.release
        if draft.kind == "ModelTrained":
            release = self.state.next_release(str(model))
        return {
            "at": stamp(self._clock()),
            "kind": draft.kind,
            "model": model,
            "release": release,
            "actor": {"name": draft.actor.name, "role": draft.actor.role},
            "reason": draft.reason,
            "data": data,
            "key": draft.key,
        }

    def _take(self, record: Record) -> None:
        self.records.append(record)
        with self._fold:
            self.state.apply(record)
        if record["key"] is not None:
            # The ledger numbers a trained release itself, so the number is no part of what the caller sent.
            release = None if record["kind"] == "ModelTrained" else record["release"]
            content = _content(record["kind"], record["model"], release, record["reason"], record["data"])
            self._keys[(record["actor"]["name"], record["key"])] = (record["seq"], content)

    def _fold_in(self, record: Record) -> None:
        try:
            self._take(record)
        except (LookupError, TypeError, ValueError) as error:
            seq = record["seq"]
            raise TamperedError(f"record {seq} cannot be what was recorded: {error!r}", record=seq) from error


def check_record(record: Record, state: LedgerState) -> None:
    """Check that a stored record is a fact that the ledger would accept in this state.

    Raises:
        PlimsollError: it would not.
    """
    actor = Actor(record["actor"]["name"], record["actor"]["role"])
    numbered, release = record["kind"] == "ModelTrained", record["release"]
    if numbered and release != state.next_release(str(record["model"])):
        raise TamperedError(f"{release} is not the next release of {record['model']}", record=record["seq"])
    draft = Draft(
        record["kind"], actor, record["data"], record["model"], None if numbered else release, record["reason"]
    )
    if draft.model != _model_of(draft):
        raise TamperedError(f"{release} is recorded without its model", record=record["seq"])
    data = _parsed(draft)
    if draft.kind != "ActionRefused":  # whatever was refused, the refusal is on record
        _authorised(draft, state)
        guard(draft.kind, actor, draft.model, draft.release, data, state)


def _authorised(draft: Draft, state: LedgerState) -> None:
    _well_formed(draft, _model_of(draft))
    about = state.releases.get(draft.release or "")
    may(draft.kind, draft.actor, about.author if about else None)


def _parsed(draft: Draft) -> dict[str, Any]:
    return parse_fact(draft.kind, draft.data)


def _model_of(draft: Draft) -> str | None:
    return draft.model if draft.model is not None else draft.release.rpartition("@")[0] if draft.release else None


def _content(kind: str, model: str | None, release: str | None, reason: str | None, data: dict[str, Any]) -> str:
    name = model if model is not None else release.rpartition("@")[0] if release else None
    return digest_of([kind, name, release, reason, data])


def _well_formed(draft: Draft, model: str | None) -> None:
    subject = subject_of(draft.kind)
    if subject != "platform" and not model:
        raise InvalidError(f"{draft.kind} is about a model; none was named", field="model")
    if model and not _NAME.fullmatch(model):
        raise InvalidError(
            f"{model!r:.120} is no name of a model; expected up to 100 letters, digits, dots, dashes or underscores",
            field="model",
        )
    if subject == "release" and not draft.release and draft.kind != "ModelTrained":
        raise InvalidError(f"{draft.kind} is about a release; none was named", field="release")
    if draft.release and draft.kind == "ModelTrained":
        raise InvalidError("the ledger numbers releases; ModelTrained names a model only", field="release")
    if draft.release and draft.release.rpartition("@")[0] != model:
        raise InvalidError(f"{draft.release} is no release of {model}", field="release")
    person = draft.actor.role not in ("service", PLATFORM)
    if person and draft.kind in PEOPLE_MAY and not (draft.reason or "").strip():
        raise InvalidError(f"{draft.kind} takes a reason: say in a sentence why", field="reason")
    if draft.reason is not None and len(draft.reason) > REASON_CHARACTERS:
        raise InvalidError(
            f"the reason has {len(draft.reason)} characters; at most {REASON_CHARACTERS} are kept", field="reason"
        )
