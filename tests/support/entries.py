"""Releases and models of the fold with default values."""

from __future__ import annotations

from typing import Any

from lineage.lifecycle import State
from lineage.state.entities import Model, Release

AT = "2026-11-23T10:00:00.000000Z"


def a_release(release: str = "m@2", state: str = "canary", **changes: Any) -> Release:
    """A release; `changes` replace its defaults."""
    model, _, number = release.rpartition("@")
    given: dict[str, Any] = {
        "release": release,
        "model": model,
        "number": int(number) if number.isdecimal() else 1,
        "state": State(state),
        "author": "ada",
        "digest": "sha256:2",
        "policy": {},
        "policy_digest": "sha256:p",
        "trained_at": AT,
        "threshold": 0.5,
        "family": "boosted_trees",
        "fingerprint": "sha256:f",
        "metrics": {},
        "dataset": {},
        "features": ["x"],
        "run_id": "1",
        "signature_key": "sha256:k",
        "environment_digest": "sha256:e",
    }
    return Release(**(given | changes))


def a_model(model: str = "m", **changes: Any) -> Model:
    """A model; `changes` replace its defaults."""
    return Model(model, **changes)
