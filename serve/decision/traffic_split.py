"""Assigns customers to arms by a deterministic keyed hash: sticky and reproducible, never random per request.

Raising the share only moves keys to the challenger; lowering it only moves them back.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

_SPAN = 2**64


def position_of(key: str, salt: str) -> float:
    """Position of a key in [0, 1) under the rollout's salt: the first 8 bytes of HMAC-SHA256(salt, key) over 2**64."""
    digest = hmac.digest(salt.encode(), key.encode(), sha256)
    return int.from_bytes(digest[:8], "big") / _SPAN


def falls_on_challenger(position: float, share: float) -> bool:
    """Whether a key at this position belongs to the challenger at this share."""
    return position < share or share >= 1.0  # a position can round up to 1.0
