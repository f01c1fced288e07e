"""Cache of people's inboxes, one per state of the fold: many tabs request the same inbox after each record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lineage.rules.proposal import Actor


@dataclass
class InboxCache:
    """The last inbox of each role and name, kept until the fold changes or a minute has passed."""

    version: tuple[int, int] = (-1, -1)
    bodies: dict[Actor, tuple[bytes, int]] = field(default_factory=dict)

    def get(self, version: tuple[int, int], actor: Actor, make: Callable[[], tuple[bytes, int]]) -> tuple[bytes, int]:
        """The items as JSON and their number, made at most once for a version and person."""
        if version != self.version:
            self.version, self.bodies = version, {}
        if actor not in self.bodies:
            self.bodies[actor] = make()
        return self.bodies[actor]
