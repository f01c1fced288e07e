"""Held-out rows in the form that a client sends, for replay against the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.datafile import read_data
from training.spec import load_spec
from training.split import holdout


def holdout_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows that no training has used: `{"key", "features": {name: value}, "outcome": 0 or 1}`, in the file's order.

    Raises:
        InvalidError: the model folder or its data file is not as described.
    """
    spec = load_spec(folder)
    frame = holdout(read_data(spec.data_file), spec.data.key, spec.model.name)
    features = frame.select(spec.features.names).to_dicts()
    keys, outcomes = frame[spec.data.key].to_list(), frame[spec.data.label].to_list()
    return [
        {"key": str(key), "features": row, "outcome": int(outcome)}
        for key, row, outcome in zip(keys, features, outcomes, strict=True)
    ]
