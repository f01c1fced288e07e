"""A fact that somebody wants to state, as the rules see it: with who states it and the state that it would meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lineage.errors import UnknownError
from lineage.state.entities import Model, Release
from lineage.state.fold import LedgerState


@dataclass(frozen=True)
class Actor:
    """Who states a fact."""

    name: str
    role: str


@dataclass(frozen=True)
class Proposal:
    """A fact that somebody wants to state, with the state it would meet.

    `named` is the model it names; only a fact about the kill switch names none where it is about all of them.
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
        """The model it is about.

        Raises:
            UnknownError: the ledger knows none of that name.
        """
        if self.known_model is None:
            known = ", ".join(list(self.state.models)[-20:]) or "none yet"
            raise UnknownError(f"the ledger knows no fact about a model {self.named!r}; known: {known}", field="model")
        return self.known_model

    @property
    def release(self) -> Release:
        """The release it is about.

        Raises:
            UnknownError: the ledger knows none of that name.
        """
        if self.known_release is None:
            raise UnknownError("the ledger knows no such release", field="release")
        return self.known_release


Rule = Callable[[Proposal], None]
