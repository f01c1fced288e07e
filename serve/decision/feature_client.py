"""Client of the feature replica: looks up an entity's features within limits of time and concurrency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from lineage.errors import InvalidError, PlimsollError, TamperedError, UnavailableError, UnknownError
from serve.decision.freshness import Entity, EntityFeatures, ViewReading, sort_by_freshness

#: Time limit of one look-up; the model itself answers in a few milliseconds.
LIMIT_SECONDS = 0.25
#: Concurrent look-ups of one replica; more are refused at once, because each occupies a request of the few it may have.
MOST = 8
#: A store that did not answer in time is not asked for this long.
PAUSE_SECONDS = 1.0

#: `read` of the Features deployment: model, digest and entity in, plain values out.
ReadFeatures = Callable[[str, str, dict[str, Any]], Awaitable[dict[str, Any]]]
_KINDS: dict[str, type[PlimsollError]] = {
    kind.__name__: kind for kind in (InvalidError, UnknownError, UnavailableError, TamperedError)
}


class FeatureClient:
    """Fetches features (`serve.decision.freshness.FeaturePort`).

    Args:
        read: `handle.read.remote` of the Features deployment.
        clock: seconds since the epoch, for the age of values.
        seconds: time limit of one read.
        most: concurrent reads.
        ticks: monotonic seconds, for the pause after a time-out.
    """

    def __init__(
        self,
        read: ReadFeatures,
        clock: Callable[[], float] = time.time,
        *,
        seconds: float = LIMIT_SECONDS,
        most: int = MOST,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._clock, self._ticks = read, clock, ticks
        self._seconds, self._most = seconds, most
        self._in_progress, self._paused_until = 0, 0.0

    async def fetch(self, model: str, digest: str, entity: Entity) -> EntityFeatures:
        """The features of an entity for the release with this digest, sorted by freshness when they arrive.

        Raises:
            UnknownError: no view has the entity (404).
            InvalidError: the entity is not the key of the release's views, or the release has no feature service.
            UnavailableError: the online store did not answer in time, or too many reads are in progress (503).
            TamperedError: what the release reads is not what training signed.
        """
        if self._ticks() < self._paused_until:
            raise UnavailableError(
                f"the online store of {model} did not answer a moment ago; send features, or try again in a moment",
                field="entity",
            )
        if self._in_progress >= self._most:
            raise UnavailableError(
                f"{self._in_progress} entities are being looked up already; send features, or try again in a moment",
                field="entity",
            )
        self._in_progress += 1
        try:
            async with asyncio.timeout(self._seconds):
                reply = await self._read(model, digest, dict(entity))
        except TimeoutError as error:
            self._paused_until = self._ticks() + PAUSE_SECONDS
            raise UnavailableError(
                f"the online store of {model} did not answer within {self._seconds * 1000:g} ms; send features, or "
                "try again in a moment",
                field="entity",
            ) from error
        except (RayError, RayServeException) as error:
            raise UnavailableError(
                f"the feature replica failed ({type(error).__name__}); send features, or try again in a moment",
                field="entity",
            ) from error
        finally:
            self._in_progress -= 1
        if "refused" in reply:
            kind, message, field = reply["refused"]
            raise _KINDS[kind](message, field=field)
        found = sort_by_freshness([ViewReading(**view) for view in reply["views"]], self._clock(), reply["service"])
        if not found.known:
            named = ", ".join(f"{name} {value!r:.60}" for name, value in entity.items())
            raise UnknownError(f"no features are known of the entity with {named}", field="entity")
        return found
