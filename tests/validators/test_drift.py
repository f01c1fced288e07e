from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lineage.errors import InvalidError
from tests.support.small_release import policy
from validators.drift.line_protocol import answer_lines, answer_request
from validators.drift.measure import is_category, measure_drift


def traffic(rows: int, seed: int, shift: float = 0.0) -> pl.DataFrame:
    source = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "income": source.normal(500 + shift, 100, rows),
            "late": np.minimum(source.poisson(1 + shift / 100, rows), 12).astype(np.float64),
            "score": source.beta(2, 5, rows),
        }
    )


def test_the_same_traffic_does_not_drift_and_shifted_traffic_does() -> None:
    reference = traffic(3000, 1)
    calm = measure_drift(reference, traffic(600, 2), policy(), "small-credit@1")
    assert (calm["verdict"], calm["share_drifted"], calm["release"]) == ("ok", 0.0, "small-credit@1")
    moved = measure_drift(reference, traffic(600, 3, shift=150), policy())
    assert moved["verdict"] == "drift"
    assert [one["feature"] for one in moved["features"]][2] == "score"  # the worst come first
    assert {one["method"] for one in moved["features"]} == {"psi"}
    assert moved["report_digest"] != calm["report_digest"]


@pytest.mark.parametrize(("reference", "window"), [(3000, 199), (199, 600), (3000, 0)])
def test_too_few_rows_are_not_enough_data(reference: int, window: int) -> None:
    told = measure_drift(traffic(reference, 1), traffic(window, 2, shift=300), policy())
    assert told["verdict"] == "not_enough_data"
    assert told["share_drifted"] is None
    assert told["window"]["rows"] == window


def test_times_of_the_window_are_told() -> None:
    window = traffic(5, 1).with_columns(
        at=pl.Series(["2026-01-02", "2026-01-01", "2026-01-03", "2026-01-02", "2026-01-02"])
    )
    told = measure_drift(traffic(5, 1), window, policy())["window"]
    assert (told["from"], told["to"]) == ("2026-01-01", "2026-01-03")


def test_windows_that_cannot_be_compared_are_refused() -> None:
    reference = traffic(300, 1)
    for wrong in (
        reference.drop("late"),
        reference.with_columns(late=pl.lit("x")),
        reference.with_columns(late=pl.lit(None, dtype=pl.Float64)),
        reference.with_columns(late=pl.lit(float("nan"))),
    ):
        with pytest.raises(InvalidError, match="late"):
            measure_drift(reference, wrong, policy())


def test_few_whole_values_are_compared_one_by_one() -> None:
    frame = traffic(3000, 1)
    assert [name for name in frame.columns if is_category(frame[name])] == ["late"]


def test_the_desk_answers_a_line_for_a_line_and_survives_nonsense(tmp_path: Path) -> None:
    traffic(300, 1).write_parquet(tmp_path / "r.parquet")
    request = {
        "reference": str(tmp_path / "r.parquet"),
        "window": str(tmp_path / "w.parquet"),
        "policy": policy().to_dict(),
    }
    out = io.StringIO()
    traffic(20, 1).write_parquet(tmp_path / "few.parquet")
    few = json.dumps(request | {"window": str(tmp_path / "few.parquet")})
    answer_lines(io.StringIO("\n".join(["nonsense", "{}", json.dumps(request), few]) + "\n"), out)
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one.get("code") for one in told[:3]] == ["invalid", "invalid", "unavailable"]
    assert told[3]["answer"]["verdict"] == "not_enough_data"
    with pytest.raises(InvalidError, match="reference"):
        answer_request({})


def test_the_command_writes_the_fact(tmp_path: Path) -> None:
    traffic(3000, 1).write_parquet(tmp_path / "r.parquet")
    traffic(600, 3, shift=150).write_parquet(tmp_path / "w.parquet")
    (tmp_path / "p.json").write_text(json.dumps(policy().to_dict()))
    paths = [f"--{name}={tmp_path / file}" for name, file in (("reference", "r.parquet"), ("window", "w.parquet"))]
    command = [sys.executable, "-m", "validators.drift", *paths, f"--policy={tmp_path / 'p.json'}"]
    subprocess.run([*command, f"--output={tmp_path / 'o.json'}", "--release=m@1"], check=True)
    assert json.loads((tmp_path / "o.json").read_text())["verdict"] == "drift"
    assert subprocess.run([*command, "--output", "/nowhere/o.json"], capture_output=True).returncode == 1
