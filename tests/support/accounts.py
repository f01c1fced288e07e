"""Accounts for tests: people on record, actors as the era wants them, and hashes that take no time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from argon2 import PasswordHasher

from lineage.accounts import passwords
from lineage.ledger import Ledger
from lineage.rules.draft import Draft
from lineage.rules.eras import activation
from lineage.rules.proposal import Actor
from lineage.rules.roles import MACHINES_MAY, PLATFORM, PLATFORM_MACHINES
from lineage.state.fold import LedgerState
from lineage.state.people import Account

PLATFORM_ACTOR = Actor("ledger", PLATFORM)


@contextmanager
def cheap_hashes() -> Iterator[None]:
    """Argon2 with the least memory and one pass."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with mock.patch.multiple(passwords, _HASHER=cheap, _NO_ACCOUNT=cheap.hash("no account has this password")):
        yield


def in_era(state: LedgerState, kind: str, actor: Actor) -> Actor:
    """The actor as the era of the state wants it: since era 3 with the id of its account, a service by its machine."""
    if state.era < 3:
        return actor
    if actor.role == "service":
        machine = next(iter(sorted(MACHINES_MAY.get(kind, {actor.name}))))
        return Actor(machine, machine, f"m-{machine}")
    known = state.people.named(actor.name)
    return replace(actor, id=known.id) if known is not None else actor


#: People of the samples, and two more for a second person and for an author who may review.
EVERYBODY = (
    Actor("scientist", "scientist"),
    Actor("validator", "validator"),
    Actor("operator", "operator"),
    Actor("auditor", "auditor"),
    Actor("second-operator", "operator"),
    Actor("author-and-validator", "validator"),
    Actor("author-and-validator", "operator"),
)


def people_on_record(people: Iterable[Actor], prefix: str = "p-") -> dict[str, Account]:
    """Accounts of these people and of the platform's machines, by id, as the fold holds them."""
    roles: dict[str, tuple[str, ...]] = {}
    for one in people:
        roles[one.name] = (*roles.get(one.name, ()), one.role)
    at = "2026-11-23T09:00:00.000000Z"
    found = {f"{prefix}{name}": Account(f"{prefix}{name}", name, "person", own, at, at) for name, own in roles.items()}
    machines = PLATFORM_MACHINES.items()
    return found | {f"m-{name}": Account(f"m-{name}", name, "machine", given, at, at) for name, given in machines}


def begin_era_3(ledger: Ledger, people: Iterable[Actor] = EVERYBODY) -> None:
    """Activate era 3 and put the platform's machines and these people on record.

    Where there is a history of earlier eras, the name of a person is the id, as for accounts of that time.
    """
    prefix = "" if ledger.state.releases else "p-"
    for era in range(ledger.state.era + 1, 4):
        ledger.append(Draft("RulesActivated", PLATFORM_ACTOR, activation(era)))
    for account in people_on_record(people, prefix).values():
        data: dict[str, Any] = {"account": account.id, "name": account.name, "kind": account.kind}
        data |= {"roles": list(account.roles), "bootstrap": account.kind == "person"}
        ledger.append(Draft("AccountAdded", PLATFORM_ACTOR, data))
