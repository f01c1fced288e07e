from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.errors import InvalidError, TamperedError, UnavailableError, UnknownError
from lineage.settings import Settings
from tests.support.small_release import FEATURES, customers, description, write
from validators.feature_matrix import matrix, records
from validators.plugins import SCORING_FAMILIES
from validators.scoring import xgboost_c_api as xgboost_direct
from validators.scoring.bundle import Bundle, load_bundle, parse_features, parse_spec
from validators.scoring.families import boosted_trees
from validators.scoring.features import Feature, parse_row
from validators.scoring.golden import replay_golden
from validators.scoring.model_artefact import load_scorer
from validators.scoring.reasons import adverse_reasons
from validators.scoring.xgboost_without_sklearn import import_xgboost

xgb = import_xgboost()

GOOD: dict[str, Any] = {"income": 300.5, "debt": 20, "late": 3, "home": "rent"}
Copy = Callable[[Path], tuple[Settings, Path]]


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return load_bundle(folder)


def test_a_row_is_parsed_in_model_order(bundle: Bundle) -> None:
    assert parse_features(bundle, dict(reversed(GOOD.items()))).tolist() == [[300.5, 20.0, 3.0, 1.0]]


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"late": None}, "late", "is nothing"),
    ({"late": 2.5}, "late", "whole number"),
    ({"late": 13}, "late", "from 0 to 12"),
    ({"late": -1}, "late", "from 0 to 12"),
    ({"late": True}, "late", "True"),
    ({"late": "3"}, "late", "'3'"),
    ({"income": float("nan")}, "income", "nan"),
    ({"income": float("inf")}, "income", "inf"),
    ({"income": 10**400}, "income", "a int"),
    ({"income": [1]}, "income", "a list"),
    ({"home": "boat"}, "home", "one of own, rent, other"),
    ({"home": ["own"]}, "home", "a list"),
    ({"home": True}, "home", "True"),
    ({"home": "x" * 500}, "home", "a str"),
    ({"incme": 1}, "incme", "did you mean 'income'"),
]


@pytest.mark.parametrize(("change", "field", "told"), WRONG, ids=[f"{name}-{told}" for _, name, told in WRONG])
def test_what_is_wrong_is_refused_by_name(bundle: Bundle, change: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_features(bundle, GOOD | change)
    assert caught.value.field == field
    assert told in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_feature_is_named(bundle: Bundle, name: str) -> None:
    with pytest.raises(InvalidError, match="missing") as caught:
        parse_features(bundle, {key: value for key, value in GOOD.items() if key != name})
    assert caught.value.field == name


def test_numbers_beyond_float32_are_refused() -> None:
    with pytest.raises(InvalidError):
        parse_row([Feature("x", "number")], {"x": 1e39})


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "other"]), st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    )
)
def test_any_mapping_is_a_finite_row_or_an_error_of_ours(values: dict[str, Any]) -> None:
    with suppress(InvalidError):
        assert np.isfinite(parse_row(FEATURES, values)).all()


def test_a_row_alone_has_the_same_bits_as_in_a_batch(bundle: Bundle) -> None:
    frame = customers(300, seed=7)
    rows = matrix(FEATURES, frame)
    for scorer in (bundle.model, bundle.baseline):
        together = scorer.score(rows)
        assert [float(scorer.score(row[None])[0]).hex() for row in rows] == [float(one).hex() for one in together]
        assert ((together >= 0) & (together <= 1)).all()
    parsed = np.vstack([parse_row(FEATURES, one) for one in records(FEATURES, frame)])
    assert (parsed == rows).all()


