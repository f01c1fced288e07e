"""The port every model family answers through, and the door that finds the families.

A family is one file in `families/` with a function `parse(name, content) -> Scorer`, where `name` is what errors call
the artefact. Its file name is its name in `release.json`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lineage.errors import UnavailableError, UnknownError
from validators.scoring import families

Rows = npt.NDArray[np.float64]


class Scorer(Protocol):
    """A trained model, ready to answer. Calls are pure: the same rows give the same bits, alone or in a batch."""

    @property
    def width(self) -> int:
        """How many features a row has."""

    def score(self, rows: Rows) -> Rows:
        """The probability of the adverse outcome, float64[n] in [0, 1], of rows float64[n, width]."""

    def contributions(self, rows: Rows) -> Rows:
        """How far each feature pushed each row, float64[n, width], in log-odds, without the bias.

        Positive pushes towards the adverse outcome. They come from the model that answered, not from a stand-in.
        """


@cache
def families_here() -> tuple[str, ...]:
    """The names of every family that is installed, sorted; looked up once."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(families.__path__)))


def family_names() -> list[str]:
    """The names of every family that is installed, sorted."""
    return list(families_here())


def parse_scorer(family: str, name: str, content: bytes) -> Scorer:
    """The scorer in an artefact's bytes, read by the family called `family`.

    Args:
        name: what errors call the artefact.

    Raises:
        UnknownError: no family has that name; an unknown name is not a default.
        TamperedError: the bytes are not an artefact of this family.
    """
    known = families_here()
    if family not in known:
        near = get_close_matches(family, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"families: {', '.join(known)}"
        raise UnknownError(f"no model family is called {family!r}; {hint}", field="family")
    parse: Callable[[str, bytes], Scorer] = importlib.import_module(f"{families.__name__}.{family}").parse
    return parse(name, content)


def load_scorer(family: str, path: Path) -> Scorer:
    """Load the artefact at `path` with the family called `family`.

    Raises:
        UnknownError: no family has that name.
        UnavailableError: the file cannot be read.
        TamperedError: the bytes are not an artefact of this family.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnavailableError(f"cannot read model artefact {path}: {error.strerror}") from error
    return parse_scorer(family, path.name, content)
