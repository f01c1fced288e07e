"""Live fairness: decisions joined with attributes that the model never saw."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lineage.policy import FairnessLimits
from lineage.settings import Settings
from serve.controller.live_fairness import disparities
from tests.support.decision_records import decision

LIMITS = FairnessLimits(ratio_limit=0.8, minimum_group=50, confidence=0.95, every_seconds=20)


def test_groups_are_compared_with_the_bands_of_the_policy(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    keys = [f"customer-{number}" for number in range(400)]
    ages = [25 if number % 2 else 55 for number in range(400)]
    table = pl.DataFrame({"ID": keys, "AGE": ages, "SEX": [1] * 400})
    table.write_delta(str(settings.datasets / "loan-protected"))
    records = [decision(number, "champion", adverse=number % 2 == 1 and number % 4 == 1) for number in range(390)]
    records.append(decision(9999, "champion"))  # nobody knows this customer's attributes
    grouping = {"attributes": ["AGE"], "bands": {"AGE": [40]}}
    (found,) = disparities(settings, "loan", records, LIMITS, grouping)
    assert [group.group for group in found.groups] == ["40 and over", "under 40"]
    assert sum(group.n for group in found.groups) == 390
    assert found.verdict == "breach"
    assert [one.verdict for one in disparities(settings, "loan", records[:60], LIMITS, {})] == ["not_enough_data"] * 2


def test_without_a_table_nothing_is_measured(tmp_path: Path) -> None:
    assert disparities(Settings(home=tmp_path), "loan", [decision(1)], LIMITS, {}) == []
