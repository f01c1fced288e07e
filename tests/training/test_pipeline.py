"""The training pipeline on a real ledger, Feast store and MLflow; without Ray."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest

from lineage.settings import Settings
from plimsoll.ledger import Ledger
from tests.support.model_folder import customers, write_folder
from training.pipeline import INVALID, REJECTED, UNAVAILABLE, main, run
from training.progress import Progress
from training.spec import Spec
from training.train import Options

Served = tuple[Settings, Ledger]


def enter(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("PLIMSOLL_HOME", str(settings.root))
    monkeypatch.setenv("PLIMSOLL_LEDGER_PORT", str(settings.ledger_port))


def test_a_good_candidate_is_registered_and_everything_is_on_record(spec: Spec, served: Served) -> None:
    settings, ledger = served
    told = Progress(io.StringIO())
    outcome = run(spec, Options("ada", seed=3, trials=1, shape="quick"), settings, ledger, told)
    assert outcome.verdict.passed, told.stream.getvalue()  # type: ignore[attr-defined]
    release = ledger.release(outcome.release)
    assert release["state"] == "registered"
    assert release["author"] == "ada"
    kinds = [record["kind"] for record in ledger.records(limit=100)["records"]]
    wanted = ["DatasetPinned", "ModelTrained", *["CheckCompleted"] * 4, *["FairnessMeasured"] * 2]
    assert [kind for kind in kinds if kind in {*wanted, "CandidateValidated", "ReleaseRegistered"}] == [
        *wanted,
        "CandidateValidated",
        "ReleaseRegistered",
    ]
    assert (settings.artefacts / outcome.digest.removeprefix("sha256:") / "model.ubj").is_file()
    page = outcome.verdict.report.read_text()
    assert "✓ Validated" in page
    assert "http" not in page.replace("http-equiv", "")
    assert not list(spec.folder.glob("features/*.db"))  # Feast wrote nothing into the model folder


def test_labels_of_chance_are_rejected(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(monkeypatch, served[0])
    noise = customers(seed=4).with_columns(pl.col("bad").shuffle(seed=1))
    folder = write_folder(tmp_path / "model", data=noise)
    assert main([str(folder), "--shape", "quick", "--json", "--author", "ada"]) == REJECTED
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] == ["beats_baseline_and_champion"]
    assert told["mlflow_version"] is None
    assert served[1].release(told["release"])["state"] == "rejected"
    assert "✕ Rejected" in Path(told["report"]).read_text()


def test_the_same_bytes_again_after_rejection_are_refused(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(monkeypatch, served[0])
    folder = write_folder(tmp_path / "model", data=customers(seed=5).with_columns(pl.col("bad").shuffle(seed=1)))
    assert main([str(folder), "--shape", "quick", "--json"]) == REJECTED
    assert main([str(folder), "--shape", "quick", "--json"]) == REJECTED
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["status"] == "unchanged"
    assert "nothing new was trained" in told["error"]


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--trials", "0"], "--trials"), (["--seed", "-1"], "--seed")],
)
def test_wrong_options_stop_before_anything_is_written(
    options: list[str],
    told: str,
    served: Served,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    enter(monkeypatch, served[0])
    head = served[1].records()["head"]
    assert main([str(model_folder), *options]) == INVALID
    assert told in capsys.readouterr().out
    assert served[1].records()["head"] == head


def test_no_folder_and_no_ledger_are_the_worlds_fault(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLIMSOLL_HOME", str(tmp_path))
    assert main([str(tmp_path / "none")]) == UNAVAILABLE
    assert main([str(model_folder)]) == UNAVAILABLE
    assert "plimsoll up" in capsys.readouterr().out


def test_a_feature_service_that_serves_something_else_is_refused(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(monkeypatch, served[0])
    folder = write_folder(tmp_path / "model")
    definitions = folder / "features" / "definitions.py"
    definitions.write_text(definitions.read_text().replace(', Field(name="late", dtype=Int64)', ""))
    assert main([str(folder), "--shape", "quick"]) == INVALID
    assert "late" in capsys.readouterr().out
    definitions.write_text(definitions.read_text().replace('name="small_v1"', 'name="small_v2"'))
    assert main([str(folder), "--shape", "quick"]) == INVALID
    assert "small_v2" in capsys.readouterr().out
