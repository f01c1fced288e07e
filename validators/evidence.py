"""The evidence that checks examine: the candidate, held-out rows, and the champion it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from lineage.settings import Settings
from validators.feature_matrix import matrix
from validators.scoring.bundle import Bundle
from validators.scoring.port import Rows


@dataclass(frozen=True)
class Evidence:
    """The candidate's bundle, the holdout rows, the attributes it must not use, and the champion if there is one.

    Attributes:
        digest: the bundle's digest as it was recorded when the release was trained.
        holdout: one row per entity: the features, the label and the protected attributes.
        label: the column of `holdout` that is 1 for the adverse outcome and 0 otherwise.
        protected: columns of `holdout` that are protected attributes.
        identifiers: names of columns that point directly at a person.
        champion: the bundle that answers now; None before the first promotion.
        champion_release: its name.
    """

    bundle: Bundle
    digest: str
    holdout: pl.DataFrame
    label: str
    protected: tuple[str, ...]
    identifiers: tuple[str, ...]
    settings: Settings
    champion: Bundle | None = None
    champion_release: str | None = None

    @property
    def folder(self) -> Path:
        return self.bundle.folder

    @cached_property
    def outcomes(self) -> npt.NDArray[np.bool_]:
        """True for the adverse outcome, bool[n]."""
        return self.holdout[self.label].to_numpy() == 1

    @cached_property
    def scores(self) -> Rows:
        """The candidate's scores of the holdout, float64[n]."""
        return self.bundle.model.score(matrix(self.bundle.features, self.holdout))

    @cached_property
    def baseline_scores(self) -> Rows:
        """The baseline's scores of the holdout, float64[n]."""
        return self.bundle.baseline.score(matrix(self.bundle.features, self.holdout))

    @cached_property
    def champion_scores(self) -> Rows | None:
        """The champion's scores of the holdout, float64[n]."""
        if self.champion is None:
            return None
        return self.champion.model.score(matrix(self.champion.features, self.holdout))

    @cached_property
    def favourable(self) -> npt.NDArray[np.bool_]:
        """True where the candidate decides in the customer's favour, bool[n]."""
        return self.scores < self.bundle.threshold
