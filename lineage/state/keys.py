"""Eras of keys, and whether the witness is away. Pure: values are replaced, never changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class KeyEra:
    """One key from its first record to its last.

    Attributes:
        name: the machine account of a token.
        since: the record from which it counts; 0 for the key before the first rotation.
        until: the record from which another counts; None for the key in force.
        revoked_from: what it signed does not count for records from this number on; None if it was not revoked.
    """

    key: str
    name: str | None
    id: str
    public: str | None
    since: int
    since_at: str | None = None
    until: int | None = None
    until_at: str | None = None
    revoked_from: int | None = None

    def counts_for(self, seq: int) -> bool:
        """Whether what it signed counts for record `seq`, as far as revocation goes."""
        return self.revoked_from is None or seq < self.revoked_from

    def covers(self, seq: int) -> bool:
        """Whether record `seq` lies in its era."""
        return self.since <= seq and (self.until is None or seq < self.until)


@dataclass(frozen=True)
class KeyRing:
    """Every key that a rotation or revocation names, oldest first. Empty until the first rotation."""

    eras: tuple[KeyEra, ...] = ()

    def of(self, key: str, name: str | None = None) -> list[KeyEra]:
        """The eras of one key, oldest first."""
        return [era for era in self.eras if (era.key, era.name) == (key, name)]

    def in_force(self, key: str, name: str | None = None) -> KeyEra | None:
        """The key in force; None where it was never rotated."""
        return next((era for era in self.of(key, name) if era.until is None), None)

    def find(self, key: str, key_id: str, name: str | None = None) -> KeyEra | None:
        """The era of the key with this id."""
        return next((era for era in self.of(key, name) if era.id == key_id), None)

    def after(self, record: Record) -> KeyRing:
        """The keys after a `KeyRotated` or `KeyRevoked` record."""
        data = record["data"]
        key, name = data["key"], data["name"]
        if record["kind"] == "KeyRevoked":
            return KeyRing(
                tuple(
                    replace(era, revoked_from=data["from_record"])
                    if (era.key, era.name, era.id) == (key, name, data["id"])
                    else era
                    for era in self.eras
                )
            )
        seq, at, new, old = record["seq"], record["at"], data["new"], data["old"]
        known = self.eras
        if old is not None and self.find(key, old["id"], name) is None:
            known = (*known, KeyEra(key, name, old["id"], old["public"], 0, until=seq, until_at=at))
        ended = tuple(
            replace(era, until=seq, until_at=at) if (era.key, era.name, era.until) == (key, name, None) else era
            for era in known
        )
        return KeyRing((*ended, KeyEra(key, name, new["id"], new["public"], seq, at)))


@dataclass(frozen=True)
class Away:
    """The witness does not answer, since when and by which record."""

    since: str
    cosigned: int
    at_opening: bool
    seq: int
    why: str


def witness_after(record: Record) -> Away | None:
    """Whether the witness is away after a `WitnessAway` or `WitnessBack` record."""
    data = record["data"]
    if record["kind"] == "WitnessBack":
        return None
    return Away(data["since"], data["cosigned"], data["at_opening"], record["seq"], data["why"])
