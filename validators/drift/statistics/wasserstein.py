"""Wasserstein distance in units of the reference's standard deviation: sensitive to how far values moved."""

from __future__ import annotations

from typing import ClassVar

from validators.drift.evidently_distance import evidently_distance
from validators.drift.port import Values


class Wasserstein:
    """First Wasserstein distance over the standard deviation of the reference, at least 0.001.

    It needs an order, so codes of categories are compared as the numbers they are stored as.
    """

    title: ClassVar[str] = "Wasserstein distance, normed"
    usual_limit: ClassVar[float] = 0.1
    symmetric: ClassVar[bool] = False

    def distance(self, reference: Values, window: Values, *, category: bool) -> float:  # noqa: ARG002  the port's
        """From 0 up; 1 is a shift by one standard deviation of the reference."""
        return evidently_distance("wasserstein", reference, window, category=False)


statistic = Wasserstein()
