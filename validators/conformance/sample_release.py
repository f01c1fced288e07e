"""A small signed release on synthetic customers, as evidence for checks. Nothing here is random from run to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lineage.digest import digest_folder
from lineage.settings import Settings
from lineage.signing import make_keys, sign
from validators.evidence import Evidence
from validators.feature_matrix import matrix, records
from validators.scoring.bundle import GOLDEN_FILE, REFERENCE_FILE, SCHEMA, SPEC_FILE, load_bundle
from validators.scoring.features import Feature
from validators.scoring.golden import answer

ROWS = 3000
LABEL = "defaulted"
FEATURES = (
    Feature("income", "number", 0.0, 1_000.0),
    Feature("debt", "number", 0.0, 1_000.0),
    Feature("late_payments", "integer", 0, 12),
    Feature("housing", "category", categories=("own", "rent", "other")),
)
_MEANS, _SCALES = (500.0, 500.0, 6.0, 1.0), (289.0, 289.0, 3.7, 0.8)
_MODEL, _BASELINE = "model.json", "baseline.json"


def sample_customers(rows: int = ROWS, seed: int = 1) -> pl.DataFrame:
    """Customers with features, protected attributes and outcome; risk rises with debt and late payments.

    Protected attributes are independent of everything else, so that a sound check passes.
    """
    source = np.random.default_rng(seed)
    income, debt = source.uniform(0, 1000, rows), source.uniform(0, 1000, rows)
    late = source.integers(0, 13, rows)
    risk = -1.6 * (income - 500) / 289 + 1.6 * (debt - 500) / 289 + 0.5 * (late - 6) / 3.7
    return pl.DataFrame(
        {
            "income": income,
            "debt": debt,
            "late_payments": late,
            "housing": source.choice(["own", "rent", "other"], rows),
            "SEX": source.integers(1, 3, rows),
            "AGE": source.integers(21, 75, rows),
            LABEL: (source.random(rows) < 1 / (1 + np.exp(-risk))).astype(np.int64),
        }
    )


def sample_evidence(home: Path) -> Evidence:
    """The evidence on a sound release that is written into `home`, an empty folder: keys, bundle, holdout.

    The model and its baseline are of the family `logistic`. There is no champion.
    """
    settings = Settings(home=home)
    make_keys(settings)
    folder = _write_bundle(settings)
    return Evidence(
        bundle=load_bundle(folder),
        digest=f"sha256:{folder.name}",
        holdout=sample_customers(seed=2),
        label=LABEL,
        protected=("SEX", "AGE"),
        identifiers=("ID",),
        settings=settings,
    )


def _write_bundle(settings: Settings) -> Path:
    """Write and sign the bundle; its folder."""
    customers = sample_customers()
    draft = settings.artefacts / "draft"
    draft.mkdir(parents=True)
    (draft / _MODEL).write_text(_logistic((-1.6, 1.6, 0.5, 0.0)))
    (draft / _BASELINE).write_text(_logistic((0.0, 0.0, 0.5, 0.0)))
    (draft / SPEC_FILE).write_text(json.dumps(_description()))
    bundle, rows = load_bundle(draft), matrix(FEATURES, customers)
    reference = pl.DataFrame(rows, schema=list(bundle.feature_names)).with_columns(score=bundle.model.score(rows))
    reference.write_parquet(draft / REFERENCE_FILE)
    (draft / GOLDEN_FILE).write_text(json.dumps(answer(bundle, records(FEATURES, customers.head(32)))))
    folder = draft.rename(settings.artefacts / digest_folder(draft).removeprefix("sha256:"))
    sign(folder, settings)
    return folder


def _logistic(coefficients: tuple[float, ...]) -> str:
    return json.dumps({"intercept": 0.0, "coefficients": coefficients, "means": _MEANS, "scales": _SCALES})


def _description() -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": "sample-credit",
        "family": "logistic",
        "artefact": _MODEL,
        "baseline": {"family": "logistic", "artefact": _BASELINE},
        "features": [
            {
                "name": feature.name,
                "type": feature.type,
                "minimum": feature.minimum,
                "maximum": feature.maximum,
                "categories": feature.categories,
            }
            for feature in FEATURES
        ],
        "threshold": 0.5,
        "baseline_threshold": 0.5,
        "favourable": "approve",
        "adverse": "decline",
        "explain": "adverse",
        "reasons_most": 2,
        "reasons": {
            feature.name: {"code": f"R{number}", "text": f"Because of {feature.name}"}
            for number, feature in enumerate(FEATURES)
        },
        "policy_digest": "sha256:" + "0" * 64,
        "entity": "customer",
    }
