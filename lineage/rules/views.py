"""What the rules offer to a person, as other processes read it: the JSON of the ledger service, parsed into types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from lineage.rules.available import Action
from lineage.rules.inbox import Item, Standing
from lineage.state.views import parsed

__all__ = ["Action", "Inbox", "Item", "Offers", "Standing", "inbox_view", "offers_view"]


@dataclass(frozen=True)
class Offers:
    """The actions of one person on one subject, and the ETag of the state in which they were tried."""

    etag: int
    actions: list[Action]

    def get(self, verb: str) -> Action | None:
        """The action with this verb."""
        return next((action for action in self.actions if action.verb == verb), None)


@dataclass(frozen=True)
class Inbox:
    """What waits for one person, worst first, and how many items there are in all."""

    items: list[Item]
    total: int


_OFFERS, _INBOX = TypeAdapter(Offers), TypeAdapter(Inbox)


def offers_view(content: Mapping[str, Any]) -> Offers:
    """The actions, as `GET …/actions` gives them.

    Raises:
        InvalidError: they are none, e.g. because the ledger service is of another version.
    """
    return parsed(_OFFERS, content)


def inbox_view(content: Mapping[str, Any]) -> Inbox:
    """The inbox, as `GET /v1/inbox` gives it.

    Raises:
        InvalidError: it is none.
    """
    return parsed(_INBOX, content)
