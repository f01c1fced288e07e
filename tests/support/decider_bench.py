"""A decider over two real bundles, and a challenger pool with the behaviour that a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from lineage.settings import Settings
from serve.decision.answers import Answer, Request
from serve.decision.scoring import score
from serve.models.bundle_store import BundleStore
from serve.routes import Route, RouteTable, Target
from tests.support.bundles import features, make_bundle
from tests.support.gateway_parts import decider_of

Behaviour = Callable[[Target, dict[str, Any]], Awaitable[dict[str, Any]]]
RISKY = features(0.1, 4.0, 4)


class Pool:
    """A challenger pool with the given behaviour."""

    def __init__(self, behave: Behaviour | None = None, ready: bool = True) -> None:
        self.behave, self.ready, self.calls = behave, ready, 0

    def is_ready(self, target: Target) -> bool:
        return self.ready

    async def __call__(self, target: Target, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.calls += 1
        assert self.behave is not None
        return [await self.behave(target, row) for row in rows]


class Bench:
    """A decider over two real bundles."""

    def __init__(self, settings: Settings, pool: Pool | None = None) -> None:
        self.settings = settings
        self.first, self.second = (make_bundle(settings, f"loan@{n}", n) for n in (1, 2))
        self.store = BundleStore(settings)
        self.store.load([self.first, self.second])
        self.lines: list[dict[str, Any]] = []
        self.pool = pool or Pool(self.honest)
        self.decider = decider_of(self.store, self.lines.append, self.pool)

    async def honest(self, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        bundle = self.store.get(target)
        assert bundle is not None
        return asdict(score(bundle, values))

    def table(self, share: float = 0.0, **changes: Any) -> RouteTable:
        route = {
            "model": "loan",
            "champion": self.first,
            "previous": None,
            "baseline": self.first,
            "challenger": self.second if share else None,
            "share": share,
            "salt": "pepper-and-salt" if share else "",
            "challenger_timeout": 0.05,
        }
        return RouteTable(1, 7, {"loan": Route(**(route | changes))}, {})

    def ask(self, table: RouteTable, values: dict[str, Any] = RISKY, key: str = "c1", **how: Any) -> Answer:
        return asyncio.run(self.decider.decide(table, "loan", Request(values, key), **how))