def test_xgboost_asked_directly_gives_the_same_bits_as_its_public_calls(folder: Path) -> None:
    booster = xgb.Booster(model_file=str(folder / "model.ubj"))
    booster.set_param({"nthread": 1})
    scorer = load_scorer("boosted_trees", folder / "model.ubj")
    rows = np.vstack([matrix(FEATURES, customers(2000, seed=9)), np.full((1, 4), np.nan), np.full((1, 4), 1e38)])
    rows[::7, 1] = np.nan
    scores = np.asarray(booster.inplace_predict(rows), dtype=np.float64)
    pushes = np.asarray(booster.predict(xgb.DMatrix(rows), pred_contribs=True)[:, :-1], dtype=np.float64)
    assert (scorer._scores_direct, scorer._explains_direct) == (True, True)  # type: ignore[attr-defined]
    for same in (rows, np.asfortranarray(rows), rows[::-1][::-1]):
        assert scorer.score(same).tobytes() == scores.tobytes()
        assert scorer.contributions(same).tobytes() == pushes.tobytes()
    assert np.concatenate([scorer.score(row[None]) for row in rows]).tobytes() == scores.tobytes()
    assert np.vstack([scorer.contributions(row[None]) for row in rows[:200]]).tobytes() == pushes[:200].tobytes()
    assert scorer.score(rows[:0]).shape == (0,)
    assert scorer.contributions(rows[:0]).shape == (0, 4)
    with pytest.raises(UnavailableError, match="XGBoost cannot answer"):
        scorer.score(np.zeros((1, 9)))


def test_threads_that_ask_at_once_get_their_own_answers(folder: Path, home: Settings) -> None:
    other = write(home, trees_of=customers(900, seed=77), seed=77)
    scorers = [load_scorer("boosted_trees", one / "model.ubj") for one in (folder, other)]
    rows = matrix(FEATURES, customers(400, seed=10))
    expected = [(scorer.score(rows), scorer.contributions(rows)) for scorer in scorers]

    def ask(number: int) -> bool:
        same = True
        for at in range(400):
            which = (at + number) % 2
            row = rows[at : at + 1]
            same &= scorers[which].score(row).tobytes() == expected[which][0][at : at + 1].tobytes()
            if at % 8 == 0:
                same &= scorers[which].contributions(row).tobytes() == expected[which][1][at : at + 1].tobytes()
        return same

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(8)))


def test_an_xgboost_that_answers_otherwise_is_asked_through_its_public_calls(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = matrix(FEATURES, customers(20, seed=11))
    expected = load_scorer("boosted_trees", folder / "model.ubj")
    monkeypatch.setattr(boosted_trees, "_explaining", [])
    monkeypatch.setattr(xgboost_direct, "_SCORES", xgboost_direct._SCORES.replace(b'"type":0', b'"type":1'))
    monkeypatch.setattr(
        xgboost_direct, "_CONTRIBUTIONS", xgboost_direct._CONTRIBUTIONS.replace(b'"type":2', b'"type":77')
    )
    scorer = load_scorer("boosted_trees", folder / "model.ubj")
    assert (scorer._scores_direct, scorer._explains_direct) == (False, False)  # type: ignore[attr-defined]
    monkeypatch.undo()
    assert scorer.score(rows).tobytes() == expected.score(rows).tobytes()
    assert scorer.contributions(rows).tobytes() == expected.contributions(rows).tobytes()


def test_a_model_of_many_outcomes_is_refused(tmp_path: Path) -> None:
    rows = matrix(FEATURES, customers(200, seed=12))
    data = xgb.DMatrix(rows, np.arange(200) % 3)
    path = tmp_path / "model.ubj"
    xgb.train({"objective": "multi:softprob", "num_class": 3, "nthread": 1}, data, 2).save_model(path)
    with pytest.raises(TamperedError, match="expected one probability"):
        load_scorer("boosted_trees", path)


def test_a_logistic_row_alone_has_the_bits_of_the_batch_at_the_extremes(folder: Path) -> None:
    scorer = load_scorer("logistic", folder / "baseline.json")
    rows = np.random.default_rng(13).normal(size=(500, 4)) * 10.0 ** np.arange(-2, 498)[:, None].clip(max=300)
    with np.errstate(over="ignore", invalid="ignore"):
        together = scorer.score(rows)
        assert np.concatenate([scorer.score(row[None]) for row in rows]).tobytes() == together.tobytes()
    with pytest.raises(ValueError, match="longer"):
        scorer.score(rows[:1, :3])


def test_contributions_add_up_to_the_log_odds_difference(bundle: Bundle) -> None:
    rows = matrix(FEATURES, customers(50, seed=8))
    for scorer in (bundle.model, bundle.baseline):
        scores, pushed = scorer.score(rows), scorer.contributions(rows)
        bias = np.log(scores / (1 - scores)) - pushed.sum(axis=1)
        assert pushed.shape == rows.shape
        assert np.allclose(bias, bias[0], atol=1e-4)


def test_reasons_are_ordered_few_and_from_the_model_that_answered(bundle: Bundle) -> None:
    pushes = np.array([0.2, 0.2, -1.0, 0.9])
    told = adverse_reasons(bundle, pushes, bundle.model)
    assert [one["feature"] for one in told] == ["home", "debt"]  # a tie goes by name; most 2; no push away
    assert told[0] == {"code": "R3", "text": "Because of home", "feature": "home", "contribution": 0.9}
    with pytest.raises(InvalidError, match="model that answered"):
        adverse_reasons(bundle, pushes, load_bundle(bundle.folder).model)


def test_golden_rows_come_out_bit_for_bit(bundle: Bundle) -> None:
    result = replay_golden(bundle)
    assert result.ok
    assert (result.count, result.matched) == (32, 32)


def test_no_golden_rows_is_not_a_pass(folder: Path, copy_of: Copy) -> None:
    _, place = copy_of(folder)
    (place / "golden.json").write_text("[]")
    assert not replay_golden(load_bundle(place)).ok


def test_families_are_found_and_an_unknown_one_is_an_error(folder: Path) -> None:
    assert SCORING_FAMILIES.names() == ["boosted_trees", "logistic"]
    with pytest.raises(UnknownError, match="did you mean 'boosted_trees'"):
        load_scorer("boosted_tree", folder / "model.ubj")


BROKEN: list[dict[str, Any]] = [
    {"schema": 2},
    {"surprise": 1},
    {"threshold": 1.0},
    {"threshold": "0.5"},
    {"explain": "sometimes"},
    {"reasons_most": 0},
    {"reasons": {}},
    {"features": []},
    {"features": description()["features"] * 2},
    {"artefact": "../model.ubj"},
    {"baseline": {"family": "logistic"}},
]


@pytest.mark.parametrize("change", BROKEN, ids=[str(sorted(one)) + str(n) for n, one in enumerate(BROKEN)])
def test_a_broken_description_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TamperedError):
        parse_spec(json.dumps(description() | change).encode(), "release.json")


