"""The port of drift statistics: what a statistic is given and what it returns."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


class DriftStatistic(Protocol):
    """A distance between the values of one column in the reference of a release and in a window of live traffic.

    Attributes:
        title: the statistic's name in words.
        usual_limit: the distance that is commonly called drift, above 0. It is advice for the policy's
            `feature_limit`; only the policy decides.
        symmetric: whether the distance stays the same when reference and window are exchanged.
    """

    title: ClassVar[str]
    usual_limit: ClassVar[float]
    symmetric: ClassVar[bool]

    def distance(self, reference: Values, window: Values, *, category: bool) -> float:
        """The distance: 0 for equal samples, larger the further apart, always finite.

        Args:
            reference: float64[n], at least one value, all finite.
            window: float64[m], at least one value, all finite. m is usually smaller than n.
            category: whether the values are a few whole codes, which are better compared value by value than by bins.
        """
