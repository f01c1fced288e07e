"""A proposed fact as the rules see it: the fact, its actor and the state that it applies to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from lineage.errors import UnknownError
from lineage.state.entities import Model, Release
from lineage.state.fold import LedgerState


@dataclass(frozen=True)
class Actor:
    """The person, service or process that states a fact.

    Attributes:
        name: unique among all accounts, also those of the past.
        role: the role in which it acts; on record.
        id: stable id of the account; empty before era 3, where the name identifies.
        others: further roles of the account; `lineage.rules.roles.acting` picks the one that an action takes.
    """

    name: str
    role: str
    id: str = ""
    others: tuple[str, ...] = ()

    @property
    def person(self) -> str:
        """What identifies the account: persons are compared by this, never by name or role."""
        return self.id or self.name

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles of the account."""
        return (self.role, *self.others)

    def has(self, roles: Collection[str]) -> bool:
        """Whether the account has one of these roles."""
        return any(role in roles for role in self.roles)


@dataclass(frozen=True)
class Proposal:
    """A proposed fact with the state that it applies to.

    `named` is the model it names; None for facts about the platform or about the kill switch of all models.
    """

    kind: str
    actor: Actor
    data: dict[str, Any]
    state: LedgerState
    named: str | None
    known_model: Model | None
    known_release: Release | None

    @property
    def model(self) -> Model:
        """The model that the fact is about.

        Raises:
            UnknownError: there is no model of that name.
        """
        if self.known_model is None:
            known = ", ".join(list(self.state.models)[-20:]) or "none yet"
            raise UnknownError(f"the ledger has no fact about a model {self.named!r}; known: {known}", field="model")
        return self.known_model

    @property
    def release(self) -> Release:
        """The release that the fact is about.

        Raises:
            UnknownError: there is no release of that name.
        """
        if self.known_release is None:
            raise UnknownError("the ledger has no such release", field="release")
        return self.known_release


Rule = Callable[[Proposal], None]
