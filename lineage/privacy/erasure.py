"""Erasing a person: whether the law lets us, what holds the person, the fact on record, and the end of the key.

The order is: find what is touched, put the erasure on record, destroy key and salt. A crash between the last two is
made good when the service starts. No record names a person: holds and erasures state a commitment whose salt lies in
the vault and goes with the key.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import polars as pl
import structlog

from lineage.clock import Clock, instant, now
from lineage.errors import InvalidError, RefusedError, UnavailableError, UnknownError
from lineage.ledger import Ledger
from lineage.privacy.decisions import PLAIN, Decisions, Found
from lineage.privacy.key_vault import Vault
from lineage.rules.draft import Draft, Record
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM, SUBJECTS_MAY, may_ask
from lineage.settings import Settings

KINDS = tuple(SUBJECTS_MAY)
GROUND = "GDPR (Regulation (EU) 2016/679) Art. 17(1)"
HOLD_LAW = "GDPR Art. 17(3)(e): legal claims; 12 CFR 1002.12(b)(4): records under investigation are kept"
#: Where a policy has no [records]: 25 months are never more days than these.
RETENTION_DAYS = 762
RETENTION_LAW = "GDPR Art. 17(3)(b); 12 CFR 1002.12(b)(1) (Regulation B): applications are kept for 25 months"
_LEDGER = Actor("ledger", PLATFORM)
log = structlog.get_logger("plimsoll.ledger")


@dataclass(frozen=True)
class Asked:
    """What a person asks to be done about a subject."""

    who: Actor
    subject: str
    reason: str
    key: str | None = None

    @property
    def scoped(self) -> str | None:
        """The idempotency key as it stands on record: the fact is the ledger's own, the key is the person's."""
        return None if self.key is None else f"{self.who.name}:{self.key}"


@dataclass
class Touched:
    """What a person stands in. `plain`: decisions sealed before there were keys, which stay readable."""

    decisions: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    decided_by: list[str] = field(default_factory=list)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    trained_on: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """What the fact says of it."""
        names = ("decisions", "segments", "plain", "datasets")
        return {name: len(vars(self)[name]) for name in names} | {"releases": len({*self.decided_by, *self.trained_on})}

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with the names of the models."""
        models = {name.rpartition("@")[0] for name in (*self.decided_by, *self.trained_on)}
        return {**vars(self), "models": sorted(models)}


