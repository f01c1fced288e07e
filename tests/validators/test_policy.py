from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.errors import InvalidError, UnavailableError
from tests.support.small_release import CHECKS, policy
from validators.policy import check_policy, load_policy

CREDIT = Path("examples/credit_default/policy.toml")
BASE: dict[str, Any] = policy().to_dict()


def test_the_example_policy_is_whole_and_comes_back_the_same() -> None:
    read = load_policy(CREDIT)
    assert read.canary.steps == (0.25,)
    assert read.rollout.steps[-1] == 1
    assert list(read.validation.checks) == CHECKS
    assert check_policy(read.to_dict()) == read
    assert check_policy(read.to_dict()).digest == read.digest


def test_every_limit_moves_the_digest() -> None:
    changed = copy.deepcopy(BASE)
    changed["validation"]["group_fairness"]["minimum_group"] = 101
    assert check_policy(changed).digest != check_policy(BASE).digest


def without(path: str) -> dict[str, Any]:
    content = copy.deepcopy(BASE)
    *parents, last = path.split(".")
    place = content
    for name in parents:
        place = place[name]
    del place[last]
    return content


def having(path: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(BASE)
    *parents, last = path.split(".")
    place = content
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return content


WRONG = [
    (without("validation"), "validation", "missing"),
    (without("validation.checks"), "validation.checks", "at least one check"),
    (having("validation.checks", []), "validation.checks", "at least one check"),
    (having("validation.checks", ["group_fairness", "group_fairness"]), "validation.checks", "each check once"),
    (having("validation.checks", ["group_fairnes"]), "validation.checks", "did you mean 'group_fairness'"),
    (having("validation.checks", "group_fairness"), "validation.checks", "a list"),
    (having("validation.group_fairness.ratio_limt", 0.8), "validation.group_fairness.ratio_limt", "ratio_limit"),
    (having("validation.group_fairness.ratio_limit", -0.1), "validation.group_fairness.ratio_limit", "greater than 0"),
    (having("validation.other", {}), "validation.other", "known here"),
    (having("canry", {}), "canry", "did you mean 'canary'"),
    (having("canary.alpha", float("nan")), "canary.alpha", "finite"),
    (having("canary.alpha", float("inf")), "canary.alpha", "finite"),
    (having("canary.alpha", 0), "canary.alpha", "greater than 0"),
    (having("canary.alpha", "0.05"), "canary.alpha", "number"),
    (having("canary.minimum_subjects", True), "canary.minimum_subjects", "integer"),
    (having("canary.minimum_subjects", 1.5), "canary.minimum_subjects", "integer"),
    (having("canary.steps", []), "canary.steps", "at least 1"),
    (having("canary.steps", [0.5, 0.25]), "canary.steps", "must rise"),
    (having("canary.steps", [0.5, 1.0]), "canary.steps", "below 1"),
    (having("canary.errors", {}), "canary.errors", "absolute_limit, ratio_limit or both"),
    (having("canary.slow.miliseconds", 10), "canary.slow.miliseconds", "did you mean 'milliseconds'"),
    (having("rollout.steps", [0.5]), "rollout.steps", "1.0"),
    (having("review.required", "yes"), "review.required", "boolean"),
    (having("monitor.drift.method", "auto"), "monitor.drift.method", "psi"),
    (having("monitor.drift.minimum_rows", 700), "monitor.drift.minimum_rows", "nothing could be judged"),
    (having("monitor.fairness.ratio_limit", 1.2), "monitor.fairness.ratio_limit", "less than or equal to 1"),
]


@pytest.mark.parametrize(("content", "field", "told"), WRONG, ids=[field + "-" + told for _, field, told in WRONG])
def test_what_is_wrong_is_refused_by_name(content: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check_policy(content, "policy.toml")
    assert caught.value.field == field
    assert told in caught.value.message


def test_files_that_cannot_be_read_or_are_not_toml(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        load_policy(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[validation")
    with pytest.raises(InvalidError, match=r"bad\.toml is not TOML"):
        load_policy(tmp_path / "bad.toml")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["validation", "canary", "review", "rollout", "monitor", "x"]), json_values))
def test_any_document_is_a_policy_or_an_error_of_ours(content: dict[str, Any]) -> None:
    with suppress(InvalidError):
        check_policy(content)
