"""How many requests a replica works on at a time, with places that only the platform's own requests may take.

The ingress refuses first, and far more cheaply; this bound holds where nothing stands in front.
"""

from __future__ import annotations

from lineage.errors import RefusedError

#: Places kept for services: golden rows of a rollback and questions about routes are answered also when it is full.
RESERVED = 8


class Admission:
    """Places in a replica.

    Args:
        limit: requests of customers at a time; services may take `reserved` more.
    """

    def __init__(self, limit: int, reserved: int = RESERVED) -> None:
        self._limit, self._reserved = limit, reserved
        self.inside = self.refused = 0

    def enter(self, *, service: bool) -> None:
        """Take a place; `leave` gives it back.

        Raises:
            RefusedError: there is none; ask again in a second.
        """
        limit = self._limit + self._reserved if service else self._limit
        if self.inside >= limit:
            self.refused += 1
            message = f"{self.inside} requests are being answered already; try again in a second"
            raise RefusedError(message, code="overloaded", status=503)
        self.inside += 1

    def leave(self) -> None:
        """Give the place back."""
        self.inside -= 1
