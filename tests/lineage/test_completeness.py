"""Numbered answers against sealed segments: what is missing is named, and nothing else is."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from lineage.completeness import MOST_RANGES, Numbers, Range, Reconciliation, ranges_of

WRITER, MODEL = "r1~00000000", "loans"


def reconciled(*segments: list[int], closed: int = 0, unread: int | None = None) -> list[str]:
    """Problems of one writer's segments, whose facts state what they hold."""
    found = Reconciliation()
    for number, held in enumerate(segments, 1):
        stated = [one.to_dict() for one in ranges_of({WRITER: held})]
        found.sealed(number, MODEL, f"s{number}", stated, None if number == unread else {WRITER: held})
    if closed:
        found.closed(99, WRITER, {MODEL: closed})
    return [f"{one.record}: {one.text}" for one in found.problems()]


def of(which: str) -> str:
    return f"{which} of replica {WRITER} for model {MODEL}"


@pytest.mark.parametrize(
    ("segments", "closed", "problems"),
    [
        ([[1, 2, 3], [4, 5]], 0, []),
        ([[1, 2, 3], [4, 5]], 5, []),
        ([[3, 1, 2], [5, 4]], 3, []),
        ([], 0, []),
        ([[1, 2], [4]], 0, ["2: decision 3 is missing"]),
        ([[2, 3]], 0, ["1: decision 1 is missing"]),
        ([[1, 5]], 0, ["1: decisions 2 to 4 are missing"]),
        ([[1, 2], [3, 4]], 6, ["99: decisions 5 to 6 are missing: the replica had reported 6 answers"]),
        ([], 2, ["99: decisions 1 to 2 are missing: the replica had reported 2 answers"]),
        ([[1, 2], [2, 3]], 0, ["2: decision 2 is in two segments"]),
        ([[1, 2, 2]], 0, ["1: decision 2 is twice in segment s1"]),
        ([[1, 2], [1, 2]], 2, ["2: decisions 1 to 2 are in two segments"]),
    ],
)
def test_what_is_missing_or_there_twice_is_named(segments: Any, closed: int, problems: list[str]) -> None:
    told = [
        line.replace(f" of replica {WRITER} for model {MODEL}", "") for line in reconciled(*segments, closed=closed)
    ]
    assert told == problems
    for line in reconciled(*segments, closed=closed):
        assert f"of replica {WRITER} for model {MODEL}" in line


def test_a_segment_that_cannot_be_read_counts_as_its_fact_says_and_may_be_sealed_again() -> None:
    assert reconciled([1, 2], [3], [4], unread=2) == []
    assert reconciled([1, 2], [3], [3, 4], unread=2) == []


def test_a_segment_has_to_hold_what_its_fact_states() -> None:
    def compared(stated: Numbers, rows: Numbers) -> list[str]:
        found = Reconciliation()
        found.sealed(1, MODEL, "s", [one.to_dict() for one in ranges_of(stated)], rows)
        return [one.text for one in found.problems()]

    lacking = f"{of('decision 2')} is missing from segment s, which states them"
    assert compared({WRITER: [1, 2, 3]}, {WRITER: [1, 3]})[0] == lacking
    assert compared({WRITER: [1, 2]}, {WRITER: [1, 2, 3]}) == ["segment s holds other answers than record 1 states"]
    assert compared({WRITER: [1]}, {WRITER: [1], "r2~0": [1]}) == ["segment s holds other answers than record 1 states"]
    assert compared({WRITER: [1]}, {WRITER: [1]}) == []


def test_facts_from_before_answers_were_numbered_state_nothing() -> None:
    found = Reconciliation()
    found.sealed(1, MODEL, "old", None, {})
    found.sealed(2, MODEL, "left over by an earlier version", [], {})
    assert (found.answers, found.problems()) == (0, [])


def test_series_are_apart_by_writer_and_model() -> None:
    found = Reconciliation()
    for record, (writer, model) in enumerate([("a~1", "x"), ("a~1", "y"), ("b~1", "x")], 1):
        found.sealed(record, model, f"s{record}", [Range(writer, 1, 1, 1).to_dict()], {writer: [1]})
    assert (found.answers, found.problems()) == (3, [])


def test_many_gaps_are_stated_as_one_range_and_found_in_the_segment() -> None:
    held = list(range(1, 2 * MOST_RANGES + 3, 2))
    (stated,) = ranges_of({WRITER: held})
    assert (stated.first, stated.last, stated.count) == (1, held[-1], len(held))
    assert len(reconciled(held)) == len(held) - 1


@pytest.mark.parametrize("seed", range(20))
def test_a_random_removal_is_named_exactly(seed: int) -> None:
    rng = Random(seed)
    cuts = sorted(rng.sample(range(1, 200), 5))
    numbers = list(range(1, 201))
    segments = [numbers[a:b] for a, b in zip([0, *cuts], [*cuts, 200], strict=True)]
    assert reconciled(*segments, closed=200) == []
    gone = rng.randrange(1, 201)
    left = [[number for number in held if number != gone] for held in segments]
    (told,) = reconciled(*[held for held in left if held], closed=200)
    assert of(f"decision {gone}") in told
