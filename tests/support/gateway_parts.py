"""A decider and a router put together as a gateway replica does, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from serve.decision.answers import Answer, ChallengerPort
from serve.decision.champion import Champion
from serve.decision.circuit_breakers import BreakerEvent, Breakers
from serve.decision.decider import Decider
from serve.decision.explainer import Explainer
from serve.decision.freshness import FeaturePort
from serve.decision.score_cache import ScoreCache
from serve.gateway.predictions import Predictions
from serve.gateway.router import Router
from serve.models.bundle_store import BundleStore

Record = Callable[[dict[str, Any]], None]


class Silent:
    """Metrics that count nothing."""

    def decided(self, model: str, answer: Answer, seconds: float) -> None:
        pass


def decider_of(
    store: BundleStore,
    record: Record,
    pool: ChallengerPort,
    replica: str = "r1",
    *,
    clock: Callable[[], float] = time.time,
    ticks: Callable[[], float] = time.monotonic,
    report: Callable[[BreakerEvent], None] = lambda event: None,
) -> Decider:
    """A decider. `clock` is the wall's, `ticks` the breakers'; `report` receives the breakers' events."""
    champion = Champion(store, Breakers(replica, report, ticks, clock), Explainer(), ScoreCache())
    return Decider(store, champion, record, pool, replica, clock)


def router_of(
    decider: Decider,
    store: BundleStore,
    record: Record,
    replica: str = "r1",
    features: FeaturePort | None = None,
    **options: Any,
) -> Router:
    """A router before a decider."""
    predictions = Predictions(decider, store, replica, Silent(), features)
    return Router(predictions, store, record, replica, **options)
