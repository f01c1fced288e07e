from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lineage.errors import InvalidError, UnavailableError
from tests.support.small_release import policy
from validators.drift.line_protocol import answer_lines, answer_request
from validators.drift.measure import distance, is_category, measure_drift
from validators.drift.port import Values


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


def wide_traffic(rows: int, seed: int, shift: float = 0.0) -> pl.DataFrame:
    """Numbers, counts, categories, a constant and a single value, as they come in a reference."""
    source = np.random.default_rng(seed)
    shares = [0.5, 0.3, 0.2] if shift == 0 else [0.2, 0.3, 0.5]
    return pl.DataFrame(
        {
            "income": source.normal(500 + shift, 100, rows),
            "late": np.minimum(source.poisson(1 + shift / 100, rows), 12).astype(np.float64),
            "constant": np.full(rows, 0.5),
            "one": np.full(rows, 3.0),
            "skewed": source.lognormal(0, 1 + shift / 300, rows),
            "home": source.choice([0.0, 1.0, 2.0], rows, p=shares),
            "score": source.beta(2, 5, rows),
        }
    )


def by_report(method: str, reference: pl.DataFrame, window: pl.DataFrame) -> dict[str, float]:
    """The drift scores of one Evidently report over all columns, which is how they were measured at first."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    categories = [name for name in reference.columns if is_category(reference[name])]
    numbers = [name for name in reference.columns if name not in categories]
    shape = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    report = Report([ValueDrift(column=name, method=method, threshold=0.1) for name in reference.columns])
    found = report.run(
        Dataset.from_pandas(window.to_pandas(), shape), Dataset.from_pandas(reference.to_pandas(), shape)
    )
    return {one["config"]["column"]: float(one["value"]) for one in found.dict()["metrics"]}


def measured(method: str, reference: pl.DataFrame, window: pl.DataFrame) -> dict[str, float]:
    chosen = policy()
    drift = chosen.monitor.drift.model_copy(update={"method": method})
    monitor = chosen.monitor.model_copy(update={"drift": drift})
    found = measure_drift(reference, window, chosen.model_copy(update={"monitor": monitor}))
    return {one["feature"]: one["score"] for one in found["features"]}


@pytest.mark.parametrize(("rows", "shift"), [(600, 0.0), (600, 150.0), (1001, 30.0)])
@pytest.mark.parametrize("method", ["psi", "jensenshannon", "wasserstein"])
def test_the_numbers_are_those_of_evidently_s_report_to_the_last_bit(method: str, rows: int, shift: float) -> None:
    reference, window = wide_traffic(3000, 1), wide_traffic(rows, 2, shift)
    if method == "wasserstein":  # Evidently's report refuses categories
        reference, window = (frame.drop("late", "one", "home") for frame in (reference, window))
    assert measured(method, reference, window) == by_report(method, reference, window)


#: Measured by version 0.1.0 on `wide_traffic(3000, 1)` against `wide_traffic(600, 2, 150.0)`.
ON_RECORD = {
    "psi": {"income": 2.1533386423211067, "late": 1.2816037962547147, "home": 0.5582682955848326},
    "jensenshannon": {"income": 0.4559100593053496, "late": 0.3684014670596658, "skewed": 0.13992589973206984},
    "wasserstein": {"income": 1.4498084133891533, "skewed": 0.6977954085176098, "score": 0.059677128593136744},
}


@pytest.mark.parametrize("method", ON_RECORD)
def test_the_numbers_are_those_on_record(method: str) -> None:
    found = measured(method, wide_traffic(3000, 1), wide_traffic(600, 2, 150.0))
    for name, value in ON_RECORD[method].items():
        assert found[name] == pytest.approx(value, rel=1e-12)


def test_wasserstein_compares_codes_of_categories_as_numbers() -> None:
    found = measured("wasserstein", wide_traffic(3000, 1), wide_traffic(600, 2, 150.0))
    assert found["home"] > 0.5
    assert found["one"] == 0.0
    assert found["late"] > 0.5


def test_a_statistic_that_answers_nan_is_an_error_and_never_called_still() -> None:
    class Broken:
        title, usual_limit, symmetric = "Broken", 0.1, False

        def distance(self, reference: Values, window: Values, *, category: bool) -> float:
            return float("nan")

    with pytest.raises(UnavailableError, match="Broken is nan for column 'income'"):
        distance(Broken(), traffic(300, 1)["income"], traffic(300, 2)["income"], category=False)
