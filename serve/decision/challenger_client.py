"""The way to the challengers' pool: few requests at a time, and none that waits long for a pool that fails.

Whoever waits for the pool holds a place in the gateway, and places are few. So at most `AT_ONCE` requests are under way
to it; while there are, nobody is assigned to an arm, neither this one nor the other, and the trial loses time but no
evidence. After a failure the pool is left alone for a second at a time, then asked by one request only until it
answers. A request that is turned away then counts as the challenger's failure all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from lineage.errors import UnavailableError
from serve.routes import Target

log = structlog.get_logger("plimsoll.challenger")
AT_ONCE = 2
_REST_SECONDS = 1.0
_AGAIN_SECONDS = 0.2  # for the second try: Serve itself would wait until another process is up
_PREPARE_SECONDS = 20.0


class ChallengerClient:
    """Scores with a challenger in another process.

    Args:
        handle: Serve's handle of the pool.
        at_once: requests under way to it.
    """

    def __init__(self, handle: Any, clock: Callable[[], float] = time.monotonic, at_once: int = AT_ONCE) -> None:
        self._handle, self._clock, self._at_once = handle, clock, at_once
        self._rests_until = 0.0
        self._failing = False
        self._under_way = 0
        self._ready: set[str] = set()

    def is_prepared(self, target: Target) -> bool:
        """True where `prepare` has ended, well or not."""
        return target.digest in self._ready

    def is_ready(self, target: Target) -> bool:
        """True where the next request may be assigned to an arm: the challenger was prepared, and the pool has room.

        A pool that fails has room for failures: they are what the judge has to see.
        """
        return target.digest in self._ready and (self._failing or self._under_way < self._at_once)

    async def prepare(self, target: Target) -> None:
        """Have the bundle loaded. A failure is no reason to wait: the requests will show it, and they are counted."""
        try:
            async with asyncio.timeout(_PREPARE_SECONDS):
                await self._handle.prepare.remote(target.release, target.digest)
        except (TimeoutError, RayError, RayServeException) as error:
            log.error("challenger not prepared", release=target.release, message=_first_line(error))
        self._ready.add(target.digest)

    async def __call__(self, target: Target, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of each row the fields of `serve.decision.answers.Scored`, or `{"refused": why}`.

        Raises:
            UnavailableError: the pool failed, refused the bundle, rests after a failure, or has no room.
        """
        if self._clock() < self._rests_until:
            raise UnavailableError("the challenger's pool failed a moment ago")
        if self._under_way >= (1 if self._failing else self._at_once):
            raise UnavailableError("the challenger's pool has no room for another request")
        self._under_way += 1
        try:
            scored = await self._score(target, rows)
        except asyncio.CancelledError:  # the caller's time-out
            self._rest()
            raise
        except (TimeoutError, RayError, RayServeException) as error:
            self._rest()
            raise UnavailableError(_first_line(error)) from error
        finally:
            self._under_way -= 1
        self._failing, self._rests_until = False, 0.0
        return scored

    def _rest(self) -> None:
        self._failing, self._rests_until = True, self._clock() + _REST_SECONDS

    async def _score(self, target: Target, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ask, and once more where the process that was asked died: another may be there, and scoring may be repeated.

        What the scorer itself raised is an answer, and is not asked for again.
        """
        asked = (target.release, target.digest, rows)
        try:
            scored: list[dict[str, Any]] = await self._handle.score.remote(*asked)
        except RayTaskError:
            raise
        except (RayError, RayServeException) as error:
            log.warning("challenger call retried", message=_first_line(error))
            self._rest()  # nobody else finds out by waiting
            async with asyncio.timeout(_AGAIN_SECONDS):
                scored = await self._handle.score.remote(*asked)
        return scored


def _first_line(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:160]}"
