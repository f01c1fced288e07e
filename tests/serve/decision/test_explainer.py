"""Explanations in batches of waiting requests, and the header that carries them."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from lineage.errors import UnavailableError
from serve.decision.explainer import Explainer, explanation_header
from serve.decision.score_cache import ScoreCache
from tests.support.decider_bench import RISKY, Bench
from validators.scoring.bundle import parse_features
from validators.scoring.port import Rows


class Slow:
    """A scorer that notes how many rows each run had, and waits where it is told to."""

    width = 2

    def __init__(self) -> None:
        self.runs = list[int]()
        self.began, self.go = threading.Event(), threading.Event()

    def score(self, rows: Rows) -> Rows:
        return rows[:, 0]

    def contributions(self, rows: Rows) -> Rows:
        self.runs.append(len(rows))
        self.began.set()
        assert self.go.wait(20)
        if np.isnan(rows).any():
            raise UnavailableError("no contributions for this")
        return rows * 2.0


def _row(value: float) -> Rows:
    return np.array([[value, -value]])


def test_rows_that_wait_go_together_in_the_next_run() -> None:
    scorer = Slow()

    async def ask() -> list[Rows]:
        explain = Explainer()
        first = asyncio.create_task(explain(scorer, _row(0.0), 20))
        await asyncio.to_thread(scorer.began.wait, 20)
        others = [asyncio.create_task(explain(scorer, _row(float(number)), 20)) for number in range(1, 100)]
        await asyncio.sleep(0)  # each has asked
        scorer.go.set()
        return await asyncio.gather(first, *others)

    found = asyncio.run(ask())
    assert [float(rows[0, 0]) for rows in found] == [2.0 * number for number in range(100)]
    assert scorer.runs == [1, 64, 35]


def test_who_no_longer_waits_is_not_computed_for() -> None:
    scorer = Slow()

    async def ask() -> None:
        explain = Explainer()
        first = asyncio.create_task(explain(scorer, _row(0.0), 20))
        await asyncio.to_thread(scorer.began.wait, 20)
        with pytest.raises(TimeoutError):
            await explain(scorer, _row(1.0), 0.01)
        scorer.go.set()
        await first
        await explain(scorer, _row(2.0), 20)

    asyncio.run(ask())
    assert scorer.runs == [1, 1]


def test_a_scorer_that_fails_fails_those_who_asked_and_the_next_are_answered() -> None:
    scorer = Slow()
    scorer.go.set()

    async def ask() -> Rows:
        explain = Explainer()
        with pytest.raises(UnavailableError, match="no contributions"):
            await explain(scorer, _row(float("nan")), 20)
        return await explain(scorer, _row(3.0), 20)

    assert asyncio.run(ask())[0, 0] == 6.0


def test_contributions_have_the_same_bits_in_company(bench: Bench) -> None:
    bundle = bench.store.get(bench.first)
    assert bundle is not None
    rows = [parse_features(bundle, RISKY | {"income": 0.1 * number}) for number in range(30)]

    async def ask() -> list[Rows]:
        explain = Explainer()
        return await asyncio.gather(*(explain(bundle.model, row, 20) for row in rows))

    together = asyncio.run(ask())
    assert all(np.array_equal(one, bundle.model.contributions(row)) for one, row in zip(together, rows, strict=True))


def test_the_header_is_a_list_of_strings_with_parameters() -> None:
    reasons = [
        {"code": "R1", "text": "Too late", "feature": "PAY_0", "contribution": 0.53219},
        {"code": 'say "no"\\', "text": "", "feature": "Größe\n", "contribution": 1.0},
    ]
    assert explanation_header(reasons) == (
        '"R1";feature="PAY_0";contribution=0.532, "say \\"no\\"\\\\";feature="Gr??e?";contribution=1.000'
    )
    assert explanation_header([]) == ""


def test_the_cache_forgets_what_was_wanted_longest_ago(bench: Bench) -> None:
    cache, scored = ScoreCache(most=2), object()
    for name in (b"a", b"b"):
        cache.put(("d", False, name), scored)  # type: ignore[arg-type]
    assert cache.get(("d", False, b"a")) is scored
    cache.put(("d", False, b"c"), scored)  # type: ignore[arg-type]
    assert [cache.get(("d", False, name)) is not None for name in (b"a", b"b", b"c")] == [True, False, True]
    assert cache.get(("d", True, b"a")) is None  # with reasons that were asked for it is another answer
    assert (len(cache), cache.hits) == (2, 3)
