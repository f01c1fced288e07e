"""Erasure of a data subject: holds and retention, the data affected, the fact on record, the end of the key.

The order is: find the affected data, record the erasure, destroy key and salt. After a crash between the last two the
service destroys the key when it starts. No record names a person: holds and erasures state a commitment whose salt is
in the vault and destroyed with the key.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from lineage.clock import Clock, instant, now
from lineage.errors import InvalidError, RefusedError, UnavailableError, UnknownError
from lineage.ledger import Ledger
from lineage.privacy.affected_data import AffectedData, pins_of, rows_of_subject
from lineage.privacy.decisions import PLAIN, Decisions, Found
from lineage.privacy.key_vault import Vault
from lineage.rules.draft import Draft, Record
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM, SUBJECTS_MAY, check_subject_role, role_for_subject
from lineage.segments import Missing, Segments
from lineage.settings import Settings

KINDS = tuple(SUBJECTS_MAY)
GROUND = "GDPR (Regulation (EU) 2016/679) Art. 17(1)"
HOLD_LAW = "GDPR Art. 17(3)(e): legal claims; 12 CFR 1002.12(b)(4): records under investigation are kept"
#: Days of retention where a policy has no [records]: at least 25 months.
RETENTION_DAYS = 762
RETENTION_LAW = "GDPR Art. 17(3)(b); 12 CFR 1002.12(b)(1) (Regulation B): applications are kept for 25 months"
_LEDGER = Actor("ledger", PLATFORM)
log = structlog.get_logger("plimsoll.ledger")


@dataclass(frozen=True)
class SubjectRequest:
    """A request for a hold, the release of a hold, or an erasure.

    Attributes:
        actor: the person who makes the request.
        subject: key of the data subject.
        key: idempotency key.
    """

    actor: Actor
    subject: str
    reason: str
    key: str | None = None

    @property
    def scoped(self) -> str | None:
        """The idempotency key on record: prefixed by its actor, since the ledger itself states the fact."""
        return None if self.key is None else f"{self.actor.name}:{self.key}"


class Subjects:
    """Holds, erasures and decisions of data subjects. Made once the ledger is open.

    If the vault does not answer, only the methods here fail until it does; the ledger goes on.

    Raises (every method that acts):
        RefusedError: the role may not, or retention or a hold forbids it.
        InvalidError: the subject is not one person, or the reason or idempotency key names the person.
        UnknownError: the vault has no key of that name.
        UnavailableError: the vault, a segment or the log cannot be read or written.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, *, clock: Clock = now, segments: Segments | None = None
    ) -> None:
        self._settings, self._ledger, self._clock = settings, ledger, clock
        self._vault = Vault(settings)
        self._decisions = Decisions(settings, ledger.records, self._vault, segments)
        self._applied = False
        self._applying = threading.Lock()
        self._lock = threading.Lock()  # serialises holds and erasures
        self._holds: dict[str, int] = {}
        self._erased: dict[str, Record] = {}
        self._by_key: dict[str, Record] = {}
        for record in ledger.records.find(kinds=KINDS).records:
            self._note(record)
        ledger.follow(self._note)
        try:
            self._apply()
        except UnavailableError as error:
            log.error("data subjects cannot be looked up or erased for now", message=error.message)

    @property
    def vault(self) -> Vault:
        """The vault, after all erasures on record were applied to it."""
        self._apply()
        return self._vault

    @property
    def decisions(self) -> Decisions:
        """The look-up of decisions, after all erasures on record were applied to the vault."""
        self._apply()
        return self._decisions

    def hold(self, request: SubjectRequest) -> tuple[Record, bool]:
        """Forbid the erasure of a person; return the record and whether it is new."""
        _check(request, "HoldPlaced")
        with self._lock:
            if (earlier := self._earlier(request, "HoldPlaced")) is not None:
                return earlier, False
            commitment = self.vault.commitment(self._pseudonym_of(request.subject))
            if (placed := self._holds.get(commitment)) is not None:
                raise RefusedError(f"record {placed} holds this person already", code="hold", record=placed)
            return self._record(request, "HoldPlaced", {"commitment": commitment}), True

    def release_hold(self, request: SubjectRequest) -> tuple[Record, bool]:
        """Allow the erasure of a person again; return the record and whether it is new."""
        _check(request, "HoldReleased")
        with self._lock:
            if (earlier := self._earlier(request, "HoldReleased")) is not None:
                return earlier, False
            commitment = self.vault.commitment(self._pseudonym_of(request.subject))
            placed = self._holds.get(commitment)
            if placed is None:
                raise RefusedError("there is no hold on this person; there is nothing to release", code="no_hold")
            return self._record(request, "HoldReleased", {"commitment": commitment, "placed": placed}), True

    def erase(self, request: SubjectRequest, *, identity_verified: bool) -> tuple[Record, bool]:
        """Destroy a person's key and salt.

        Returns:
            The record and whether it is new; a new one has the affected data as `touched`, a repeated one None.
        """
        _check(request, "SubjectErased")
        if not identity_verified:
            raise RefusedError(
                "the identity of the person was not verified; verify it, then set identity_verified",
                code="identity",
                status=403,
                field="identity_verified",
            )
        with self._lock:
            earlier = self._earlier(request, "SubjectErased")
            pseudonym = self.vault.existing_pseudonym(request.subject)
            if earlier is None and pseudonym is not None:
                earlier = self._erased.get(self.vault.commitment(pseudonym))  # on record, but the key is still there
            if earlier is not None:
                self._destroy(pseudonym, earlier)
                return earlier | {"touched": None}, False
            return self._erase(request, self._pseudonym_of(request.subject)), True

    def _erase(self, request: SubjectRequest, pseudonym: str) -> Record:
        """Record the erasure and destroy the key. No key is made meanwhile: later decisions get a new key."""
        record: Record | None = None
        try:
            with self.vault.exclusive():
                moment, commitment = self._clock(), self.vault.commitment(pseudonym)
                self._refuse_if_held(commitment)
                history = self.decisions.of_subject(request.subject)
                found = history.decisions
                self._refuse_if_unread(history.missing)
                self._refuse_if_retained(found)
                affected = self._affected(request.subject, found)
                data = {"commitment": commitment, "ground": GROUND, **affected.counts()}
                record = self._record(request, "SubjectErased", data)
                self.vault.erase(pseudonym, moment, record["seq"])
        except UnavailableError as error:
            raise error if record is None else _unfinished(record, error) from error
        return record | {"touched": affected.to_dict()}

    def close(self) -> None:
        """Close the index and the vault."""
        self._decisions.close()
        self._vault.close()

    def _apply(self) -> None:
        """Repeat the recorded erasures once: the vault may be from a backup, or a crash came before the erasure."""
        with self._applying:
            if not self._applied:
                self._vault.apply_erasures(list(self._erased.values()))
                self._applied = True

    def _note(self, record: Record) -> None:
        if record["kind"] not in KINDS:
            return
        commitment = record["data"]["commitment"]
        if record["kind"] == "SubjectErased":
            self._erased[commitment] = record
        elif record["kind"] == "HoldPlaced":
            self._holds[commitment] = record["seq"]
        else:
            self._holds.pop(commitment, None)
        if record["key"] is not None:
            self._by_key[record["key"]] = record

    def _record(self, request: SubjectRequest, kind: str, data: dict[str, Any]) -> Record:
        data = data | {"by": request.actor.name, "role": role_for_subject(kind, request.actor)}
        return self._ledger.append(Draft(kind, _LEDGER, data, None, None, request.reason, request.scoped))

    def _earlier(self, request: SubjectRequest, kind: str) -> Record | None:
        """The earlier record of the same request; its subject can be compared only while the key exists."""
        earlier = self._by_key.get(request.scoped or "")
        if earlier is None:
            return None
        pseudonym = self.vault.existing_pseudonym(request.subject)
        same = pseudonym is None or self.vault.commitment(pseudonym) == earlier["data"]["commitment"]
        if not same or earlier["kind"] != kind or earlier["reason"] != request.reason:
            raise RefusedError(
                f"idempotency key {request.key!r} was used for another request "
                f"(record {earlier['seq']}); use a new one",
                code="key_reused",
            )
        return earlier

    def _pseudonym_of(self, subject: str) -> str:
        pseudonym = self.vault.existing_pseudonym(subject)
        if pseudonym is None:
            datasets = self._datasets(subject)
            hint = f"; {len(datasets)} pinned data sets hold it" if datasets else ""
            raise UnknownError(
                f"the vault has no key of this subject: there was no decision about it, or it is erased{hint}",
                field="subject",
                datasets=datasets,
            )
        return pseudonym

    def _destroy(self, pseudonym: str | None, record: Record) -> None:
        if pseudonym is None:
            return
        try:
            self.vault.erase(pseudonym, instant(record["at"]), record["seq"])
        except UnavailableError as error:
            raise _unfinished(record, error) from error

    def _refuse_if_held(self, commitment: str) -> None:
        placed = self._holds.get(commitment)
        if placed is not None:
            raise RefusedError(
                f"record {placed} holds this person's data until an auditor releases it. {HOLD_LAW}",
                code="hold",
                ground=HOLD_LAW,
                until=None,
                record=placed,
            )

    def _refuse_if_unread(self, missing: list[Missing]) -> None:
        """Refuse while a segment cannot be read that may hold decisions which have to be kept.

        Raises:
            UnavailableError: there is one; put back from a backup, it no longer keeps anybody from being erased.
        """
        for one in missing:
            record = self._ledger.records[one.record - 1]  # nothing in it is younger than its record
            until, law = self._kept_until([(name, record["at"]) for name in record["data"]["releases"] or ("",)])
            if until > self._clock():
                raise UnavailableError(
                    f"segment {one.segment} (record {one.record}) cannot be read: {one.problem}. It may hold decisions "
                    f"about this person that have to be kept until {until.date()} ({law}); put it back from a backup",
                    field="segment",
                )

    def _refuse_if_retained(self, found: list[Found]) -> None:
        """Refuse while any decision has to be kept under the policy of the release that made it."""
        rows = [one.row for one in found if one.row["purpose"] == "customer"]
        until, law = self._kept_until([(row["release"], row["at"]) for row in rows])
        if until > self._clock():
            raise RefusedError(
                f"decisions about this person have to be kept until {until.date()}. {law}",
                code="retention",
                ground=law,
                until=str(until.date()),
            )

    def _kept_until(self, decided: list[tuple[str, str]]) -> tuple[datetime, str]:
        """Until when decisions, by release and time, have to be kept, and by which law; now where there is none."""
        names = {release for release, _ in decided}
        policies = self._ledger.read(
            lambda state: {name: state.releases[name].policy.get("records") for name in names if name in state.releases}
        )
        ends = []
        for release, at in decided:
            terms = policies.get(release) or {}
            days, law = terms.get("retention_days", RETENTION_DAYS), terms.get("retention_law", RETENTION_LAW)
            if isinstance(days, bool) or not isinstance(days, int):
                message = f"the policy of {release} says records.retention_days {days!r}; expected whole days"
                raise InvalidError(message, field="records.retention_days")
            ends.append((instant(at) + timedelta(days=days), law))
        return max(ends, default=(self._clock(), ""))

    def _affected(self, subject: str, found: list[Found]) -> AffectedData:
        datasets = self._datasets(subject)
        pins = {(one["uri"], one["version"]) for one in datasets}
        trained = self._ledger.read(
            lambda state: [name for name, release in state.releases.items() if pins_of(release.dataset) & pins]
        )
        return AffectedData(
            decisions=[one.row["decision_id"] for one in found],
            plain=[one.row["decision_id"] for one in found if one.row["person"] == PLAIN],
            segments=sorted({one.place.segment for one in found if one.place is not None}),
            decided_by=sorted({one.row["release"] for one in found}),
            datasets=datasets,
            trained_on=trained,
        )

    def _datasets(self, subject: str) -> list[dict[str, Any]]:
        """Pinned versions whose table holds the person, and those that cannot be read."""
        pinned = self._ledger.records.find(kinds=["DatasetPinned"]).records
        tables = {(record["data"]["uri"], record["data"]["version"]) for record in pinned}
        states = self._ledger.read(lambda state: [release.dataset for release in state.releases.values()])
        tables |= {pin for dataset in states for pin in pins_of(dataset)}
        held = [rows_of_subject(self._settings, uri, version, subject) for uri, version in sorted(tables)]
        return [one for one in held if one is not None]


def _unfinished(record: Record, error: UnavailableError) -> UnavailableError:
    return UnavailableError(
        f"the erasure is on record ({record['seq']}), but the key is not destroyed yet: {error.message}. "
        "Send the same request again, or restart the ledger service",
        field="vault",
    )


def _check(request: SubjectRequest, kind: str) -> None:
    """Refuse a request unless it is about one person, names that person nowhere else, and the role may make it."""
    if not request.subject.strip(" *%?"):
        raise InvalidError(f"subject is {request.subject!r}; expected the key of one person", field="subject")
    for name, text in (("reason", request.reason), ("Idempotency-Key", request.key or "")):
        if re.search(rf"(?<!\w){re.escape(request.subject)}(?!\w)", text, re.IGNORECASE):
            raise InvalidError(
                f"{name} names the subject; it is recorded for ever, so write it without the person", field=name
            )
    check_subject_role(kind, request.actor)
