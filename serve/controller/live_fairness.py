"""Live fairness: decisions joined by customer key with protected attributes, which the models never see.

The attributes lie in the Delta table `<model>-protected`: the customer's key, then one column for each attribute.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from deltalake import DeltaTable

from lineage.policy import FairnessLimits
from lineage.settings import Settings
from validators.fairness import Disparity, group_column, measure_fairness


def disparities(
    settings: Settings, model: str, records: list[dict[str, Any]], limits: FairnessLimits, grouping: dict[str, Any]
) -> list[Disparity]:
    """One comparison for each attribute; none where there is no table of protected attributes.

    Args:
        records: decisions whose customer key can be read; keys absent from the table are left out.
        limits: `[monitor.fairness]` of the policy.
        grouping: `attributes`, `bands` and `names` of the policy's group_fairness check, so that both group alike.
    """
    path = settings.datasets / f"{model}-protected"
    if not DeltaTable.is_deltatable(str(path)):
        return []
    protected = pl.read_delta(str(path))
    key = protected.columns[0]
    decisions = pl.DataFrame(
        {
            key: [str(record["key"]) for record in records],
            "favourable": [not record["adverse"] for record in records],
        }
    )
    joined = decisions.join(protected.with_columns(pl.col(key).cast(pl.String)), on=key, how="inner")
    bands, names = grouping.get("bands", {}), grouping.get("names", {})
    found = []
    for attribute in grouping.get("attributes", protected.columns[1:]):
        known = joined.select(attribute, "favourable").drop_nulls()
        groups = group_column(known[attribute], bands.get(attribute), names.get(attribute))
        frame = known.select(groups.alias("group"), "favourable")
        found.append(
            measure_fairness(
                frame, attribute, **limits.model_dump(include={"ratio_limit", "minimum_group", "confidence"})
            )
        )
    return found
