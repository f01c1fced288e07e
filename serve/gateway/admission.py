"""Limit of concurrent requests in a replica, with places reserved for the platform's own requests.

The ingress refuses first and far more cheaply; this limit also holds without an ingress.
"""

from __future__ import annotations

from lineage.errors import RefusedError

#: Places for role service only: golden rows of a rollback and route checks are answered when customers are refused.
RESERVED = 8


class Admission:
    """Counter of requests in progress.

    Args:
        limit: concurrent requests of customers; role service may have `reserved` more.
    """

    def __init__(self, limit: int, reserved: int = RESERVED) -> None:
        self._limit, self._reserved = limit, reserved
        self.inside = self.refused = 0

    def enter(self, *, service: bool) -> None:
        """Count one request in; `leave` counts it out.

        Raises:
            RefusedError: the limit is reached (503, `overloaded`); ask again in a second.
        """
        limit = self._limit + self._reserved if service else self._limit
        if self.inside >= limit:
            self.refused += 1
            message = f"{self.inside} requests are being answered already; try again in a second"
            raise RefusedError(message, code="overloaded", status=503)
        self.inside += 1

    def leave(self) -> None:
        """Count one request out."""
        self.inside -= 1
