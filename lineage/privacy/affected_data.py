"""Data about a person outside the vault: decisions, segments, pinned data sets, and the releases trained on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lineage.settings import Settings


@dataclass
class AffectedData:
    """Data about a person. `plain`: decisions sealed before keys existed, which stay readable."""

    decisions: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    decided_by: list[str] = field(default_factory=list)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    trained_on: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """The counts in the fact."""
        names = ("decisions", "segments", "plain", "datasets")
        return {name: len(vars(self)[name]) for name in names} | {"releases": len({*self.decided_by, *self.trained_on})}

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with the names of the models."""
        models = {name.rpartition("@")[0] for name in (*self.decided_by, *self.trained_on)}
        return {**vars(self), "models": sorted(models)}


def pins_of(dataset: dict[str, Any]) -> set[tuple[str, int]]:
    """The tables that a release was trained and tested on."""
    pins = {(dataset["uri"], dataset["version"])}
    if "protected" in dataset:
        pins.add((f"{dataset['uri']}-protected", dataset["protected"]["version"]))
    return pins


def rows_of_subject(settings: Settings, uri: str, version: int, subject: str) -> dict[str, Any] | None:
    """The number of a person's rows in a pinned table; None if there are none."""
    import polars as pl  # slow to import, rarely used, as the next
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    place = uri if "://" in uri else str(settings.root / uri)
    keys = f"{place.removesuffix('-protected')}-protected"  # there the entity is the first column
    described = {"dataset": uri.rstrip("/").rpartition("/")[2], "uri": uri, "version": version}
    try:
        table = DeltaTable(place, version=version)
        named = DeltaTable(keys) if DeltaTable.is_deltatable(keys) else table
        entity = named.schema().fields[0].name
        frame = pl.DataFrame(table.to_pyarrow_table(columns=[entity]))
    except (DeltaError, OSError, ValueError) as error:
        return described | {"rows": None, "unreadable": str(error)[:200]}
    rows = int((frame[entity].cast(pl.String) == subject).sum())
    return described | {"rows": rows} if rows else None
