"""Shadow scoring: copies of answered requests are scored by another release in the background and recorded.

A copy never delays or fails an answer. The queue is bounded; copies that do not fit are dropped and counted.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from lineage.errors import PlimsollError
from serve.decision.answers import ChallengerPort, Scored
from serve.decision.challenger_client import AT_ONCE
from serve.judge.evidence import SHADOW
from serve.routes import Target

log = structlog.get_logger("plimsoll.gateway")
_QUEUE, _SECONDS = 256, 5.0


class ShadowRequest(NamedTuple):
    """A copy of an answered request: the shadow's release, the features, and the recorded line of the answer."""

    target: Target
    features: Mapping[str, Any]
    line: Mapping[str, Any]


class ShadowScorer:
    """Queue of copies and the tasks that score them.

    Args:
        record: appends one line to the spool.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        challenger: ChallengerPort,
        record: Callable[[dict[str, Any]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._challenger, self._record, self._clock = challenger, record, clock
        self._queue: asyncio.Queue[ShadowRequest] = asyncio.Queue(_QUEUE)
        self._workers: list[asyncio.Task[None]] = []
        self.dropped = 0

    def send(self, copy: ShadowRequest) -> None:
        """Queue a copy; drop and count it if the queue is full."""
        if not self._workers:
            self._workers = [asyncio.create_task(self._work()) for _ in range(AT_ONCE)]
        try:
            self._queue.put_nowait(copy)
        except asyncio.QueueFull:
            self.dropped += 1

    async def drain(self) -> None:
        """Wait until every queued copy is scored."""
        await self._queue.join()

    async def _work(self) -> None:
        while True:
            copy = await self._queue.get()
            try:
                await self._score(copy)
            except PlimsollError as error:
                log.warning("shadow decision not recorded", message=error.message)
            finally:
                self._queue.task_done()

    async def _score(self, copy: ShadowRequest) -> None:
        began, error, scored = time.perf_counter(), None, None
        try:
            async with asyncio.timeout(_SECONDS):
                (reply,) = await self._challenger(copy.target, [dict(copy.features)])
            error, scored = (reply["refused"][:200], None) if "refused" in reply else (None, Scored(**reply))
        except TimeoutError:
            error = "timeout"
        except PlimsollError as failure:
            error = f"{type(failure).__name__}: {failure.message}"[:200]
        self._record(_line(copy, scored, error, (time.perf_counter() - began) * 1000.0, self._clock()))


def _line(
    copy: ShadowRequest, scored: Scored | None, error: str | None, milliseconds: float, now: float
) -> dict[str, Any]:
    """The shadow's answer as a line of its own; `shadow_of` is the id of the returned decision."""
    given = copy.line
    said = {
        "score": scored.score if scored else None,
        "threshold": scored.threshold if scored else None,
        "decision": scored.decision if scored else None,
        "adverse": scored.adverse if scored else None,
        "features": scored.row if scored else given["features"],
        "reasons": [reason["code"] for reason in scored.reasons] if scored else [],
    }
    about = {
        "decision_id": secrets.token_hex(16),
        "shadow_of": given["decision_id"],
        "at": datetime.fromtimestamp(now, UTC).isoformat(),
        "release": copy.target.release,
        "digest": copy.target.digest,
        "role": SHADOW,
        "purpose": SHADOW,
        "arm": None,
        "key_hash_share": None,
        "share": 0.0,
        "fallback": None,
        "latency_ms": round(milliseconds, 3),
        "error": error,
        "rollout": None,
    }
    return {**given, **said, **about}
