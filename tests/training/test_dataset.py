from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from lineage.errors import InvalidError, TamperedError, UnavailableError
from lineage.settings import Settings
from tests.support.model_folder import customers, write_folder
from training.datafile import read_data
from training.dataset import content_digest, pin_dataset
from training.spec import Spec, load_spec
from training.split import holdout, position, split


def test_the_same_content_is_the_same_version(spec: Spec, settings: Settings) -> None:
    first, again = (
        pin_dataset(spec.model.name, spec.data_file, settings),
        pin_dataset(spec.model.name, spec.data_file, settings),
    )
    assert (first.data.version, first.data.new) == (0, True)
    assert (again.data.version, again.data.new, again.data.digest) == (0, False, first.data.digest)
    assert "SEX" not in first.data.columns
    assert first.protected.columns == ("ID", "SEX", "AGE")


def test_the_digest_does_not_depend_on_the_file(tmp_path: Path, settings: Settings) -> None:
    frame = customers(200)
    folder = write_folder(tmp_path / "model", data=frame)
    spec = load_spec(folder)
    digest = pin_dataset(spec.model.name, spec.data_file, settings).data.digest
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1).select(reversed(frame.columns))
    shuffled.with_columns(pl.col("late").cast(pl.Float64)).write_parquet(folder / "customers.parquet", row_group_size=7)
    again = pin_dataset(spec.model.name, spec.data_file, settings)
    assert (again.data.digest, again.data.version) == (digest, 0)


def test_swapped_labels_are_a_new_version_and_the_next_pin_makes_it_good_again(spec: Spec, settings: Settings) -> None:
    good = pin_dataset(spec.model.name, spec.data_file, settings)
    bad = pin_dataset(spec.model.name, spec.data_file, settings, fault="inverted_labels")
    assert bad.data.version == 1
    assert ((good.data.read()["bad"] + bad.data.read()["bad"]) == 1).all()
    healed = pin_dataset(spec.model.name, spec.data_file, settings)
    assert (healed.data.version, healed.data.digest) == (2, good.data.digest)
    with pytest.raises(InvalidError, match="inverted_labels"):
        pin_dataset(spec.model.name, spec.data_file, settings, fault="inverted_label")


def test_a_table_changed_behind_our_back_is_refused(spec: Spec, settings: Settings) -> None:
    pin = pin_dataset(spec.model.name, spec.data_file, settings).data
    other = pin.read().with_columns(late=pl.lit(1))
    other.write_delta(str(pin.path), mode="overwrite")
    assert pin.read().height  # the pinned version still stands
    for path in Path(DeltaTable(str(pin.path), version=0).file_uris()[0].removeprefix("file://")).parent.glob(
        "*.parquet"
    ):
        other.write_parquet(path)
    with pytest.raises(TamperedError, match="not what was pinned"):
        pin.read()


def put(values: pl.Expr) -> Callable[[Path], None]:
    return lambda path: customers(50).with_columns(values).write_parquet(path)


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "not parquet": (lambda path: path.write_bytes(b"ID,income\n1,2\n") and None, "expected a Parquet file"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:500]) and None, "not a whole parquet file"),
    "empty file": (lambda path: path.write_bytes(b"") and None, "expected a Parquet file"),
    "no rows": (lambda path: customers(50).head(0).write_parquet(path), "no rows"),
    "missing column": (lambda path: customers(50).drop("debt").write_parquet(path), "'debt' is missing"),
    "extra column": (put(pl.lit(1).alias("incom")), "did you mean 'income'"),
    "text for number": (put(pl.lit("many").alias("income")), "expected number"),
    "out of range": (put(pl.lit(2000.0).alias("income")), "from 0 to 1000"),
    "not whole": (put(pl.lit(1.5).alias("late")), "whole numbers"),
    "unknown category": (put(pl.lit(7).alias("SEX")), "one of 1, 2"),
    "empty cell": (put(pl.when(pl.col("ID") == 3).then(None).otherwise(pl.col("late")).alias("late")), "'late'"),
    "not a number": (
        put(pl.when(pl.col("ID") == 3).then(float("nan")).otherwise(pl.col("income")).alias("income")),
        "income",
    ),
    "infinite": (put(pl.lit(float("inf")).alias("debt")), "debt"),
    "twice the key": (put(pl.lit(1).alias("ID")), "not unique"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_that_is_not_what_it_says_is_refused(wrong: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    damage, told = WRONG[wrong]
    damage(folder / "customers.parquet")
    with pytest.raises(InvalidError) as caught:
        read_data(load_spec(folder).data_file)
    assert told in caught.value.message


def test_a_missing_file_is_the_worlds_fault(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    spec = load_spec(folder)
    (folder / "customers.parquet").unlink()
    with pytest.raises(UnavailableError):
        read_data(spec.data_file)


def test_digest_tells_names_types_and_values_apart() -> None:
    frames = [
        pl.DataFrame({"a": [1, 2], "b": ["x", "yz"]}),
        pl.DataFrame({"a": [1, 3], "b": ["x", "yz"]}),
        pl.DataFrame({"a": [1.0, 2.0], "b": ["x", "yz"]}),
        pl.DataFrame({"c": [1, 2], "b": ["x", "yz"]}),
        pl.DataFrame({"a": [1, 2], "b": ["xy", "z"]}),
    ]
    assert len({content_digest(frame) for frame in frames}) == len(frames)
    assert content_digest(frames[0].select("b", "a")) == content_digest(frames[0])
    for odd in (pl.DataFrame({"a": [True]}), pl.DataFrame({"a": [1, None]})):
        with pytest.raises(InvalidError):
            content_digest(odd)


def test_rows_never_move_between_the_parts() -> None:
    frame = customers(3000)
    parts = split(frame, "ID", "m")
    assert parts.train.height + parts.validation.height + parts.holdout.height == 3000
    assert abs(parts.holdout.height / 3000 - 0.2) < 0.03
    half = frame.sample(1500, seed=1)
    assert set(holdout(half, "ID", "m")["ID"]) == set(parts.holdout["ID"]) & set(half["ID"])
    assert position(7, "m") == position(7, "m") != position(7, "other")
