"""Jensen-Shannon distance: bounded, and defined where a bin of one sample is empty."""

from __future__ import annotations

from typing import ClassVar

from validators.drift.evidently_distance import evidently_distance
from validators.drift.port import Values


class JensenShannon:
    """Square root of the Jensen-Shannon divergence in nats, with bins over both samples by Sturges' rule."""

    title: ClassVar[str] = "Jensen-Shannon distance"
    usual_limit: ClassVar[float] = 0.1
    symmetric: ClassVar[bool] = True

    def distance(self, reference: Values, window: Values, *, category: bool) -> float:
        """From 0 to 0.8326, the square root of ln 2, which two samples reach that share no bin."""
        return evidently_distance("jensenshannon", reference, window, category=category)


statistic = JensenShannon()
