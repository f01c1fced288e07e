"""Every installed model family conforms, and the suite finds what does not."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lineage.errors import TamperedError
from training.conformance import is_pickle, problems_of_family, problems_of_installed
from training.families.logistic import Logistic
from training.family import Examples, Params, Range
from training.plugins import TRAINING_FAMILIES
from validators.plugins import SCORING_FAMILIES
from validators.scoring.families.logistic import Logistic as Scorer
from validators.scoring.families.logistic import parse
from validators.scoring.port import Rows


@pytest.mark.parametrize("name", sorted({*TRAINING_FAMILIES.names(), *SCORING_FAMILIES.names()}))
def test_every_installed_family_conforms(name: str, tmp_path: Path) -> None:
    assert problems_of_installed(name, tmp_path) == []


class OtherBytes(Logistic):
    """Bytes that depend on how often it was asked."""

    _count = itertools.count()

    def fit(self, params: Params, train: Examples, seed: int) -> bytes:
        return super().fit(params, train, seed) + b" " * next(self._count)


class GlobalRandom(Logistic):
    """Draws from the state that all share."""

    def fit(self, params: Params, train: Examples, seed: int) -> bytes:
        model = json.loads(super().fit(params, train, seed))
        return json.dumps(model | {"intercept": float(np.random.random())}).encode()


class Pickled(Logistic):
    def fit(self, params: Params, train: Examples, seed: int) -> bytes:
        super().fit(params, train, seed)
        return b"\x80\x04N."


class TakesAnything(Logistic):
    def fit(self, params: Params, train: Examples, seed: int) -> bytes:
        return super().fit({key: params[key] for key in params if key in self.defaults()}, train, seed)


class OddSpace(Logistic):
    def space(self) -> dict[str, Range]:
        return {"depth": Range(1, 2)}


@pytest.mark.parametrize(
    ("family", "problem"),
    [
        (OtherBytes(), "the same parameters, examples and seed give other bytes"),
        (GlobalRandom(), "the same parameters, examples and seed give other bytes"),
        (Pickled(), "the artefact is a pickle"),
        (TakesAnything(), "an unknown parameter: expected UnknownError"),
        (OddSpace(), "space has 'depth'"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_family_that_trains_badly_is_found(family: Any, problem: str, tmp_path: Path) -> None:
    assert any(problem in one for one in problems_of_family(family, parse, tmp_path))


class Wrong(Scorer):
    """A scorer to be made wrong."""


class Inverted(Wrong):
    def score(self, rows: Rows) -> Rows:
        return 1 - super().score(rows)


class NoExplanation(Wrong):
    def score(self, rows: Rows) -> Rows:
        return Scorer(self.intercept, self.coefficients, self.means, self.scales).score(rows)

    def contributions(self, rows: Rows) -> Rows:
        return np.zeros(rows.shape)


class BatchOnly(Wrong):
    def score(self, rows: Rows) -> Rows:
        return super().score(rows) * (1 - 1e-12 * (len(rows) > 1))


class OutOfRange(Wrong):
    def score(self, rows: Rows) -> Rows:
        return 2 * super().score(rows)


def reading(kind: type[Wrong]) -> Any:
    def read(name: str, content: bytes) -> Wrong:
        found = parse(name, content)
        return kind(found.intercept, found.coefficients, found.means, found.scales)

    return read


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (Inverted, "on the simple examples it learned from"),
        (NoExplanation, "do not add up to the log-odds"),
        (BatchOnly, "the same row alone get other scores"),
        (OutOfRange, "outside 0 to 1"),
    ],
)
def test_a_family_that_scores_badly_is_found(kind: type[Wrong], problem: str, tmp_path: Path) -> None:
    assert any(problem in one for one in problems_of_family(Logistic(), reading(kind), tmp_path))


def test_a_parser_that_takes_executes_or_crashes_on_damaged_bytes_is_found(tmp_path: Path) -> None:
    import pickle

    def careless(name: str, content: bytes) -> Scorer:
        try:
            return parse(name, content)
        except TamperedError:
            return parse(name, Logistic().fit({}, Examples(np.eye(4), np.eye(4)[0] == 1), 1))

    def unpickles(name: str, content: bytes) -> Scorer:
        if content.startswith(b"\x80"):
            pickle.loads(content)  # noqa: S301  what no family may do
        return parse(name, content)

    def crashes(name: str, content: bytes) -> Scorer:
        if not content:
            os.kill(os.getpid(), signal.SIGKILL)
        return parse(name, content)

    for read, problem in (
        (careless, "zeros gives a model"),
        (unpickles, "parse executes a pickle"),
        (crashes, "no bytes gives a crash (SIGKILL)"),
    ):
        assert any(problem in one for one in problems_of_family(Logistic(), read, tmp_path)), problem


def test_half_a_family_is_found(tmp_path: Path) -> None:
    assert "the half that trains is not installed" in problems_of_installed("no_such_family", tmp_path)[0]


def test_pickles_are_told_from_data() -> None:
    import pickle

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert is_pickle(pickle.dumps({"a": [1.5, "x"]}, protocol))
    for data in (b"", b"{}", json.dumps({"a": 1}).encode(), TRAINING_FAMILIES.load("boosted_trees").artefact.encode()):
        assert not is_pickle(data)
