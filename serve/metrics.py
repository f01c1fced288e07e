"""Prometheus metrics of the gateway, with the field's names, through Ray's exporter. No label ever names a customer."""

from __future__ import annotations

from ray.serve import metrics as ray_metrics

from serve.admission import Admission
from serve.answers import Answer
from serve.cache import Cache
from serve.shadow import Shadow
from serve.store import BundleStore

_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]
_EVERY = 64  # answers between two looks at what only changes slowly


class Metrics:
    """Counts answers and times them; now and then says what is in memory."""

    def __init__(self, store: BundleStore, cache: Cache, shadow: Shadow, admission: Admission) -> None:
        self._store, self._cache, self._shadow, self._admission = store, cache, shadow, admission
        self._answers = 0
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
        """Count one answer."""
        role = answer.role
        tags = {"model": model, "release": answer.release, "role": role, "decision": answer.decision}
        self._predictions.inc(tags=tags)
        self._seconds.observe(seconds, tags={"model": model, "role": role})
        if answer.fallback:
            self._fallbacks.inc(tags={"model": model, "reason": answer.fallback})
        self._answers += 1
        if self._answers % _EVERY == 1:
            self._look()

    def _look(self) -> None:
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
