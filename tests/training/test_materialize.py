"""Rows in a real online store: Feast's SQLite, read back and compared."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lineage.clock import instant, now
from lineage.errors import InvalidError, TamperedError, UnavailableError
from lineage.settings import Settings
from tests.support.model_folder import customers, write_folder
from training.dataset import pin_dataset
from training.features import load_definitions, training_frame
from training.materialize import DONE, INVALID, UNAVAILABLE, Materialized, main, materialize
from training.origin import bind_features, origin_of
from training.progress import Progress
from training.spec import Spec, load_spec
from validators.scoring.feature_origin import MATERIALIZED, feast_home, read_address, read_origin
from validators.scoring.online_store import OnlineStore, run_in_utc

RELEASE = "sha256:" + "ab" * 32
EARLIER = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def folder(path: Path, ttl: str = "timedelta(days=45)", rows: pl.DataFrame | None = None) -> Path:
    made = write_folder(path, data=customers(300) if rows is None else rows)
    definitions = made / "features" / "definitions.py"
    text = definitions.read_text().replace("import os\n", "import os\nfrom datetime import timedelta\n")
    definitions.write_text(text.replace("entities=[customer],", f"entities=[customer], ttl={ttl},"))
    return made


@pytest.fixture
def limited(tmp_path: Path) -> Spec:
    return load_spec(folder(tmp_path / "model"))


def put(spec: Spec, settings: Settings, as_of: datetime | None = None) -> Materialized:
    return materialize(spec, settings, Progress(io.StringIO()), as_of=as_of)


def store_of(spec: Spec, settings: Settings) -> OnlineStore:
    return OnlineStore(read_address(settings, spec.model.name), feast_home(settings, spec.model.name))


def test_a_view_with_a_limit_loses_no_row_in_the_training_join(limited: Spec, settings: Settings) -> None:
    frame = training_frame(
        limited.feature_source, pin_dataset(limited.model.name, limited.data_file, settings).data, "ID", "bad", settings
    )
    assert frame.height == 300
    assert frame.null_count().sum_horizontal()[0] == 0


def test_what_is_put_in_is_what_the_model_learns_from(limited: Spec, settings: Settings) -> None:
    pinned = pin_dataset(limited.model.name, limited.data_file, settings).data
    bind_features(limited.feature_source, RELEASE, settings)
    done = put(limited, settings, EARLIER)
    assert (done.version, done.digest, done.rows) == (pinned.version, pinned.digest, 300)
    assert (instant(done.as_of), instant(str(done.fresh_until))) == (EARLIER, EARLIER + timedelta(days=45))
    view = read_origin(settings, limited.model.name, RELEASE).views[0]
    keys = [{"ID": one} for one in (1, 17, 300, 301)]
    rows = store_of(limited, settings).read(view, keys)
    frame = training_frame(limited.feature_source, pinned, "ID", "bad", settings)
    for key, row in zip(keys[:3], rows, strict=False):
        assert row.at == EARLIER
        assert row.values == frame.filter(pl.col("ID") == key["ID"]).select(*view.features).row(0, named=True)
    assert (rows[3].at, set(rows[3].values.values())) == (None, {None})


def test_rows_are_as_old_as_their_pin_and_become_no_younger(limited: Spec, settings: Settings) -> None:
    before = now().replace(microsecond=0)
    pin_dataset(limited.model.name, limited.data_file, settings)
    first, again = put(limited, settings), put(limited, settings)
    assert before <= instant(first.as_of) <= now()
    assert first.as_of == again.as_of


def test_a_new_pin_takes_the_place_of_the_old_rows(tmp_path: Path, settings: Settings) -> None:
    spec = load_spec(folder(tmp_path / "model"))
    pin_dataset(spec.model.name, spec.data_file, settings)
    put(spec, settings, EARLIER)
    changed = customers(300).with_columns(late=pl.lit(7))
    changed.write_parquet(spec.folder / "customers.parquet")
    assert put(spec, settings, EARLIER).version == 0  # what is not pinned is not put in
    pin_dataset(spec.model.name, spec.data_file, settings)
    assert put(spec, settings, EARLIER + timedelta(days=1)).version == 1
    origin = origin_of(
        spec.model.name, load_definitions(spec.feature_source, feast_home(settings, spec.model.name)), RELEASE
    )
    row = store_of(spec, settings).read(origin.views[0], [{"ID": 5}])[0]
    assert (row.at, row.values["late"]) == (EARLIER + timedelta(days=1), 7)


def test_a_view_without_limit_never_ends(tmp_path: Path, settings: Settings) -> None:
    spec = load_spec(folder(tmp_path / "model", ttl="timedelta(0)"))
    pin_dataset(spec.model.name, spec.data_file, settings)
    assert put(spec, settings).fresh_until is None


def test_nothing_pinned_says_train_first(limited: Spec, settings: Settings) -> None:
    with pytest.raises(UnavailableError, match="plimsoll train"):
        put(limited, settings)


def test_times_that_cannot_be_are_refused(limited: Spec, settings: Settings) -> None:
    pin_dataset(limited.model.name, limited.data_file, settings)
    with pytest.raises(InvalidError, match="in the future"):
        put(limited, settings, now() + timedelta(hours=1))
    with pytest.raises(InvalidError, match="no zone"):
        put(limited, settings, datetime(2026, 1, 1))


def test_a_type_that_cannot_hold_the_values_is_found_when_they_are_read_back(
    tmp_path: Path, settings: Settings
) -> None:
    made = folder(tmp_path / "model")
    definitions = made / "features" / "definitions.py"
    text = definitions.read_text().replace("import Float64, Int64", "import Float32, Float64, Int64")
    definitions.write_text(text.replace('name="income", dtype=Float64', 'name="income", dtype=Float32'))
    spec = load_spec(made)
    pin_dataset(spec.model.name, spec.data_file, settings)
    with pytest.raises(UnavailableError, match=r"gives back .* as income"):
        put(spec, settings)
    assert not (feast_home(settings, spec.model.name) / MATERIALIZED).exists()


def test_a_feature_that_a_release_reads_cannot_silently_stop(tmp_path: Path, settings: Settings) -> None:
    spec = load_spec(folder(tmp_path / "model"))
    pin_dataset(spec.model.name, spec.data_file, settings)
    bind_features(spec.feature_source, RELEASE, settings)
    definitions = spec.folder / "features" / "definitions.py"
    definitions.write_text(definitions.read_text().replace(', Field(name="late", dtype=Int64)', ""))
    text = (spec.folder / "model.toml").read_text()
    (spec.folder / "model.toml").write_text(text.replace('["income", "debt", "late"]', '["income", "debt"]'))
    with pytest.raises(InvalidError, match="no longer gives 'late'"):
        put(load_spec(spec.folder), settings)
    definitions.write_text(definitions.read_text().replace('name="small",', 'name="small_two",'))
    assert put(load_spec(spec.folder), settings).views == ("small_two",)


def test_a_service_that_computes_on_demand_binds_nothing_and_says_why(tmp_path: Path, settings: Settings) -> None:
    made = folder(tmp_path / "model")
    definitions = made / "features" / "definitions.py"
    definitions.write_text(definitions.read_text().replace("value_type=ValueType.INT64", "value_type=ValueType.DOUBLE"))
    spec = load_spec(made)
    pin_dataset(spec.model.name, spec.data_file, settings)
    feast_home(settings, spec.model.name).mkdir(parents=True)
    assert "no decisions by entity: entity 'customer' has keys of type DOUBLE" in bind_features(
        spec.feature_source, RELEASE, settings
    )
    with pytest.raises(InvalidError, match="no feature service"):
        read_origin(settings, spec.model.name, RELEASE)


def test_an_origin_that_was_changed_is_refused(limited: Spec, settings: Settings) -> None:
    feast_home(settings, limited.model.name).mkdir(parents=True)
    assert bind_features(limited.feature_source, RELEASE, settings) == "by entity through small_v1: ID"
    path = next(feast_home(settings, limited.model.name).glob("releases/*/origin.json"))
    path.write_text(re.sub(r'"ttl_seconds":[\d.]+', '"ttl_seconds":0', path.read_text()))
    with pytest.raises(TamperedError, match="signature"):
        read_origin(settings, limited.model.name, RELEASE)


def test_an_origin_is_not_taken_for_another_releases(limited: Spec, settings: Settings) -> None:
    feast_home(settings, limited.model.name).mkdir(parents=True)
    bind_features(limited.feature_source, RELEASE, settings)
    releases = feast_home(settings, limited.model.name) / "releases"
    other = "sha256:" + "cd" * 32
    for name in ("ab" * 32, "ab" * 32 + ".sig"):
        (releases / name).rename(releases / name.replace("ab", "cd"))
    with pytest.raises(TamperedError):
        read_origin(settings, limited.model.name, other)


def test_a_store_is_not_taken_for_another_models(limited: Spec, settings: Settings) -> None:
    feast_home(settings, limited.model.name).mkdir(parents=True)
    bind_features(limited.feature_source, RELEASE, settings)
    feast_home(settings, limited.model.name).rename(feast_home(settings, "other-credit"))
    with pytest.raises(TamperedError, match="belongs to small-credit"):
        read_address(settings, "other-credit")
    with pytest.raises(TamperedError, match="belongs to small-credit"):
        read_origin(settings, "other-credit", RELEASE)


def test_secrets_stay_in_the_environment(limited: Spec, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = limited.folder / "features" / "feature_store.yaml"
    yaml.write_text(yaml.read_text().replace("${PLIMSOLL_FEAST}/online.db", "${PLIMSOLL_FEAST}/${STORE_NAME}.db"))
    pin_dataset(limited.model.name, limited.data_file, settings)
    monkeypatch.setenv("STORE_NAME", "hidden")
    put(limited, settings)
    assert (feast_home(settings, limited.model.name) / "hidden.db").is_file()
    assert "hidden" not in read_address(settings, limited.model.name).text
    monkeypatch.delenv("STORE_NAME")
    with pytest.raises(UnavailableError, match="STORE_NAME"):
        store_of(limited, settings)


def test_a_process_outside_utc_is_refused_and_one_in_it_keeps_the_moment(
    limited: Spec, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin_dataset(limited.model.name, limited.data_file, settings)
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    with pytest.raises(UnavailableError, match="run_in_utc"):
        put(limited, settings, EARLIER)
    run_in_utc()
    put(limited, settings, EARLIER)
    with closing(sqlite3.connect(feast_home(settings, limited.model.name) / "online.db")) as held:
        assert held.execute("SELECT DISTINCT event_ts FROM small_small").fetchall() == [(EARLIER.timestamp(),)]
        assert held.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_command_tells_people_and_programs(
    limited: Spec, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLIMSOLL_HOME", str(settings.root))
    assert main([str(limited.folder)]) == UNAVAILABLE
    pin_dataset(limited.model.name, limited.data_file, settings)
    assert main([str(limited.folder), "--as-of", "yesterday"]) == INVALID
    assert "expected e.g." in capsys.readouterr().out
    assert main([str(limited.folder), "--json", "--as-of", "2026-01-05T12:00Z"]) == DONE
    told = capsys.readouterr()
    assert json.loads(told.out)["as_of"].startswith("2026-01-05T12:00:00")
    assert "300 rows, bit for bit" in told.err
    noted = json.loads((feast_home(settings, limited.model.name) / MATERIALIZED).read_text())
    assert noted == json.loads(told.out)
