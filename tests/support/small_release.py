"""A small, real release on synthetic customers: trees beat the logistic baseline because risk is not linear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lineage.digest import digest_folder
from lineage.policy import Policy
from lineage.settings import Settings
from lineage.signing import sign
from training.families.boosted_trees import family as trees
from training.families.logistic import family as logistic
from training.family import Examples
from validators.evidence import Evidence
from validators.feature_matrix import matrix, records
from validators.policy import check_policy
from validators.scoring.bundle import load_bundle
from validators.scoring.features import Feature
from validators.scoring.golden import answer

CHECKS = ["beats_baseline_and_champion", "group_fairness", "no_protected_features", "artefact_complete_and_signed"]
FEATURES = (
    Feature("income", "number", 0.0, 1_000.0),
    Feature("debt", "number", 0.0, 1_000.0),
    Feature("late", "integer", 0, 12),
    Feature("home", "category", categories=("own", "rent", "other")),
)


def customers(rows: int, seed: int) -> pl.DataFrame:
    """Customers whose risk rises where debt and income are both high or both low, which no linear model finds."""
    source = np.random.default_rng(seed)
    income, debt = source.uniform(0, 1000, rows), source.uniform(0, 1000, rows)
    late = source.integers(0, 13, rows)
    risk = -1.4 + 3.0 * ((income > 500) == (debt > 500)) - 1.5 + 0.1 * late
    return pl.DataFrame(
        {
            "income": income,
            "debt": debt,
            "late": late,
            "home": source.choice(["own", "rent", "other"], rows),
            "SEX": source.integers(1, 3, rows),
            "AGE": source.integers(21, 75, rows),
            "label": (source.random(rows) < 1 / (1 + np.exp(-risk))).astype(np.int64),
        }
    )


def write(
    settings: Settings, *, trees_of: pl.DataFrame, features: tuple[Feature, ...] = FEATURES, seed: int = 1
) -> Path:
    """Train on `trees_of` and write a signed bundle; its folder."""
    learn = Examples(matrix(features, trees_of), trees_of["label"].to_numpy() == 1)
    draft = settings.artefacts / f"draft-{seed}"
    draft.mkdir(parents=True)
    (draft / "model.ubj").write_bytes(trees.fit({"trees": 40, "max_depth": 3}, learn, seed))
    (draft / "baseline.json").write_bytes(logistic.fit({}, learn, seed))
    (draft / "release.json").write_text(json.dumps(description(features)))
    (draft / "golden.json").write_text("[]")
    bundle = load_bundle(draft)
    scores = bundle.model.score(learn.rows)
    pl.DataFrame(learn.rows, schema=[one.name for one in features]).with_columns(score=scores).write_parquet(
        draft / "reference.parquet"
    )
    (draft / "golden.json").write_text(json.dumps(answer(bundle, records(features, trees_of.head(32)))))
    return settle(draft, settings)


def settle(draft: Path, settings: Settings) -> Path:
    """Name a folder by its digest and sign it."""
    place = draft.rename(settings.artefacts / digest_folder(draft).removeprefix("sha256:"))
    sign(place, settings)
    return place


def description(features: tuple[Feature, ...] = FEATURES) -> dict[str, Any]:
    return {
        "schema": 1,
        "model": "small-credit",
        "family": "boosted_trees",
        "artefact": "model.ubj",
        "baseline": {"family": "logistic", "artefact": "baseline.json"},
        "features": [
            {
                "name": one.name,
                "type": one.type,
                "minimum": one.minimum,
                "maximum": one.maximum,
                "categories": None if one.categories is None else list(one.categories),
            }
            for one in features
        ],
        "threshold": 0.5,
        "baseline_threshold": 0.5,
        "favourable": "approve",
        "adverse": "decline",
        "explain": "adverse",
        "reasons_most": 2,
        "reasons": {one.name: {"code": f"R{n}", "text": f"Because of {one.name}"} for n, one in enumerate(features)},
        "policy_digest": "sha256:" + "0" * 64,
        "entity": "customer",
    }


def evidence(settings: Settings, folder: Path, holdout: pl.DataFrame, **changed: Any) -> Evidence:
    """The evidence on a bundle, with what a test changes."""
    given: dict[str, Any] = {
        "bundle": load_bundle(folder),
        "digest": "sha256:" + folder.name,
        "holdout": holdout,
        "label": "label",
        "protected": ("SEX", "AGE"),
        "identifiers": ("ID",),
        "settings": settings,
    }
    return Evidence(**(given | changed))


def policy(**limits: dict[str, Any]) -> Policy:
    """All four checks, with limits that the small release meets."""
    tables: dict[str, Any] = {
        "group_fairness": {"ratio_limit": 0.7},
        "artefact_complete_and_signed": {"minimum_reference_rows": 500},
    }
    return check_policy({"validation": {"checks": CHECKS} | tables | limits})
