"""Which arm a customer's key falls on: a keyed hash, so that it is sticky, reproducible and told by nobody's dice.

Raising the share moves keys to the challenger only; lowering it moves them back only.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

_SPAN = 2**64


def position_of(key: str, salt: str) -> float:
    """Where the key stands in [0, 1) under the rollout's salt: the first 8 bytes of HMAC-SHA256(salt, key)."""
    digest = hmac.digest(salt.encode(), key.encode(), sha256)
    return int.from_bytes(digest[:8], "big") / _SPAN


def falls_on_challenger(position: float, share: float) -> bool:
    """True where a key at this position belongs to the challenger at this share."""
    return position < share or share >= 1.0  # a position can round up to 1.0
