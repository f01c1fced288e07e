"""The way from the gateway to an entity's features: bounded in time and number, judged when they arrive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from lineage.errors import InvalidError, PlimsollError, TamperedError, UnavailableError, UnknownError
from serve.decision.freshness import Entity, EntityFeatures, ViewReading, sort_by_freshness

#: As long as a caller waits for features; the model itself answers in a few milliseconds.
LIMIT_SECONDS = 0.25
#: Reads that one replica has under way. More are refused at once: each holds a place of the few that a replica has.
MOST = 8
#: A store that did not answer in time is asked by nobody for so long.
REST_SECONDS = 1.0

#: What the Features deployment's `read` takes and gives: model, digest and entity; plain values.
ReadFeatures = Callable[[str, str, dict[str, Any]], Awaitable[dict[str, Any]]]
_KINDS: dict[str, type[PlimsollError]] = {
    kind.__name__: kind for kind in (InvalidError, UnknownError, UnavailableError, TamperedError)
}


class FeatureClient:
    """Fetches features (`serve.decision.freshness.FeaturePort`).

    Args:
        ask: `handle.read.remote` of the Features deployment, or the `read` of its room.
        clock: seconds since the epoch; by it values are young or old.
        seconds: the time-out of one read.
        most: reads under way at a time.
        ticks: seconds, never going back; by it a store that hung is left alone.
    """

    def __init__(
        self,
        ask: ReadFeatures,
        clock: Callable[[], float] = time.time,
        *,
        seconds: float = LIMIT_SECONDS,
        most: int = MOST,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._clock, self._ticks = ask, clock, ticks
        self._seconds, self._most = seconds, most
        self._under_way, self._rests_until = 0, 0.0

    async def fetch(self, model: str, digest: str, entity: Entity) -> EntityFeatures:
        """The features of the release with this digest, judged when they arrive.

        Raises:
            UnknownError: no view knows the entity (404).
            InvalidError: the entity is not what the release's views are keyed by, or the release has no service.
            UnavailableError: the online store did not answer in time, or too many reads are under way (503).
            TamperedError: what the release reads is not what training signed.
        """
        if self._ticks() < self._rests_until:
            raise UnavailableError(
                f"the online store of {model} did not answer a moment ago; send features, or try again in a moment",
                field="entity",
            )
        if self._under_way >= self._most:
            raise UnavailableError(
                f"{self._under_way} entities are being looked up already; send features, or try again in a moment",
                field="entity",
            )
        self._under_way += 1
        try:
            async with asyncio.timeout(self._seconds):
                told = await self._ask(model, digest, dict(entity))
        except TimeoutError as error:
            self._rests_until = self._ticks() + REST_SECONDS
            raise UnavailableError(
                f"the online store of {model} did not answer within {self._seconds * 1000:g} ms; send features, or "
                "try again in a moment",
                field="entity",
            ) from error
        except (RayError, RayServeException) as error:
            raise UnavailableError(
                f"the reader of entities' features is not there ({type(error).__name__}); send features, or try again "
                "in a moment",
                field="entity",
            ) from error
        finally:
            self._under_way -= 1
        if "refused" in told:
            kind, message, field = told["refused"]
            raise _KINDS[kind](message, field=field)
        served = sort_by_freshness([ViewReading(**view) for view in told["views"]], self._clock(), told["service"])
        if not served.known:
            named = ", ".join(f"{name} {value!r:.60}" for name, value in entity.items())
            raise UnknownError(f"no features are known of the entity with {named}", field="entity")
        return served
