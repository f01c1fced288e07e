"""Requests sent again: one that carries the same `Idempotency-Key` gets the answer that was given, and decides nothing.

A replica remembers its own answers only, for a while and within a budget of memory. A repetition that reaches another
replica is decided there anew: it has another decision id, and both stand on record.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256

from starlette.responses import Response

from lineage.errors import RefusedError

SECONDS = 600.0
BYTES_MOST = 16 * 1024 * 1024
_ENTRY_BYTES = 1_000  # what an entry costs beside its answer

#: Who asks, where, and under which key.
Name = tuple[str, str, str]


@dataclass
class _Entry:
    digest: bytes
    at: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    response: Response | None = None

    @property
    def size(self) -> int:
        return _ENTRY_BYTES + (len(self.response.body) if self.response else 0)


class IdempotencyCache:
    """Answers by the key under which they were asked for, oldest first.

    Args:
        clock: seconds, never going back.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, seconds: float = SECONDS, bytes_most: int = BYTES_MOST
    ) -> None:
        self._clock, self._seconds, self._bytes_most = clock, seconds, bytes_most
        self._entries: OrderedDict[Name, _Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def once(self, name: Name, body: bytes, work: Callable[[], Awaitable[Response]]) -> Response:
        """The answer that was given under this name, or that of `work`, which runs once even if two ask at a time.

        What raises is not remembered: it may be sent again, corrected.

        Raises:
            RefusedError: another body was sent under this name (409).
        """
        self._forget()
        digest = sha256(body).digest()
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry(digest, self._clock())
        elif entry.digest != digest:
            raise RefusedError(
                f"Idempotency-Key {name[2][:60]!r} came with another body before; use a new key for a new request",
                code="idempotency",
                field="Idempotency-Key",
            )
        async with entry.turn:
            if entry.response is None:
                await self._work(name, entry, work)
                again = False
            else:
                again = True
            return _copy(entry.response, again=again)

    async def _work(self, name: Name, entry: _Entry, work: Callable[[], Awaitable[Response]]) -> None:
        try:
            entry.response = await work()
        finally:
            if entry.response is None and self._entries.get(name) is entry:
                del self._entries[name]
        if self._entries.setdefault(name, entry) is entry:
            self._bytes += entry.size

    def _forget(self) -> None:
        """Drop what is old, and the oldest of what is too much; what is under way stays, and what came after it."""
        before = self._clock() - self._seconds
        while self._entries:
            name, entry = next(iter(self._entries.items()))
            if entry.response is None or (entry.at >= before and self._bytes <= self._bytes_most):
                return
            self._bytes -= entry.size
            del self._entries[name]


def _copy(response: Response | None, *, again: bool) -> Response:
    assert response is not None  # noqa: S101  `_work` sets it or raises
    copy = Response(response.body, response.status_code)
    copy.raw_headers = list(response.raw_headers)  # the sender may compress_reply the copy
    if again:
        copy.headers["Idempotent-Replayed"] = "true"
    return copy
