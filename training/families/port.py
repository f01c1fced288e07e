"""The port of model families that can be trained, and the door that finds them.

A family is one file in this folder with an instance called `family`. The same parameters, data and seed give the same
bytes; the bytes are data only, and the family of the same name in `validators/scoring/families` reads them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol, cast

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
    """A way to learn."""

    artefact: str
    """The file name of the trained model inside a bundle."""

    def defaults(self) -> dict[str, Any]:
        """Parameters that work without a search."""

    def space(self) -> dict[str, Range]:
        """What a search tries, unless the model folder says otherwise."""

    def fit(self, params: Params, train: Examples, seed: int) -> bytes:
        """The trained model as the bytes of its artefact file. One thread; no state is kept.

        Raises:
            InvalidError: an unknown parameter, or examples nothing can be learned from.
        """


def family_names() -> list[str]:
    """The names of every family that can be trained, sorted."""
    from training import families

    return sorted(module.name for module in pkgutil.iter_modules(families.__path__) if module.name != "port")


def family_of(name: str) -> Family:
    """The family called `name`.

    Raises:
        UnknownError: there is none; an unknown name is not a default.
    """
    known = family_names()
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"families: {', '.join(known)}"
        raise UnknownError(f"no model family is called {name!r}; {hint}", field="training.champion")
    return cast(Family, importlib.import_module(f"training.families.{name}").family)


def check_params(given: Params, known: Mapping[str, Any], family: str) -> dict[str, Any]:
    """`known` overridden by `given`.

    Raises:
        UnknownError: a parameter that the family does not have.
    """
    for name in given:
        if name not in known:
            near = get_close_matches(name, list(known), 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known) or 'none'}"
            raise UnknownError(f"{family} has no parameter {name!r}; {hint}", field=name)
    return {**known, **given}
