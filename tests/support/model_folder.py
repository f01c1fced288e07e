"""A small model folder as a user would write one, with customers whose risk is not linear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

SPEC: dict[str, Any] = {
    "policy": "policy.toml",
    "model": {
        "name": "small-credit",
        "title": "Small credit",
        "purpose": "Test the pipeline",
        "owner": "tests",
        "tier": 3,
        "jurisdictions": ["EU"],
    },
    "data": {
        "file": "customers.parquet",
        "entity": "customer",
        "key": "ID",
        "label": "bad",
        "label_means": "1: did not pay",
        "protected": ["SEX", "AGE"],
        "identifiers": ["ID"],
    },
    "features": {"repository": "features", "service": "small_v1", "names": ["income", "debt", "late"]},
    "decision": {
        "favourable": "approve",
        "adverse": "decline",
        "approval_rate": 0.5,
        "explain": "adverse",
        "reasons_most": 2,
        "reasons": "reasons.toml",
    },
    "training": {"champion": "boosted_trees", "baseline": "logistic", "trials": 2, "seed": 3},
    "columns": {
        "ID": {"type": "integer", "minimum": 1},
        "income": {"type": "number", "minimum": 0, "maximum": 1000},
        "debt": {"type": "number", "minimum": 0, "maximum": 1000},
        "late": {"type": "integer", "minimum": 0, "maximum": 12},
        "SEX": {"type": "category", "categories": [1, 2]},
        "AGE": {"type": "integer", "minimum": 18, "maximum": 120},
        "bad": {"type": "category", "categories": [0, 1]},
    },
}

POLICY = """
[validation]
checks = ["beats_baseline_and_champion", "group_fairness", "no_protected_features", "artefact_complete_and_signed"]
[validation.beats_baseline_and_champion]
minimum_rows = 500
[validation.group_fairness]
ratio_limit = 0.7
minimum_group = 50
[validation.no_protected_features]
minimum_group = 50
[validation.artefact_complete_and_signed]
minimum_reference_rows = 500
"""

DEFINITIONS = """
import os
from pathlib import Path
from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float64, Int64
from feast.value_type import ValueType
customer = Entity(name="customer", join_keys=["ID"], value_type=ValueType.INT64)
place = Path(os.environ["PLIMSOLL_FEAST"]) / "small-credit.parquet"
source = FileSource(path=str(place), timestamp_field="observed_at")
view = FeatureView(name="small", entities=[customer], source=source, schema=[
    Field(name="income", dtype=Float64), Field(name="debt", dtype=Float64), Field(name="late", dtype=Int64)])
small_v1 = FeatureService(name="small_v1", features=[view])
"""

STORE = """
project: small
provider: local
registry: {path: "${PLIMSOLL_FEAST}/registry.db"}
online_store: {type: sqlite, path: "${PLIMSOLL_FEAST}/online.db"}
offline_store: {type: dask}
entity_key_serialization_version: 3
"""


def customers(rows: int = 4000, seed: int = 1) -> pl.DataFrame:
    """Rows as the spec describes them."""
    source = np.random.default_rng(seed)
    income, debt = source.uniform(0, 1000, rows), source.uniform(0, 1000, rows)
    late = source.integers(0, 13, rows)
    risk = 3.0 * ((income > 500) == (debt > 500)) - 2.5 + 0.1 * late
    return pl.DataFrame(
        {
            "ID": np.arange(1, rows + 1),
            "income": income,
            "debt": debt,
            "late": late,
            "SEX": source.integers(1, 3, rows),
            "AGE": source.integers(21, 75, rows),
            "bad": (source.random(rows) < 1 / (1 + np.exp(-risk))).astype(np.int64),
        }
    )


def write_folder(folder: Path, *, spec: dict[str, Any] | None = None, data: pl.DataFrame | None = None) -> Path:
    """The folder on disk; its path."""
    (folder / "features").mkdir(parents=True)
    (folder / "model.toml").write_text(to_toml(SPEC if spec is None else spec))
    (folder / "policy.toml").write_text(POLICY)
    (folder / "features" / "definitions.py").write_text(DEFINITIONS)
    (folder / "features" / "feature_store.yaml").write_text(STORE)
    reasons = [f'{name} = {{ code = "R_{name}", text = "Because of {name}" }}' for name in ("income", "debt", "late")]
    (folder / "reasons.toml").write_text("\n".join(reasons))
    (customers() if data is None else data).write_parquet(folder / "customers.parquet")
    return folder


def to_toml(content: dict[str, Any]) -> str:
    """Enough TOML for a spec: top-level values first, then tables with inline values."""
    lines = [f"{key} = {_value(value)}" for key, value in content.items() if not isinstance(value, dict)]
    for name, table in content.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)
