"""The port of model families that score: what a model artefact becomes once it is parsed.

A family is one file in `families/`, or an entry point in the group `plimsoll.scoring_families`: a function called
`parse`. Its name is the `family` of `release.json`; the family of the same name in `training/families` trains it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]


class Scorer(Protocol):
    """A trained model in memory. Calls are pure: the same rows give the same bits, alone or in a batch."""

    @property
    def width(self) -> int:
        """How many features a row has."""

    def score(self, rows: Rows) -> Rows:
        """The probability of the adverse outcome, float64[n] in [0, 1], of rows float64[n, width]."""

    def contributions(self, rows: Rows) -> Rows:
        """How far each feature moved each row's score, float64[n, width], in log-odds, without the bias.

        Positive is towards the adverse outcome. A row's contributions and one bias add up to the log-odds of its
        score. They come from the model that scored, not from a surrogate.
        """


class Parse(Protocol):
    """Reads the artefact of a family."""

    def __call__(self, name: str, content: bytes) -> Scorer:
        """The scorer in verified bytes. Data-only formats: nothing in the bytes is executed.

        Args:
            name: what errors call the artefact.

        Raises:
            TamperedError: the bytes are not an artefact of this family.
        """
