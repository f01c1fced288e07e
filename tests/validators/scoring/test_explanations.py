"""Our contributions against an independent implementation: the shap package's own TreeSHAP and linear formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import shap

from validators.feature_matrix import matrix
from validators.scoring.bundle import load_bundle
from validators.scoring.xgboost_without_sklearn import import_xgboost


def test_contributions_of_trees_are_those_of_the_shap_package(folder: Path, holdout: pl.DataFrame) -> None:
    bundle = load_bundle(folder)
    rows = matrix(bundle.features, holdout.head(50))
    booster = import_xgboost().Booster(model_file=str(folder / "model.ubj"))
    expected = shap.TreeExplainer(booster, feature_perturbation="tree_path_dependent").shap_values(rows)
    np.testing.assert_allclose(bundle.model.contributions(rows), expected, atol=1e-4)


def test_contributions_of_the_baseline_are_those_of_the_linear_formula(folder: Path, holdout: pl.DataFrame) -> None:
    bundle = load_bundle(folder)
    rows = matrix(bundle.features, holdout.head(50))
    pushes = bundle.baseline.contributions(rows)
    scores = bundle.baseline.score(rows)
    log_odds = np.log(scores / (1 - scores))
    # Additivity: what is left after the pushes is the same bias for everybody.
    assert np.ptp(log_odds - pushes.sum(axis=1)) < 1e-9
