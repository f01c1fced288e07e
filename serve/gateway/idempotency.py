"""Cache of replies by `Idempotency-Key`: a repeated request gets the first reply and makes no decision.

A replica keeps its own replies only, for `SECONDS` and within a memory budget. A repetition that reaches another
replica is a decision of its own, with its own decision id; both are on record.
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
_ENTRY_BYTES = 1_000  # memory of an entry without its reply

#: Account, path and Idempotency-Key.
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
    """Replies by account, path and key, oldest first.

    Args:
        clock: monotonic seconds.
        seconds: how long a reply is kept.
        bytes_most: memory budget of all replies.
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
        """The reply that was given under `name`, or that of `work`, which runs once even for concurrent repetitions.

        Errors are not kept, so a corrected request may use the same key.

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
        """Drop expired replies, then the oldest beyond the budget; stop at a request still in progress."""
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
    copy.raw_headers = list(response.raw_headers)  # compression changes the copy in place
    if again:
        copy.headers["Idempotent-Replayed"] = "true"
    return copy
