"""The port of model families that can be trained.

A family is one file in `families/`, or an entry point in the group `plimsoll.training_families`: an object with the
members of `Family`. The family of the same name in `validators/scoring/families` reads what it trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lineage.errors import UnknownError

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Examples:
    """Rows to learn from: rows float64[n, f], outcomes bool[n], True for the adverse outcome."""

    rows: npt.NDArray[np.float64]
    outcomes: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Range:
    """Where to search a parameter, both ends included: on a log scale, in whole numbers, or neither."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


class Family(Protocol):
    """A way to learn. The same parameters, examples and seed give the same bytes."""

    artefact: str
    """The file name of the trained model inside a bundle."""

    def defaults(self) -> dict[str, Any]:
        """Every parameter with a value that works without a search."""

    def space(self) -> dict[str, Range]:
        """What a search tries unless model.toml names ranges; keys are parameters."""

    def fit(self, params: Params, train: Examples, seed: int) -> bytes:
        """The trained model as the bytes of its artefact file: data only, no pickle. One thread; no state is kept.

        Args:
            params: overrides of the defaults.

        Raises:
            InvalidError: an unknown parameter, or examples from which nothing can be learned.
        """


def check_params(given: Params, known: Mapping[str, Any], family: str) -> dict[str, Any]:
    """`known` overridden by `given`.

    Args:
        family: what errors call the family.

    Raises:
        UnknownError: a parameter that the family does not have.
    """
    for name in given:
        if name not in known:
            near = get_close_matches(name, list(known), 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known) or 'none'}"
            raise UnknownError(f"{family} has no parameter {name!r}; {hint}", field=name)
    return {**known, **given}
