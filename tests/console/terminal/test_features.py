from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console.terminal.app import app
from console.terminal.features import known
from lineage.settings import Settings
from lineage.signing import make_keys
from tests.support.model_folder import customers, write_folder
from training.dataset import pin_dataset
from training.spec import load_spec


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[Settings, Path]]:
    """A home with pinned data of a model folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        patch.setenv("PLIMSOLL_HOME", str(tmp_path / "home"))
        time.tzset()
        settings = Settings()
        make_keys(settings)
        folder = write_folder(tmp_path / "model", data=customers(100))
        spec = load_spec(folder)
        pin_dataset(spec.model.name, spec.data_file, settings)
        yield settings, folder
    time.tzset()


def test_a_store_is_filled_and_its_age_is_told(filled: tuple[Settings, Path]) -> None:
    settings, folder = filled
    run = CliRunner()
    assert "Nothing yet" in run.invoke(app, ["features", "status"]).stdout
    done = run.invoke(app, ["features", "materialize", str(folder), "--as-of", "2026-01-05T12:00Z", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["model"], told["rows"], told["fresh_until"]) == ("small-credit", 100, None)
    status = json.loads(run.invoke(app, ["features", "status", "--json"]).stdout)
    age = (datetime.now(UTC) - datetime(2026, 1, 5, 12, tzinfo=UTC)).total_seconds()
    assert 0 <= status[0]["age_seconds"] <= age + 0.001  # it is rounded
    assert status[0]["state"] == "no limit"
    assert "small_v1" in run.invoke(app, ["features", "status"]).stdout
    note = settings.root / "feast" / "small-credit" / "materialized.json"
    note.write_text(json.dumps(told | {"fresh_until": "2026-02-19T12:00:00.000000Z"}))
    assert known(settings)[0]["state"] == "too old"


def test_a_wrong_moment_is_the_callers_bug(filled: tuple[Settings, Path]) -> None:
    done = CliRunner().invoke(app, ["features", "materialize", str(filled[1]), "--as-of", "soon"])
    assert done.exit_code == 2
    assert "expected e.g. 2026-03-04T10:02Z" in done.stderr
