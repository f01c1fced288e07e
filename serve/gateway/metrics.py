"""Prometheus metrics of the gateway, through Ray's exporter. No label names a customer."""

from __future__ import annotations

import asyncio
from collections import Counter

from ray.serve import metrics as ray_metrics

from serve.decision.answers import Answer
from serve.decision.score_cache import ScoreCache
from serve.decision.shadow import ShadowScorer
from serve.gateway.admission import Admission
from serve.models.bundle_store import BundleStore

_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]
_PAUSE_SECONDS = 1.0


class Metrics:
    """Counts and times answers, and exports gauges of memory, cache and load.

    Counts are summed here and exported once a second: each increment of a Ray counter costs as much as recording a
    decision. A replica that ends loses its last second; the decisions themselves are on record.
    """

    def __init__(self, store: BundleStore, cache: ScoreCache, shadow: ShadowScorer, admission: Admission) -> None:
        self._store, self._cache, self._shadow, self._admission = store, cache, shadow, admission
        self._counted: Counter[tuple[str, str, str, str]] = Counter()
        self._fallen_back: Counter[tuple[str, str]] = Counter()
        self._due: asyncio.TimerHandle | None = None
        self._predictions = ray_metrics.Counter(
            "predictions_total",
            description="Decisions given.",
            tag_keys=("model", "release", "role", "decision"),
        )
        self._fallbacks = ray_metrics.Counter(
            "prediction_fallbacks_total",
            description="Decisions that another than the first choice gave, by the reason.",
            tag_keys=("model", "reason"),
        )
        self._seconds = ray_metrics.Histogram(
            "prediction_seconds",
            description="Time from the request's arrival to the reply, in seconds.",
            boundaries=_SECONDS,
            tag_keys=("model", "role"),
        )
        self._gauges = {
            name: ray_metrics.Gauge(name, description=description)
            for name, description in (
                ("models_resident", "Models in this replica's memory."),
                ("model_memory_bytes", "Memory that they take, in bytes."),
                ("model_evictions", "Models that had to leave memory since the start."),
                ("prediction_cache_hits", "Decisions answered from memory since the start."),
                ("requests_refused", "Requests that found no place in this replica since the start."),
                ("shadow_copies_dropped", "Copies for shadows that found no room since the start."),
            )
        }

    def decided(self, model: str, answer: Answer, seconds: float) -> None:
        """Count one answer. Call from the event loop.

        Args:
            seconds: from the request's arrival to the reply.
        """
        self._counted[model, answer.release, answer.role, answer.decision] += 1
        self._seconds.observe(seconds, tags={"model": model, "role": answer.role})
        if answer.fallback:
            self._fallen_back[model, answer.fallback] += 1
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._export)

    def _export(self) -> None:
        self._due = None
        counted, self._counted = self._counted, Counter()
        for (model, release, role, decision), times in counted.items():
            tags = {"model": model, "release": release, "role": role, "decision": decision}
            self._predictions.inc(times, tags=tags)
        fallen_back, self._fallen_back = self._fallen_back, Counter()
        for (model, reason), times in fallen_back.items():
            self._fallbacks.inc(times, tags={"model": model, "reason": reason})
        self._update_gauges()

    def _update_gauges(self) -> None:
        seen = {
            "models_resident": self._store.resident,
            "model_memory_bytes": self._store.memory_bytes,
            "model_evictions": self._store.evictions,
            "prediction_cache_hits": self._cache.hits,
            "requests_refused": self._admission.refused,
            "shadow_copies_dropped": self._shadow.dropped,
        }
        for name, value in seen.items():
            self._gauges[name].set(float(value))
