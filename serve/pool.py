"""The way to the challengers' pool, with a breaker: a pool that fails is left alone for a second at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from lineage.errors import UnavailableError
from serve.routes import Target

log = logging.getLogger(__name__)
_REST_SECONDS = 1.0
_PREPARE_SECONDS = 20.0


class ChallengerPool:
    """Scores with a challenger in another process.

    Without the breaker every fourth customer would wait for the whole time-out while the pool restarts. A request that
    the breaker turns away counts as the challenger's failure all the same.
    """

    def __init__(self, handle: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._handle, self._clock = handle, clock
        self._rests_until = 0.0
        self._ready: set[str] = set()

    def is_ready(self, target: Target) -> bool:
        """True where the challenger may be sent requests: it was prepared, or preparing it failed."""
        return target.digest in self._ready

    async def prepare(self, target: Target) -> None:
        """Have the bundle loaded. A failure is no reason to wait: the requests will show it, and they are counted."""
        try:
            async with asyncio.timeout(_PREPARE_SECONDS):
                await self._handle.prepare.remote(target.release, target.digest)
        except (TimeoutError, RayError, RayServeException) as error:
            log.error("challenger %s could not be prepared: %s", target.release, _first_line(error))
        self._ready.add(target.digest)

    async def __call__(self, target: Target, features: dict[str, Any]) -> dict[str, Any]:
        """The fields of `serve.decide.Scored`.

        Raises:
            UnavailableError: the pool failed, refused the bundle or the row, or is resting after a failure.
        """
        if self._clock() < self._rests_until:
            raise UnavailableError("the challenger's pool failed a moment ago")
        try:
            scored: dict[str, Any] = await self._handle.score.remote(target.release, target.digest, features)
        except asyncio.CancelledError:  # the caller's time-out
            self._rests_until = self._clock() + _REST_SECONDS
            raise
        except (RayError, RayServeException) as error:
            self._rests_until = self._clock() + _REST_SECONDS
            raise UnavailableError(_first_line(error)) from error
        return scored


def _first_line(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:160]}"
