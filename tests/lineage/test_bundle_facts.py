"""A bundle has to say what its facts say; whatever it says otherwise is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lineage.bundle_facts import check_agreement, parse_statement, statement_of
from lineage.errors import TamperedError

RECORDED = statement_of(
    model="loan", family="boosted_trees", threshold=0.5, policy_digest="sha256:aa", features=["income", "debt"]
)
SAID: dict[str, Any] = {
    "model": "loan",
    "family": "boosted_trees",
    "threshold": 0.5,
    "policy_digest": "sha256:aa",
    "features": [{"name": "income"}, {"name": "debt"}],
}
#: What a bundle says otherwise, and the field that is named.
OTHERWISE: list[tuple[str, Any]] = [
    ("model", "card"),
    ("model", "Loan"),
    ("model", "loan "),
    ("family", "logistic"),
    ("threshold", 0.5000000000000001),
    ("threshold", 0.9),
    ("policy_digest", "sha256:bb"),
    ("policy_digest", ""),
    ("features", [{"name": "debt"}, {"name": "income"}]),
    ("features", [{"name": "income"}]),
    ("features", [{"name": "income"}, {"name": "debt"}, {"name": "age"}]),
    ("features", []),
]


def test_a_bundle_that_says_the_same_agrees() -> None:
    said = parse_statement("b", json.dumps(SAID).encode())
    check_agreement("b", said, RECORDED)
    assert said.digest == RECORDED.digest


@pytest.mark.parametrize(("field", "value"), OTHERWISE)
def test_what_differs_is_named(field: str, value: Any) -> None:
    said = parse_statement("b", json.dumps(SAID | {field: value}).encode())
    assert said.digest != RECORDED.digest
    with pytest.raises(TamperedError, match=f"says that {field} is") as caught:
        check_agreement("b", said, RECORDED)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"\xff",
        b"[" * 100_000,
        *(json.dumps({key: value for key, value in SAID.items() if key != left}).encode() for left in SAID),
        *(json.dumps(SAID | {"features": bad}).encode() for bad in (None, 1, ["income"], [{}])),
        *(json.dumps(SAID | {"threshold": bad}).encode() for bad in (None, "half", [0.5])),
    ],
)
def test_a_file_without_a_statement_never_agrees(content: bytes) -> None:
    with pytest.raises(TamperedError) as caught:
        parse_statement("b", content)
    assert caught.value.field == "release.json"
