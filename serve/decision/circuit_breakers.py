"""The breakers of a replica: one a model, for the champion it has now."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from serve.decision.circuit_breaker import Breaker, Change
from serve.routes import Route, Target

#: Of the spread that the golden rows' scores have between their deciles: less than so much of it is no spread at all.
_COLLAPSED = 0.01


class BreakerEvent(NamedTuple):
    """A change as the ledger is told of it: the kind of fact, the model, and the fact's data."""

    kind: str
    model: str
    data: dict[str, Any]


class Breakers:
    """Breakers by model; a new champion gets a new one.

    Args:
        tell: hears of every change, from the event loop.
        wall: seconds since the epoch.
    """

    def __init__(
        self,
        replica: str,
        tell: Callable[[BreakerEvent], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._replica, self._tell, self._clock, self._wall = replica, tell, clock, wall
        self._known: dict[str, tuple[Target, Breaker]] = {}

    def of(self, route: Route, spread: float) -> Breaker:
        """The breaker of the champion that the route names.

        Args:
            spread: how far the scores of its golden rows lie apart.
        """
        known = self._known.get(route.model)
        champion = route.champion
        assert champion is not None  # noqa: S101  somebody wants to ask it
        if known is not None and known[0] == champion:
            return known[1]
        if known is not None:
            known[1].close("champion changed")

        def tell(change: Change) -> None:
            self._tell(self._told(route.model, champion, change))

        salt = f"{self._replica}:{champion.digest}"
        breaker = Breaker(route.serving.breaker, tell, self._clock, salt=salt, spread=spread * _COLLAPSED)
        self._known[route.model] = (champion, breaker)
        return breaker

    def _told(self, model: str, champion: Target, change: Change) -> BreakerEvent:
        data: dict[str, Any] = {"release": champion.release, "replica": self._replica, "cause": change.cause}
        if change.opened:
            since = datetime.fromtimestamp(self._wall(), UTC).isoformat()
            data |= {"evidence": change.evidence, "since": since, "times": change.times}
            return BreakerEvent("BreakerOpened", model, data)
        return BreakerEvent(
            "BreakerClosed", model, data | {"seconds": round(change.seconds, 3), "answers": change.answers}
        )
