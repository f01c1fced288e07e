"""Publishes route tables to the replicas that long-poll for them, and waits until all replicas run one.

The last table is kept in a file: a controller that starts while the ledger is unavailable hands out that one, so that
replicas that start then split traffic as the others do. No new table is made without the ledger.
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
        self._sent: dict[str, Any] | None = self._last()  # kept as JSON: serialising 500 routes takes milliseconds
        self.table = RouteTable.from_dict(self._sent) if self._sent else None
        self._published = asyncio.Event()
        self._reported = asyncio.Event()

    async def watch(self, report: dict[str, Any]) -> dict[str, Any] | None:
        """Note a replica's report and wait for a newer table; None when there is none within 5 s."""
        self.registry.note(report)
        self._reported.set()
        self._reported = asyncio.Event()
        order = tuple(report["order"])
        if self.table is None or self.table.order <= order:
            published = self._published
            try:
                async with asyncio.timeout(_POLL_SECONDS):
                    await published.wait()
            except TimeoutError:
                return None
        assert self.table is not None  # noqa: S101  the table is set before the event
        return self._sent if self.table.order > order else None

    def publish(self, table: RouteTable) -> list[str]:
        """Publish a table; return the models whose route changed."""
        before = self.table.routes if self.table else {}
        if self.table and self.table.epoch == table.epoch and self.table.same_content(table):
            return []
        sent = table.to_dict()
        write_text_atomically(self._file, orjson.dumps(sent))
        self._file.chmod(0o600)
        self.table, self._sent = table, sent
        self._published.set()
        self._published = asyncio.Event()
        return [name for name, route in table.routes.items() if before.get(name) != route]

    async def acked(self, order: tuple[int, int]) -> float:
        """Wait until every replica runs this table or a later one; return the time, in seconds since the epoch."""
        while not self.registry.has_acked(order):
            reported = self._reported
            try:
                async with asyncio.timeout(0.5):
                    await reported.wait()
            except TimeoutError:
                continue  # a replica may be gone: check again
        return time.time()

    def _last(self) -> dict[str, Any] | None:
        try:
            last: dict[str, Any] = orjson.loads(self._file.read_bytes())
            return last
        except FileNotFoundError:
            return None
