"""Circuit breakers of a replica: one a model, for its present champion."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from serve.decision.circuit_breaker import Breaker, Change
from serve.routes import Route, Target

#: Share of the golden rows' score spread (between deciles) below which scores count as the same.
_COLLAPSED = 0.01


class BreakerEvent(NamedTuple):
    """A breaker's change as a fact for the ledger: kind, model and data."""

    kind: str
    model: str
    data: dict[str, Any]


class Breakers:
    """Breakers by model; a new champion gets a new one.

    Args:
        report: called with every change, from the event loop.
        clock: monotonic seconds.
        wall: seconds since the epoch.
    """

    def __init__(
        self,
        replica: str,
        report: Callable[[BreakerEvent], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._replica, self._report, self._clock, self._wall = replica, report, clock, wall
        self._known: dict[str, tuple[Target, Breaker]] = {}

    def of(self, route: Route, spread: float) -> Breaker:
        """The breaker of the route's champion; a new champion gets a new one.

        Args:
            spread: score spread of its golden rows between deciles.
        """
        known = self._known.get(route.model)
        champion = route.champion
        assert champion is not None  # noqa: S101  the caller has checked
        if known is not None and known[0] == champion:
            return known[1]
        if known is not None:
            known[1].close("champion changed")

        def on_change(change: Change) -> None:
            self._report(self._event(route.model, champion, change))

        salt = f"{self._replica}:{champion.digest}"
        breaker = Breaker(route.serving.breaker, on_change, self._clock, salt=salt, spread=spread * _COLLAPSED)
        self._known[route.model] = (champion, breaker)
        return breaker

    def _event(self, model: str, champion: Target, change: Change) -> BreakerEvent:
        data: dict[str, Any] = {"release": champion.release, "replica": self._replica, "cause": change.cause}
        if change.opened:
            since = datetime.fromtimestamp(self._wall(), UTC).isoformat()
            data |= {"evidence": change.evidence, "since": since, "times": change.times}
            return BreakerEvent("BreakerOpened", model, data)
        return BreakerEvent(
            "BreakerClosed", model, data | {"seconds": round(change.seconds, 3), "answers": change.answers}
        )
