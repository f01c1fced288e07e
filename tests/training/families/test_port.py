from __future__ import annotations

import json

import numpy as np
import pytest

from lineage.errors import UnknownError
from training.family import Examples, Range
from training.plugins import TRAINING_FAMILIES, family_of
from training.search import best, draw
from training.trial import run_trial


def examples(seed: int = 1, rows: int = 800) -> Examples:
    source = np.random.default_rng(seed)
    values = source.normal(size=(rows, 4))
    return Examples(values, source.random(rows) < 1 / (1 + np.exp(-2 * values[:, 0] * values[:, 1])))


def test_trees_depend_on_the_seed_and_find_what_lines_cannot() -> None:
    trees = family_of("boosted_trees")
    assert trees.fit({}, examples(), 1) != trees.fit({}, examples(), 2)
    found = {name: run_trial(name, {}, examples(), examples(2), 1).auc for name in TRAINING_FAMILIES.names()}
    assert found["boosted_trees"] > found["logistic"] + 0.1


def test_logistic_is_plain_json() -> None:
    model = json.loads(family_of("logistic").fit({}, examples(), 1))
    assert set(model) == {"intercept", "coefficients", "means", "scales"}
    assert len(model["coefficients"]) == 4


def test_an_unknown_family_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UnknownError, match="did you mean 'logistic'"):
        family_of("logistics")


def test_candidates_come_from_the_seed_alone() -> None:
    space = {"a": Range(1, 9, whole=True), "b": Range(0.01, 1, log=True), "c": Range(-1, 1)}
    defaults = {"a": 5, "b": 0.1, "c": 0.0, "d": 7}
    drawn = draw(space, defaults, 30, 4)
    assert drawn[0] == defaults
    assert drawn == draw(space, defaults, 30, 4) != draw(space, defaults, 30, 5)
    assert drawn[:10] == draw(space, defaults, 10, 4)
    for one in drawn:
        assert one["d"] == 7
        assert isinstance(one["a"], int)
        assert 1 <= one["a"] <= 9
        assert 0.01 <= one["b"] <= 1


def test_of_equals_the_first_drawn_wins() -> None:
    trials = [run_trial("logistic", {"l2": value}, examples(), examples(2), 1) for value in (1.0, 1.0)]
    assert best(trials) is trials[0]
