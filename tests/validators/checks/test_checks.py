"""Every check: finds a planted fault, passes a clean release, and reports too little data as not evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from lineage.errors import UnknownError
from lineage.settings import Settings
from tests.support.small_release import CHECKS, FEATURES, customers, description, evidence, policy, settle, write
from validators.check import Finding, Limits, NotEvaluated
from validators.check_runner import CheckResult, run_check
from validators.evidence import Evidence
from validators.plugins import CHECKS as INSTALLED
from validators.policy import limits_of
from validators.scoring.bundle import load_bundle
from validators.scoring.features import Feature

Copy = Callable[[Path], tuple[Settings, Path]]


def run(name: str, given: Evidence, **limits: Any) -> CheckResult:
    chosen = limits_of(policy(**({name: limits} if limits else {})))[name]
    return run_check(name, INSTALLED.load(name), given, chosen)


@pytest.mark.parametrize("name", CHECKS)
def test_a_clean_release_passes(name: str, home: Settings, folder: Path, holdout: pl.DataFrame) -> None:
    result = run(name, evidence(home, folder, holdout))
    assert result.status == "pass", result.findings
    assert result.findings


def test_first_release_says_there_is_no_champion(home: Settings, folder: Path, holdout: pl.DataFrame) -> None:
    result = run("beats_baseline_and_champion", evidence(home, folder, holdout))
    assert "no champion yet" in result.findings[1].detail


def test_noise_does_not_beat_the_baseline(home: Settings, folder: Path, holdout: pl.DataFrame) -> None:
    shuffled = holdout.with_columns(pl.col("label").shuffle(seed=3))
    result = run("beats_baseline_and_champion", evidence(home, folder, shuffled))
    assert result.status == "fail"
    assert not result.findings[0].ok


def test_a_worse_candidate_does_not_replace_the_champion(
    home: Settings, folder: Path, holdout: pl.DataFrame, tmp_path: Path
) -> None:
    noisy = customers(4000, seed=1)
    flip = np.random.default_rng(5).random(4000) < 0.35
    noisy = noisy.with_columns(
        pl.when(pl.Series(flip)).then(1 - pl.col("label")).otherwise(pl.col("label")).alias("label")
    )
    worse = write(home, trees_of=noisy, seed=9)
    given = evidence(home, worse, holdout, champion=load_bundle(folder), champion_release="small-credit@1")
    result = run("beats_baseline_and_champion", given)
    assert result.status == "fail"
    champion = next(one for one in result.findings if "champion" in one.name)
    assert not champion.ok
    assert champion.interval is not None
    assert champion.interval[0] < champion.observed < champion.interval[1]  # type: ignore[operator]


def test_too_few_rows_are_not_evaluated(home: Settings, folder: Path, holdout: pl.DataFrame) -> None:
    result = run("beats_baseline_and_champion", evidence(home, folder, holdout.head(200)))
    assert result.status == "not_evaluated"
    assert "200 rows" in result.findings[0].detail
    assert not result.findings[0].ok


def test_a_group_that_is_declined_more_often_is_found(home: Settings, folder: Path, holdout: pl.DataFrame) -> None:
    given = evidence(home, folder, holdout)
    unfair = pl.Series("SEX", np.where(given.favourable, 1, 2))
    result = run("group_fairness", evidence(home, folder, holdout.with_columns(unfair)))
    assert result.status == "not_evaluated" or not result.findings[0].ok
    mostly = np.where(np.random.default_rng(1).random(len(unfair)) < 0.25, given.favourable + 1, unfair)
    result = run("group_fairness", evidence(home, folder, holdout.with_columns(pl.Series("SEX", mostly))))
    assert result.status == "fail"
    assert result.findings[0].observed < 0.7  # type: ignore[operator]


def test_small_groups_are_named_and_counted_never_dropped(home: Settings, folder: Path, holdout: pl.DataFrame) -> None:
    few = pl.Series("SEX", [3] * 40 + holdout["SEX"].to_list()[40:])
    given = evidence(home, folder, holdout.with_columns(few))
    result = run("group_fairness", given, attributes=["SEX"])
    assert result.status == "pass"
    assert "3: not enough data, 40 of 100 rows" in result.findings[1].detail
    strict = run("group_fairness", given, attributes=["SEX"], small_share_limit=0.01)
    assert strict.status == "fail"


@pytest.mark.parametrize("column", ["SEX", "AGE"])
def test_fairness_without_the_attribute_is_not_evaluated(
    column: str, home: Settings, folder: Path, holdout: pl.DataFrame
) -> None:
    assert run("group_fairness", evidence(home, folder, holdout.drop(column))).status == "not_evaluated"
    assert run("no_protected_features", evidence(home, folder, holdout.drop(column))).status == "not_evaluated"


@pytest.mark.parametrize(
    "changed",
    [{"protected": ("SEX", "AGE", "Income")}, {"identifiers": ("debt",)}, {"label": "late"}],
    ids=["protected", "identifier", "label"],
)
def test_a_forbidden_feature_is_found(
    changed: dict[str, Any], home: Settings, folder: Path, holdout: pl.DataFrame
) -> None:
    frame = holdout.with_columns(Income=pl.col("income"))
    result = run("no_protected_features", evidence(home, folder, frame, **changed))
    assert result.status == "fail"
    assert "found" in next(one.detail for one in result.findings if not one.ok)


def test_a_proxy_is_found(home: Settings, folder: Path, holdout: pl.DataFrame) -> None:
    told = holdout.with_columns(SEX=pl.when(pl.col("income") > 480).then(1).otherwise(2))
    result = run("no_protected_features", evidence(home, folder, told))
    assert result.status == "fail"
    assert "income for SEX" in result.findings[-1].detail


def test_no_protected_attributes_named_is_not_evaluated(home: Settings, folder: Path, holdout: pl.DataFrame) -> None:
    assert run("no_protected_features", evidence(home, folder, holdout, protected=())).status == "not_evaluated"


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "missing reference": lambda place: (place / "reference.parquet").unlink(),
    "changed model": lambda place: _append(place / "model.ubj"),
    "changed words": lambda place: _append(place / "release.json"),
    "added file": lambda place: _append(_touch(place / "extra.txt")),
    "no signature": lambda place: place.with_name(place.name + ".sig").unlink(),
    "foreign signature": lambda place: place.with_name(place.name + ".sig").write_text("{}") and None,
}


def _touch(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_bundles_never_pass(damage: str, folder: Path, holdout: pl.DataFrame, copy_of: Copy) -> None:
    settings, place = copy_of(folder)
    given = evidence(settings, place, holdout)
    DAMAGE[damage](place)
    result = run("artefact_complete_and_signed", given)
    assert result.status in ("fail", "not_evaluated")
    assert any(not one.ok for one in result.findings)


def test_a_golden_row_that_comes_out_differently_is_found(home: Settings, holdout: pl.DataFrame, folder: Path) -> None:
    draft = home.artefacts / "draft-golden"
    draft.mkdir()
    for path in folder.iterdir():
        (draft / path.name).write_bytes(path.read_bytes())
    golden = json.loads((draft / "golden.json").read_text())
    golden[3]["score"] = (float.fromhex(golden[3]["score"]) * (1 + 2**-50)).hex()
    (draft / "golden.json").write_text(json.dumps(golden))
    result = run("artefact_complete_and_signed", evidence(home, settle(draft, home), holdout))
    assert result.status == "fail"
    assert "31 of 32" in next(one.detail for one in result.findings if not one.ok)


class Broken:
    """A check that raises what it is told to."""

    code: ClassVar[str] = "XX001"
    title: ClassVar[str] = "Broken"
    limits: ClassVar[type[Limits]] = Limits

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def examine(self, evidence: Evidence, limits: Limits) -> list[Finding]:
        if self.error:
            raise self.error
        return []


@pytest.mark.parametrize(
    "error", [None, NotEvaluated("no rows"), ValueError("bad"), ZeroDivisionError(), KeyError("x"), OSError("disk")]
)
def test_a_check_that_breaks_or_finds_nothing_is_never_a_pass(
    error: Exception | None, home: Settings, folder: Path, holdout: pl.DataFrame
) -> None:
    result = run_check("broken", Broken(error), evidence(home, folder, holdout), Limits())
    assert result.status == "not_evaluated"
    assert len(result.findings) == 1
    assert result.findings[0].detail


def test_an_unknown_check_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UnknownError, match="did you mean 'group_fairness'"):
        INSTALLED.load("group_fairnes")


def test_features_and_description_belong_together() -> None:
    assert [one["name"] for one in description()["features"]] == [one.name for one in FEATURES]
    assert isinstance(FEATURES[0], Feature)
