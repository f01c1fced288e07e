"""Splits entities into training, validation and holdout by a keyed hash, so that an entity never changes its part.

Sixty per cent train, twenty choose parameters and the threshold, twenty are used by the checks alone. A new version of
the data keeps every known entity in its part.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

import polars as pl

TRAIN_BELOW = 0.6
VALIDATION_BELOW = 0.8


@dataclass(frozen=True)
class Split:
    """The three parts of a training frame."""

    train: pl.DataFrame
    validation: pl.DataFrame
    holdout: pl.DataFrame


def position(key: object, salt: str) -> float:
    """The position of an entity in [0, 1): HMAC-SHA256 of its key."""
    mac = hmac.digest(salt.encode(), str(key).encode(), hashlib.sha256)
    return int.from_bytes(mac[:8], "big") / 2**64


def split(frame: pl.DataFrame, key: str, salt: str) -> Split:
    """Split a frame by the hash of its key column. `salt` is the model's name."""
    places = pl.Series("place", [position(value, salt) for value in frame[key].to_list()], dtype=pl.Float64)
    return Split(
        frame.filter(places < TRAIN_BELOW),
        frame.filter((places >= TRAIN_BELOW) & (places < VALIDATION_BELOW)),
        frame.filter(places >= VALIDATION_BELOW),
    )


def holdout(frame: pl.DataFrame, key: str, salt: str) -> pl.DataFrame:
    """The part that only the checks use."""
    return split(frame, key, salt).holdout
