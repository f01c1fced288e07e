from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.errors import InvalidError, UnavailableError
from tests.support.model_folder import SPEC, write_folder
from training.spec import FILE, Spec, check_spec, load_reasons, load_spec
from validators.toml_document import parse_part

CREDIT = Path("examples/credit_default")


def changed(path: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(SPEC)
    *parents, last = path.split(".")
    place = content
    for name in parents:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


WRONG = [
    ("model.purpose", None, "model.purpose", "missing"),
    ("model.nmae", "x", "model.nmae", "did you mean 'name'"),
    ("model.name", "Small Credit", "model.name", "pattern"),
    ("model.tier", 4, "model.tier", "1, 2 or 3"),
    ("model.jurisdictions", [], "model.jurisdictions", "at least 1"),
    ("data.label", "bda", "data.label.bda", "did you mean 'bad'"),
    ("data.protected", ["SEXX"], "data.protected.SEXX", "did you mean 'SEX'"),
    ("features.names", ["income", "bad"], "features.names", "the label"),
    ("features.names", ["income", "SEX"], "features.names", "a protected attribute"),
    ("features.names", ["income", "ID"], "features.names", "identifier"),
    ("features.names", ["income", "income"], "features.names", "each name once"),
    ("features.names", [], "features.names", "at least 1"),
    ("decision.approval_rate", 1.2, "decision.approval_rate", "less than 1"),
    ("decision.approval_rate", float("nan"), "decision.approval_rate", "finite"),
    ("decision.adverse", "approve", "decision.adverse", "another word"),
    ("decision.explain", "no", "decision.explain", "always"),
    ("training.champion", "boosted_tree", "training.champion", "boosted_trees"),
    ("training.trials", 0, "training.trials", "greater than or equal to 1"),
    ("training.search", {"max_depth": {"low": 5, "high": 2}}, "training.search.max_depth", "low below high"),
    ("columns.income", {"type": "number", "minimum": 5, "maximum": 1}, "columns.income", "not above the maximum"),
    ("columns.SEX", {"type": "category"}, "columns.SEX", "categories for a category"),
    ("columns.income", {"type": "float"}, "columns.income.type", "'number', 'integer' or 'category'"),
    ("data.file", "none.parquet", "none.parquet", "there is no"),
]


@pytest.mark.parametrize(("path", "value", "field", "told"), WRONG, ids=[f"{one[0]}-{one[3]}" for one in WRONG])
def test_what_is_wrong_is_refused_by_name(path: str, value: Any, field: str, told: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", spec=changed(path, value))
    with pytest.raises((InvalidError, UnavailableError)) as caught:
        load_spec(folder)
    assert caught.value.field == field
    assert told in caught.value.message
    assert FILE in caught.value.message


def test_the_example_folder_is_whole() -> None:
    spec = load_spec(CREDIT)
    assert spec.model.name == "credit-default"
    assert not set(spec.data.protected) & set(spec.features.names)
    assert {"SEX", "AGE", "MARRIAGE"} == set(spec.data.protected)
    reasons = load_reasons(spec.folder / spec.decision.reasons, spec.features.names)
    assert set(reasons) == set(spec.features.names)
    assert len({one["code"] for one in reasons.values()}) == len(spec.features.names)
    spec.load_policy()


@pytest.mark.parametrize(
    ("text", "field", "told"),
    [
        ("", "income", "missing"),
        ('incme = { code = "a", text = "b" }', "incme", "did you mean 'income'"),
        ("income = {}\ndebt = {}\nlate = {}", "income.code", "missing"),
        ("income = [", "reasons.toml", "not TOML"),
    ],
)
def test_reasons_that_are_not_whole_are_refused(text: str, field: str, told: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    (folder / "reasons.toml").write_text(text)
    with pytest.raises(InvalidError) as caught:
        load_reasons(folder / "reasons.toml", load_spec(folder).features.names)
    assert caught.value.field == field
    assert told in caught.value.message


scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5) | st.just([])


@settings(max_examples=60)
@given(
    st.sampled_from([f"{table}.{key}" for table in ("model", "data", "decision", "training") for key in SPEC[table]]),
    scalars,
)
def test_any_value_is_a_spec_or_an_error_of_ours(path: str, value: Any) -> None:
    try:
        check_spec(parse_part(Spec, changed(path, value), FILE))
    except InvalidError as error:
        told = error.message
        assert FILE in told
