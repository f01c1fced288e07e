"""Population stability index: the measure that credit scoring has always used."""

from __future__ import annotations

from typing import ClassVar

from validators.drift.evidently_distance import evidently_distance
from validators.drift.port import Values


class PopulationStabilityIndex:
    """Sum over bins of (p - q) * ln(p / q), with bins over both samples by Sturges' rule; empty bins count 0.0001."""

    title: ClassVar[str] = "Population stability index"
    usual_limit: ClassVar[float] = 0.1
    symmetric: ClassVar[bool] = True

    def distance(self, reference: Values, window: Values, *, category: bool) -> float:
        """From 0 up; 0.1 is a small shift, 0.25 a large one."""
        return evidently_distance("psi", reference, window, category=category)


statistic = PopulationStabilityIndex()
