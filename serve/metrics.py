"""Prometheus metrics of the gateway, with the field's names, through Ray's exporter."""

from __future__ import annotations

from ray.serve import metrics as ray_metrics

from serve.decide import Answer

_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]


class Metrics:
    """Counts answers and times them."""

    def __init__(self) -> None:
        self._predictions = ray_metrics.Counter(
            "predictions_total",
            description="Decisions given.",
            tag_keys=("model", "release", "role", "decision"),
        )
        self._seconds = ray_metrics.Histogram(
            "prediction_seconds",
            description="Time from the request's arrival to the reply, in seconds.",
            boundaries=_SECONDS,
            tag_keys=("model", "role"),
        )

    def decided(self, model: str, answer: Answer, seconds: float) -> None:
        """Count one answer."""
        role = answer.role
        tags = {"model": model, "release": answer.release, "role": role, "decision": answer.decision}
        self._predictions.inc(tags=tags)
        self._seconds.observe(seconds, tags={"model": model, "role": role})
