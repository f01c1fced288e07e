"""What happens in a replica and belongs on record: told to the controller until it is there, in order, each once.

The controller answers when the ledger has it. While either is away what is to be told waits; of more than `_MOST` the
oldest are dropped, and that is logged: a breaker that flaps for hours is told by its newest changes.
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
        tell: puts one on record under an idempotency key; False where it is to be told again.
    """

    def __init__(
        self, tell: Callable[[BreakerEvent, str], Awaitable[bool]], retry_seconds: float = _RETRY_SECONDS
    ) -> None:
        self._tell, self._retry_seconds = tell, retry_seconds
        self._waiting: deque[tuple[BreakerEvent, str]] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, told: BreakerEvent) -> None:
        """Have it told."""
        if len(self._waiting) >= _MOST:
            dropped, _ = self._waiting.popleft()
            log.error("event dropped unreported", kind=dropped.kind, model=dropped.model, data=dropped.data)
        self._waiting.append((told, uuid4().hex))
        self._news.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                first = self._waiting[0]
                if not await self._tell(*first):
                    await asyncio.sleep(self._retry_seconds)
                elif self._waiting and self._waiting[0] is first:
                    self._waiting.popleft()
