"""Evidence with parts missing: on none of it may a check pass that uses the missing part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from lineage.settings import Settings
from validators.evidence import Evidence
from validators.scoring.port import Rows

THIN_ROWS = 5


@dataclass(frozen=True)
class NotANumber:
    """A scorer whose answers are not numbers."""

    width: int

    def score(self, rows: Rows) -> Rows:
        """NaN for each row."""
        return np.full(len(rows), np.nan)

    def contributions(self, rows: Rows) -> Rows:
        """NaN for each feature of each row."""
        return np.full((len(rows), self.width), np.nan)


def damaged(sound: Evidence) -> Iterator[tuple[str, Evidence]]:
    """Each kind of damage to sound evidence: what is wrong, and the evidence with it."""
    holdout, bundle = sound.holdout, sound.bundle
    nowhere = sound.settings.root / "nowhere"
    for what, changed in (
        ("a holdout without rows", holdout.clear()),
        (f"a holdout of {THIN_ROWS} rows", holdout.head(THIN_ROWS)),
        ("a holdout without the label", holdout.drop(sound.label)),
        ("a holdout with one outcome only", holdout.with_columns(pl.lit(0).alias(sound.label))),
        ("a holdout without features", holdout.drop(bundle.feature_names)),
        ("a holdout without protected attributes", holdout.drop(sound.protected)),
    ):
        yield what, replace(sound, holdout=changed)
    yield "no protected attributes named", replace(sound, protected=())
    yield "scores that are not numbers", replace(sound, bundle=replace(bundle, model=NotANumber(len(bundle.features))))
    yield "a bundle that is not there", replace(sound, bundle=replace(bundle, folder=nowhere))
    yield "another digest on record", replace(sound, digest="sha256:" + "0" * 64)
    yield "a home without keys", replace(sound, settings=Settings(home=nowhere))
    yield (
        "nothing at all",
        replace(
            sound,
            holdout=holdout.clear().select(),
            protected=(),
            identifiers=(),
            digest="sha256:" + "0" * 64,
            bundle=replace(bundle, folder=nowhere, model=NotANumber(len(bundle.features))),
            settings=Settings(home=nowhere),
        ),
    )
