"""A small real bundle, made and signed in a temporary home."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xgboost as xgb

from lineage.digest import digest_folder
from lineage.settings import Settings
from lineage.signing import make_keys, sign
from serve.routes import Target
from validators.scoring.bundle import load_bundle
from validators.scoring.golden import answer

NAMES = ["income", "debt", "late"]


def features(income: float = 2.0, debt: float = 0.5, late: int = 0) -> dict[str, object]:
    """A row as a caller names it."""
    return {"income": income, "debt": debt, "late": late}


def make_bundle(settings: Settings, release: str, seed: int = 1) -> Target:
    """Train 20 trees on random data, write, digest and sign the bundle; return its target."""
    make_keys(settings)
    draw = np.random.default_rng(seed)
    rows = np.column_stack([draw.gamma(2, 1, 500), draw.gamma(1, 1, 500), draw.integers(0, 5, 500)]).astype(float)
    bad = (rows[:, 2] + rows[:, 1] - rows[:, 0] + draw.normal(size=500) > 1).astype(int)
    options = {"objective": "binary:logistic", "max_depth": 3, "seed": seed, "nthread": 1}
    folder = settings.artefacts / "draft"
    folder.mkdir(parents=True)
    xgb.train(options, xgb.DMatrix(rows, bad), 20).save_model(folder / "model.ubj")
    logistic = {"intercept": -1.0, "coefficients": [-1.0, 1.0, 1.0], "means": [0.0] * 3, "scales": [1.0] * 3}
    (folder / "baseline.json").write_text(json.dumps(logistic))
    (folder / "golden.json").write_text("[]")
    (folder / "release.json").write_text(json.dumps(_spec()))
    golden = answer(load_bundle(folder), [features(float(n), 1.0, n % 5) for n in range(8)])
    (folder / "golden.json").write_text(json.dumps(golden))
    digest = digest_folder(folder)
    final = settings.artefacts / digest.removeprefix("sha256:")
    folder.rename(final)
    sign(final, settings)
    return Target(release, digest)


def folder_of(settings: Settings, target: Target) -> Path:
    """Folder of the bundle."""
    return settings.artefacts / target.folder


def _spec() -> dict[str, object]:
    return {
        "schema": 1,
        "model": "loan",
        "family": "boosted_trees",
        "artefact": "model.ubj",
        "baseline": {"family": "logistic", "artefact": "baseline.json"},
        "features": [
            {"name": name, "type": "integer" if name == "late" else "number", "minimum": 0, "maximum": None}
            | {"categories": None}
            for name in NAMES
        ],
        "threshold": 0.5,
        "baseline_threshold": 0.5,
        "favourable": "approve",
        "adverse": "decline",
        "explain": "adverse",
        "reasons_most": 2,
        "reasons": {name: {"code": f"R-{name}", "text": f"Because of {name}"} for name in NAMES},
        "policy_digest": "sha256:" + "0" * 64,
        "entity": "customer",
    }