def test_bytes_that_are_no_model_are_refused(folder: Path, copy_of: Copy, tmp_path: Path) -> None:
    for family, content in (
        ("boosted_trees", b"not a model"),
        ("logistic", b"{}"),
        ("logistic", b"nonsense"),
        ("logistic", b'{"intercept":0,"coefficients":[1],"means":[0],"scales":[0]}'),
        ("logistic", b'{"intercept":0,"coefficients":[1,2],"means":[0],"scales":[1]}'),
        ("logistic", b'{"intercept":NaN,"coefficients":[1],"means":[0],"scales":[1]}'),
    ):
        (tmp_path / "artefact").write_bytes(content)
        with pytest.raises(TamperedError):
            load_scorer(family, tmp_path / "artefact")
    with pytest.raises(UnavailableError):
        load_scorer("logistic", tmp_path / "none")


def test_a_model_of_another_width_is_refused(folder: Path, copy_of: Copy) -> None:
    _, place = copy_of(folder)
    content = json.loads((place / "baseline.json").read_text())
    (place / "baseline.json").write_text(
        json.dumps({key: value if key == "intercept" else value[:2] for key, value in content.items()})
    )
    with pytest.raises(TamperedError, match="baseline takes 2 features"):
        load_bundle(place)


def test_the_serving_path_loads_neither_pandas_nor_polars(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from validators.scoring.bundle import load_bundle;"
        "from validators.scoring.golden import replay_golden; from validators.scoring.reasons import adverse_reasons;"
        f"b = load_bundle(Path({str(folder)!r})); assert replay_golden(b).ok;"
        "print([m for m in ('pandas', 'polars', 'mlflow', 'sklearn', 'ray', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_values_a_frame_cannot_have_are_refused() -> None:
    frame = customers(5, seed=1)
    for change in (
        {"home": pl.lit("boat")},
        {"late": pl.lit(99)},
        {"income": pl.lit(float("nan"))},
        {"income": pl.lit(None, dtype=pl.Float64)},
    ):
        with pytest.raises(InvalidError):
            matrix(FEATURES, frame.with_columns(**change))
    with pytest.raises(InvalidError, match="missing"):
        matrix(FEATURES, frame.drop("debt"))
    assert matrix(FEATURES, frame.head(0)).shape == (0, 4)
