"""The parser of facts: accepts the example of every kind and names what is wrong with anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from lineage.digest import canonical
from lineage.errors import InvalidError
from lineage.facts.registry import FACTS, fact_of, parse_fact, subject_of
from tests.support.sample_facts import SAMPLES, sample

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
REQUIRED = [
    (kind, field.alias or name)
    for kind, fact in FACTS.items()
    for name, field in fact.model_fields.items()
    if field.is_required()
]


def test_there_is_an_example_of_every_kind() -> None:
    assert SAMPLES.keys() == FACTS.keys()


@pytest.mark.parametrize("kind", sorted(FACTS))
def test_the_example_is_stored_as_it_is(kind: str) -> None:
    assert parse_fact(kind, sample(kind)) == sample(kind)


@pytest.mark.parametrize("kind", sorted(FACTS))
def test_every_kind_says_what_it_means(kind: str) -> None:
    fact = fact_of(kind)
    assert (fact.__doc__ or "").strip().endswith(".")
    assert fact.__doc__ != BaseModel.__doc__
    assert subject_of(kind) in ("model", "release", "one_or_all", "platform")


@pytest.mark.parametrize(("kind", "field"), REQUIRED)
def test_what_is_missing_is_named(kind: str, field: str) -> None:
    data = sample(kind)
    del data[field]
    with pytest.raises(InvalidError) as caught:
        parse_fact(kind, data)
    assert caught.value.field == field
    assert f"{kind}.{field}" in caught.value.message


@pytest.mark.parametrize("kind", sorted(FACTS))
@pytest.mark.parametrize("extra", ["subject", "extra", "", "from_", "seq"])
def test_what_nobody_asked_for_is_named(kind: str, extra: str) -> None:
    if extra in sample(kind):
        return
    with pytest.raises(InvalidError) as caught:
        parse_fact(kind, sample(kind) | {extra: "x"})
    assert caught.value.field == (extra or "data") or kind == "DecisionsSealed"


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("CanaryStarted", "share", 0),
        ("CanaryStarted", "share", 1.01),
        ("CanaryStarted", "share", "0.25"),
        ("CanaryStarted", "share", True),
        ("CanaryStarted", "share", float("nan")),
        ("CanaryStarted", "salt", "short"),
        ("ModelTrained", "digest", "sha256:00"),
        ("ModelTrained", "digest", "sha256:" + "g" * 64),
        ("ModelTrained", "digest", "sha256:" + "0" * 64 + "\n"),
        ("ModelTrained", "author", ""),
        ("ModelTrained", "threshold", 1.5),
        ("ModelTrained", "features", []),
        ("ModelTrained", "seed", 1.5),
        ("ModelTrained", "seed", "7"),
        ("CheckCompleted", "status", "passed"),
        ("CheckCompleted", "seconds", -1),
        ("ReviewDecided", "decision", "Approve"),
        ("ReleaseRolledBack", "replicas", 0),
        ("CandidateValidated", "checks", []),
        ("DecisionsSealed", "rows", -1),
        ("DecisionsSealed", "rows", 1.5),
        ("FairnessMeasured", "ratio", float("inf")),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(kind: str, field: str, value: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_fact(kind, sample(kind) | {field: value})
    assert (caught.value.field or "").startswith(field)


def test_an_unknown_kind_is_not_a_default() -> None:
    with pytest.raises(InvalidError) as caught:
        parse_fact("ReleasePromotedd", {})
    assert caught.value.field == "kind"
    assert "ReleasePromoted," in caught.value.message


@settings(max_examples=150)
@given(st.sampled_from(sorted(FACTS)), st.data())
def test_whatever_is_put_in_comes_out_as_json_or_is_refused(kind: str, data: st.DataObject) -> None:
    given_data = sample(kind)
    field = data.draw(st.sampled_from([*given_data, "extra"]))
    given_data[field] = data.draw(ANYTHING)
    try:
        stored = parse_fact(kind, given_data)
    except InvalidError:
        return
    assert canonical(parse_fact(kind, stored)) == canonical(stored), "what is stored is well formed itself"
    assert stored[field] == given_data[field], "nothing is bent into shape"
