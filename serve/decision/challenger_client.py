"""Client of the challenger pool: few concurrent requests, and short waits for a pool that fails.

A request that waits for the pool occupies one of the gateway's few concurrent requests. So at most `AT_ONCE` are sent
at a time; meanwhile no customer is assigned to either arm, which costs the canary time but no evidence. After a failure
the pool is not asked for a second, then by one request at a time until it answers. Requests refused meanwhile count
as the challenger's failures.
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
_PAUSE_SECONDS = 1.0
_RETRY_SECONDS = 0.2  # limit of the second attempt: Serve itself would wait until another process is up
_PREPARE_SECONDS = 20.0


class ChallengerClient:
    """Scores rows with a challenger in another process.

    Args:
        handle: Serve's handle of the pool.
        clock: monotonic seconds.
        at_once: concurrent requests.
    """

    def __init__(self, handle: Any, clock: Callable[[], float] = time.monotonic, at_once: int = AT_ONCE) -> None:
        self._handle, self._clock, self._at_once = handle, clock, at_once
        self._paused_until = 0.0
        self._failing = False
        self._in_progress = 0
        self._ready: set[str] = set()

    def is_prepared(self, target: Target) -> bool:
        """Whether `prepare` has ended, with success or not."""
        return target.digest in self._ready

    def is_ready(self, target: Target) -> bool:
        """Whether the next customer can be assigned to an arm: the challenger is prepared and a request can be sent.

        True while the pool fails, because the judge has to see the failures.
        """
        return target.digest in self._ready and (self._failing or self._in_progress < self._at_once)

    async def prepare(self, target: Target) -> None:
        """Load the bundle in the pool. A failure is only logged: requests will fail too, and are counted."""
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
        if self._clock() < self._paused_until:
            raise UnavailableError("the challenger's pool failed a moment ago")
        if self._in_progress >= (1 if self._failing else self._at_once):
            raise UnavailableError("the challenger's pool has no room for another request")
        self._in_progress += 1
        try:
            scored = await self._score(target, rows)
        except asyncio.CancelledError:  # the caller's time-out
            self._pause()
            raise
        except (TimeoutError, RayError, RayServeException) as error:
            self._pause()
            raise UnavailableError(_first_line(error)) from error
        finally:
            self._in_progress -= 1
        self._failing, self._paused_until = False, 0.0
        return scored

    def _pause(self) -> None:
        self._failing, self._paused_until = True, self._clock() + _PAUSE_SECONDS

    async def _score(self, target: Target, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Score, with one retry if the process died: another may exist, and scoring is idempotent.

        An error that the scorer itself raised is not retried.
        """
        asked = (target.release, target.digest, rows)
        try:
            scored: list[dict[str, Any]] = await self._handle.score.remote(*asked)
        except RayTaskError:
            raise
        except (RayError, RayServeException) as error:
            log.warning("challenger call retried", message=_first_line(error))
            self._pause()  # other requests need not wait to find out
            async with asyncio.timeout(_RETRY_SECONDS):
                scored = await self._handle.score.remote(*asked)
        return scored


def _first_line(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:160]}"