class Subjects:
    """What the ledger service knows and does about people. Start it once a ledger is open.

    Where the vault does not answer the ledger goes on without it; only what is asked here fails until it does.

    Raises (every method that acts):
        RefusedError: the role may not, or retention or a hold forbids it.
        InvalidError: the subject is not one person, or the reason or idempotency key names the person.
        UnknownError: the vault has no key of that name.
        UnavailableError: the vault, a segment or the log cannot be read or written.
    """

    def __init__(self, settings: Settings, ledger: Ledger, *, clock: Clock = now) -> None:
        self._settings, self._ledger, self._clock = settings, ledger, clock
        self._vault = Vault(settings)
        self._decisions = Decisions(settings, ledger.records, self._vault)
        self._applied = False
        self._applying = threading.Lock()
        self._lock = threading.Lock()  # a hold and an erasure of the same person wait for each other
        self._holds: dict[str, int] = {}
        self._erased: dict[str, Record] = {}
        self._by_key: dict[str, Record] = {}
        for record in ledger.records.find(kinds=KINDS).records:
            self._note(record)
        ledger.follow(self._note)
        try:
            self._apply()
        except UnavailableError as error:
            log.error("nobody can be looked up or erased for now", message=error.message)

    @property
    def vault(self) -> Vault:
        """The vault, in which nobody is left whose erasure is on record."""
        self._apply()
        return self._vault

    @property
    def decisions(self) -> Decisions:
        """Decisions, of which nothing is shown that was erased."""
        self._apply()
        return self._decisions

    def hold(self, asked: Asked) -> tuple[Record, bool]:
        """Forbid the erasure of a person; the record, and whether it is new."""
        _check(asked, "HoldPlaced")
        with self._lock:
            if (earlier := self._earlier(asked, "HoldPlaced")) is not None:
                return earlier, False
            commitment = self.vault.commitment(self._known(asked.subject))
            if (placed := self._holds.get(commitment)) is not None:
                raise RefusedError(f"record {placed} holds this person already", code="hold", record=placed)
            return self._record(asked, "HoldPlaced", {"commitment": commitment}), True

    def release_hold(self, asked: Asked) -> tuple[Record, bool]:
        """Allow the erasure of a person again."""
        _check(asked, "HoldReleased")
        with self._lock:
            if (earlier := self._earlier(asked, "HoldReleased")) is not None:
                return earlier, False
            commitment = self.vault.commitment(self._known(asked.subject))
            placed = self._holds.get(commitment)
            if placed is None:
                raise RefusedError("nobody holds this person; there is nothing to release", code="no_hold")
            return self._record(asked, "HoldReleased", {"commitment": commitment, "placed": placed}), True

    def erase(self, asked: Asked, *, identity_verified: bool) -> tuple[Record, bool]:
        """Destroy a person's key and salt.

        Returns:
            The record, with what the person stands in as `touched` (told this once, None later), and whether it is new.
        """
        _check(asked, "SubjectErased")
        if not identity_verified:
            raise RefusedError(
                "nobody vouches that it is this person who asks; verify the identity, then say so",
                code="identity",
                status=403,
                field="identity_verified",
            )
        with self._lock:
            earlier = self._earlier(asked, "SubjectErased")
            pseudonym = self.vault.known(asked.subject)
            if earlier is None and pseudonym is not None:
                earlier = self._erased.get(self.vault.commitment(pseudonym))  # on record, but the key is still there
            if earlier is not None:
                self._destroy(pseudonym, earlier)
                return earlier | {"touched": None}, False
            return self._erase(asked, self._known(asked.subject)), True

    def _erase(self, asked: Asked, pseudonym: str) -> Record:
        """Nobody is given a key meanwhile: what is decided behind our back is about somebody new, and kept."""
        record: Record | None = None
        try:
            with self.vault.alone():
                moment, commitment = self._clock(), self.vault.commitment(pseudonym)
                self._refuse_if_held(commitment)
                found = self.decisions.of_subject(asked.subject)
                self._refuse_if_retained(found)
                touched = self._touched(asked.subject, found)
                data = {"commitment": commitment, "ground": GROUND, **touched.counts()}
                record = self._record(asked, "SubjectErased", data)
                self.vault.erase(pseudonym, moment, record["seq"])
        except UnavailableError as error:
            raise error if record is None else _unfinished(record, error) from error
        return record | {"touched": touched.to_dict()}

    def close(self) -> None:
        """Give the files back."""
        self._decisions.close()
        self._vault.close()

    def _apply(self) -> None:
        """A vault from a backup, or a crash between record and erasure, brings nobody back."""
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

    def _record(self, asked: Asked, kind: str, data: dict[str, Any]) -> Record:
        data = data | {"by": asked.who.name, "role": asked.who.role}
        return self._ledger.append(Draft(kind, _LEDGER, data, None, None, asked.reason, asked.scoped))

    def _earlier(self, asked: Asked, kind: str) -> Record | None:
        """The record that the same request made; whom it was about can only be compared while there is a key."""
        earlier = self._by_key.get(asked.scoped or "")
        if earlier is None:
            return None
        pseudonym = self.vault.known(asked.subject)
        same = pseudonym is None or self.vault.commitment(pseudonym) == earlier["data"]["commitment"]
        if not same or earlier["kind"] != kind or earlier["reason"] != asked.reason:
            raise RefusedError(
                f"idempotency key {asked.key!r} was used for another request (record {earlier['seq']}); use a new one",
                code="key_reused",
            )
        return earlier

    def _known(self, subject: str) -> str:
        pseudonym = self.vault.known(subject)
        if pseudonym is None:
            datasets = self._datasets(subject)
            hint = f"; {len(datasets)} pinned data sets hold it" if datasets else ""
            raise UnknownError(
                f"the vault has no key of this subject: it was never decided about, or is erased{hint}",
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

    def _refuse_if_retained(self, found: list[Found]) -> None:
        """Refuse while the newest of the decisions has to be kept by the policy of the release that took it."""
        names = {one.row["release"] for one in found}
        policies = self._ledger.read(
            lambda state: {name: state.releases[name].policy.get("records") for name in names if name in state.releases}
        )
        ends = []
        for row in (one.row for one in found if one.row["purpose"] == "customer"):
            terms = policies.get(row["release"]) or {}
            days, law = terms.get("retention_days", RETENTION_DAYS), terms.get("retention_law", RETENTION_LAW)
            if isinstance(days, bool) or not isinstance(days, int):
                message = f"the policy of {row['release']} says records.retention_days {days!r}; expected whole days"
                raise InvalidError(message, field="records.retention_days")
            ends.append((instant(row["at"]) + timedelta(days=days), law))
        until, law = max(ends, default=(self._clock(), ""))
        if until > self._clock():
            raise RefusedError(
                f"decisions about this person have to be kept until {until.date()}. {law}",
                code="retention",
                ground=law,
                until=str(until.date()),
            )

    def _touched(self, subject: str, found: list[Found]) -> Touched:
        datasets = self._datasets(subject)
        pins = {(one["uri"], one["version"]) for one in datasets}
        trained = self._ledger.read(
            lambda state: [name for name, release in state.releases.items() if _pins_of(release.dataset) & pins]
        )
        return Touched(
            decisions=[one.row["decision_id"] for one in found],
            plain=[one.row["decision_id"] for one in found if one.row["person"] == PLAIN],
            segments=sorted({one.place.segment for one in found if one.place is not None}),
            decided_by=sorted({one.row["release"] for one in found}),
            datasets=datasets,
            trained_on=trained,
        )

    def _datasets(self, subject: str) -> list[dict[str, Any]]:
        """Pinned versions whose table holds the person, and those that cannot be read, which may."""
        pinned = self._ledger.records.find(kinds=["DatasetPinned"]).records
        tables = {(record["data"]["uri"], record["data"]["version"]) for record in pinned}
        states = self._ledger.read(lambda state: [release.dataset for release in state.releases.values()])
        tables |= {pin for dataset in states for pin in _pins_of(dataset)}
        held = [_look(self._settings, uri, version, subject) for uri, version in sorted(tables)]
        return [one for one in held if one is not None]


def _unfinished(record: Record, error: UnavailableError) -> UnavailableError:
    return UnavailableError(
        f"the erasure is on record ({record['seq']}), but the key is not destroyed yet: {error.message}. "
        "Send the same request again, or restart the ledger service",
        field="vault",
    )


def _pins_of(dataset: dict[str, Any]) -> set[tuple[str, int]]:
    """The tables that a release was trained and tested on."""
    pins = {(dataset["uri"], dataset["version"])}
    if "protected" in dataset:
        pins.add((f"{dataset['uri']}-protected", dataset["protected"]["version"]))
    return pins


def _look(settings: Settings, uri: str, version: int, subject: str) -> dict[str, Any] | None:
    """How many rows of a pinned table are the person's, None where none are."""
    from deltalake import DeltaTable  # slow to import, and few ask
    from deltalake.exceptions import DeltaError

    place = uri if "://" in uri else str(settings.root / uri)
    keys = f"{place.removesuffix('-protected')}-protected"  # there the entity is the first column
    told = {"dataset": uri.rstrip("/").rpartition("/")[2], "uri": uri, "version": version}
    try:
        table = DeltaTable(place, version=version)
        named = DeltaTable(keys) if DeltaTable.is_deltatable(keys) else table
        entity = named.schema().fields[0].name
        frame = pl.DataFrame(table.to_pyarrow_table(columns=[entity]))
    except (DeltaError, OSError, ValueError) as error:
        return told | {"rows": None, "unreadable": str(error)[:200]}
    rows = int((frame[entity].cast(pl.String) == subject).sum())
    return told | {"rows": rows} if rows else None


def _check(asked: Asked, kind: str) -> None:
    """Before anything is told: one person, whom neither reason nor key names, and a role that may."""
    if not asked.subject.strip(" *%?"):
        raise InvalidError(f"subject is {asked.subject!r}; expected the key of one person", field="subject")
    for name, text in (("reason", asked.reason), ("Idempotency-Key", asked.key or "")):
        if re.search(rf"(?<!\w){re.escape(asked.subject)}(?!\w)", text, re.IGNORECASE):
            raise InvalidError(
                f"{name} names the subject; it goes on record for ever, so say it without the person", field=name
            )
    may_ask(kind, asked.who)
