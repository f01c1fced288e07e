"""Builders of spool records for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SALT = "salt-of-the-rollout"


def decision(number: int, arm: str = "challenger", **changes: Any) -> dict[str, Any]:
    """A decision as the gateway spools it."""
    record = {
        "type": "decision",
        "decision_id": f"d{number}",
        "at": NOW.isoformat(),
        "model": "credit-default",
        "release": "credit-default@2" if arm == "challenger" else "credit-default@1",
        "digest": "sha256:" + "a" * 64,
        "role": arm,
        "arm": arm,
        "key": f"customer-{number}",
        "key_hash_share": 0.1 if arm == "challenger" else 0.9,
        "share": 0.25,
        "features": [1.0, 2.0],
        "score": 0.2,
        "threshold": 0.5,
        "decision": "approve",
        "adverse": False,
        "reasons": [],
        "fallback": None,
        "latency_ms": 3.0,
        "error": None,
        "rollout": SALT,
        "purpose": "customer",
        "replica": "r1",
        "route_version": 3,
    }
    return record | changes


def outcome(number: int, value: int = 0) -> dict[str, Any]:
    """An outcome as the gateway spools it."""
    return {
        "type": "outcome",
        "decision_id": f"d{number}",
        "outcome": value,
        "model": "credit-default",
        "at": NOW.isoformat(),
        "replica": "r1",
    }
