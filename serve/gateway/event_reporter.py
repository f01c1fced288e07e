"""Queue of replica events for the ledger: sent in order, retried until acknowledged, deduplicated by key.

The controller acknowledges an event when the ledger has it. Of more than `_MOST` waiting events the oldest are dropped
and logged, so a breaker that flaps for hours is represented by its newest changes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from uuid import uuid4

import structlog

from serve.decision.circuit_breakers import BreakerEvent

log = structlog.get_logger("plimsoll.gateway")
_MOST = 1000
_RETRY_SECONDS = 1.0


class EventReporter:
    """A queue and the task that empties it.

    Args:
        send: records one event under an idempotency key; returns False where it has to be sent again.
        retry_seconds: pause before an event is sent again.
    """

    def __init__(
        self, send: Callable[[BreakerEvent, str], Awaitable[bool]], retry_seconds: float = _RETRY_SECONDS
    ) -> None:
        self._send, self._retry_seconds = send, retry_seconds
        self._waiting: deque[tuple[BreakerEvent, str]] = deque()
        self._added = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, event: BreakerEvent) -> None:
        """Queue an event. Call from the event loop."""
        if len(self._waiting) >= _MOST:
            dropped, _ = self._waiting.popleft()
            log.error("event dropped unreported", kind=dropped.kind, model=dropped.model, data=dropped.data)
        self._waiting.append((event, uuid4().hex))
        self._added.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self._added.wait()
            self._added.clear()
            while self._waiting:
                first = self._waiting[0]
                if not await self._send(*first):
                    await asyncio.sleep(self._retry_seconds)
                elif self._waiting and self._waiting[0] is first:
                    self._waiting.popleft()
