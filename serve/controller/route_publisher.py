"""Publishes route tables to the replicas that watch, and knows when all of them run one.

The last table is kept in a file: a controller that starts while the ledger is away hands out that one, so that the
split stays as it was also for a replica that starts then. Without the ledger no new table is ever made.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson

from serve.controller.effects import write_text_atomically
from serve.controller.replicas import ReplicaRegistry
from serve.routes import RouteTable

_POLL_SECONDS = 5.0


class RoutePublisher:
    """The table in force and the replicas that watch it."""

    def __init__(self, file: Path, registry: ReplicaRegistry) -> None:
        self._file, self.registry = file, registry
        self._sent: dict[str, Any] | None = self._last()  # as it goes out; five hundred routes take ms to write down
        self.table = RouteTable.from_dict(self._sent) if self._sent else None
        self._news = asyncio.Event()
        self._asked = asyncio.Event()

    async def watch(self, report: dict[str, Any]) -> dict[str, Any] | None:
        """A replica says what it runs and waits for something newer; None when there was nothing for a while."""
        self.registry.note(report)
        self._asked.set()
        self._asked = asyncio.Event()
        order = tuple(report["order"])
        if self.table is None or self.table.order <= order:
            news = self._news
            try:
                async with asyncio.timeout(_POLL_SECONDS):
                    await news.wait()
            except TimeoutError:
                return None
        assert self.table is not None  # noqa: S101  set before the event is
        return self._sent if self.table.order > order else None

    def publish(self, table: RouteTable) -> list[str]:
        """Hand out a table; return the models whose route is another one than before."""
        before = self.table.routes if self.table else {}
        if self.table and self.table.epoch == table.epoch and self.table.same_content(table):
            return []
        sent = table.to_dict()
        write_text_atomically(self._file, orjson.dumps(sent))
        self._file.chmod(0o600)
        self.table, self._sent = table, sent
        self._news.set()
        self._news = asyncio.Event()
        return [name for name, route in table.routes.items() if before.get(name) != route]

    async def acked(self, order: tuple[int, int]) -> float:
        """Wait until every replica runs this table or a later one; return when that was (seconds since the epoch)."""
        while not self.registry.has_acked(order):
            asked = self._asked
            try:
                async with asyncio.timeout(0.5):
                    await asked.wait()
            except TimeoutError:
                continue  # a replica may have gone: look again
        return time.time()

    def _last(self) -> dict[str, Any] | None:
        try:
            last: dict[str, Any] = orjson.loads(self._file.read_bytes())
            return last
        except FileNotFoundError:
            return None
