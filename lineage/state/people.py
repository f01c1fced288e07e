"""Accounts in the fold: who may act, in which roles, and which requests about accounts are open. Pure and frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

Record = dict[str, Any]
ADMIN = "admin"


@dataclass(frozen=True)
class Account:
    """A person or a machine that may act.

    Attributes:
        id: stable; never reused.
        name: unique, also among accounts of the past; never changed.
        kind: person or machine.
        identity: issuer and subject where the person signs in by OpenID Connect.
        bootstrap: made at the first start of the platform, by no admin.
        certified_at: when its roles were last granted or confirmed.
        recovered: record by which it was recovered on the machine, until a second admin confirms it.
    """

    id: str
    name: str
    kind: str
    roles: tuple[str, ...]
    added_at: str
    certified_at: str
    identity: str | None = None
    bootstrap: bool = False
    active: bool = True
    recovered: int | None = None


@dataclass(frozen=True)
class AccountRequest:
    """A request of one admin that a second one has to confirm: add, roles, reset or enable."""

    seq: int
    change: str
    account: str
    name: str
    kind: str
    roles: tuple[str, ...]
    by: str
    by_id: str
    at: str
    reason: str | None
    identity: str | None = None


_NO_ACCOUNTS: Mapping[str, Account] = MappingProxyType({})
_NO_REQUESTS: Mapping[int, AccountRequest] = MappingProxyType({})


@dataclass(frozen=True)
class People:
    """All accounts by id, and the open requests by record. Every fact gives a new value, so that undo keeps the old."""

    accounts: Mapping[str, Account] = field(default_factory=lambda: _NO_ACCOUNTS)
    requests: Mapping[int, AccountRequest] = field(default_factory=lambda: _NO_REQUESTS)

    def named(self, name: str) -> Account | None:
        """The account with exactly this name."""
        return next((one for one in self.accounts.values() if one.name == name), None)

    def identified(self, identity: str) -> Account | None:
        """The account of an OpenID Connect issuer and subject."""
        return next((one for one in self.accounts.values() if one.identity == identity), None)

    def admins(self) -> list[Account]:
        """Active admins."""
        return [one for one in self.accounts.values() if one.active and ADMIN in one.roles]


def person_of(record: Record) -> str:
    """What identifies the actor of a record: the account's id, before era 3 its name."""
    actor = record["actor"]
    return str(actor.get("id") or actor["name"])


def after_fact(people: People, record: Record) -> People:
    """The accounts after a fact about one of them; facts of other kinds change nothing."""
    kind, data = record["kind"], record["data"]
    if kind == "AccountRequested":
        return replace(people, requests={**people.requests, record["seq"]: _request(record)})
    if kind == "AccountRequestWithdrawn":
        return _without_request(people, data["requested"])
    if kind == "AccountAdded":
        return _put(people, _added(record), data["requested"])
    if kind == "AccountRecovered":
        return _put(people, _recovered(people, record), None)
    change = _CHANGES.get(kind)
    if change is None:
        return people
    known = people.accounts.get(data["account"]) if "account" in data else None
    known = known or next((one for one in people.accounts.values() if one.recovered == data.get("recovered")), None)
    if known is None:
        return people
    return _put(people, change(known, record), data.get("requested"))


def _request(record: Record) -> AccountRequest:
    data, actor = record["data"], record["actor"]
    return AccountRequest(
        seq=record["seq"],
        change=data["change"],
        account=data["account"],
        name=data["name"],
        kind=data["kind"],
        roles=tuple(data["roles"]),
        identity=data["identity"],
        by=actor["name"],
        by_id=person_of(record),
        at=record["at"],
        reason=record["reason"],
    )


def _added(record: Record) -> Account:
    data, at = record["data"], record["at"]
    return Account(
        id=data["account"],
        name=data["name"],
        kind=data["kind"],
        roles=tuple(data["roles"]),
        identity=data["identity"],
        bootstrap=data["bootstrap"],
        added_at=at,
        certified_at=at,
    )


def _recovered(people: People, record: Record) -> Account:
    data, at = record["data"], record["at"]
    known = people.accounts.get(data["account"])
    fresh = Account(data["account"], data["name"], "person", (ADMIN,), at, at)
    return replace(known or fresh, active=True, roles=(ADMIN,), certified_at=at, recovered=record["seq"])


_CHANGES: dict[str, Callable[[Account, Record], Account]] = {
    "RolesChanged": lambda one, record: replace(one, roles=tuple(record["data"]["roles"]), certified_at=record["at"]),
    "AccountDisabled": lambda one, _: replace(one, active=False, recovered=None),
    "AccountEnabled": lambda one, record: replace(one, active=True, certified_at=record["at"]),
    "AccountRecertified": lambda one, record: replace(one, certified_at=record["at"]),
    "RecoveryConfirmed": lambda one, _: replace(one, recovered=None),
    "PasswordReset": lambda one, _: one,
}


def _put(people: People, account: Account, requested: int | None) -> People:
    changed = replace(people, accounts={**people.accounts, account.id: account})
    return _without_request(changed, requested) if requested else changed


def _without_request(people: People, seq: int) -> People:
    return replace(people, requests={key: one for key, one in people.requests.items() if key != seq})
