"""The champion's answers, and what answers when it is killed, faulty, late or without reasons."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lineage.errors import InvalidError, RefusedError
from lineage.policy import BreakerLimits, Serving
from lineage.settings import Settings
from serve.decision.answers import Answer, LookedUpFeatures, Request
from serve.decision.circuit_breakers import BreakerEvent
from serve.decision.decider import Decider
from serve.routes import RouteTable
from tests.support.bundles import features
from tests.support.decider_bench import RISKY, Bench
from tests.support.gateway_parts import decider_of
from validators.scoring.port import Rows

SAFE = features(9.0, 0.0, 0)
LIMITS = BreakerLimits(window=20, minimum=10, in_a_row=3, same_scores=5, rest_seconds=5, trial_share=1.0, trials=2)


class Ill:
    """A champion's model with a fault: what it says is taken from `says`, what it explains from `explains`."""

    def __init__(self, model: Any) -> None:
        self.model, self.width = model, model.width
        self.says: float | None = None
        self.explains: float | None = None
        self.hold: threading.Event | None = None
        self.asked = 0

    def score(self, rows: Rows) -> Rows:
        self.asked += len(rows)
        return self.model.score(rows) if self.says is None else np.full(len(rows), self.says)

    def contributions(self, rows: Rows) -> Rows:
        if self.hold is not None:
            assert self.hold.wait(20)
        return self.model.contributions(rows) if self.explains is None else np.full(rows.shape, self.explains)


class Ward:
    """A bench whose champion can fall ill, with a clock of its own and an ear for what breakers tell."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(Settings(home=folder))
        self.now, self.events = 0.0, list[BreakerEvent]()
        store = self.bench.store
        bundle = store.get(self.bench.first)
        assert bundle is not None
        self.ill = Ill(bundle.model)
        sick = replace(bundle, model=self.ill)
        whole = store.get
        store.get = lambda target: sick if target == self.bench.first else whole(target)  # type: ignore[method-assign]
        self.decider: Decider = decider_of(
            store, self.bench.lines.append, self.bench.pool, ticks=lambda: self.now, report=self.events.append
        )

    def table(self, serving: Serving | None = None, **changes: Any) -> RouteTable:
        return self.bench.table(serving=serving or Serving(breaker=LIMITS), **changes)

    def ask(self, values: Any = RISKY, key: str = "c1", table: RouteTable | None = None, **how: Any) -> Answer:
        asked = self.decider.decide(table or self.table(), "loan", Request(values, key), **how)
        return asyncio.run(asked)


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.1, 1.1])
def test_what_is_no_probability_is_answered_by_the_baseline_and_opens_the_breaker(ward: Ward, wrong: float) -> None:
    ward.ill.says = wrong
    first = [ward.ask(features(late=number)) for number in range(LIMITS.in_a_row)]
    assert {(answer.role, answer.fallback) for answer in first} == {("baseline", "champion_failed")}
    after = ward.ask()
    assert (after.role, after.fallback) == ("baseline", "breaker:not_a_probability")
    assert ward.ill.asked == LIMITS.in_a_row  # an open breaker asks nobody
    (event,) = ward.events
    assert (event.kind, event.model) == ("BreakerOpened", "loan")
    assert event.data["release"] == "loan@1"


def test_the_champion_comes_back_by_a_trial(ward: Ward) -> None:
    ward.ill.says = float("nan")
    for number in range(LIMITS.in_a_row):
        ward.ask(features(late=number))
    ward.ill.says, ward.now = None, LIMITS.rest_seconds
    for number in range(LIMITS.trials):
        assert ward.ask(features(late=number)).role == "champion"
    assert [event.kind for event in ward.events] == ["BreakerOpened", "BreakerClosed"]
    assert ward.events[1].data == {
        "release": "loan@1", "replica": "r1", "cause": "trial passed", "seconds": 5.0, "answers": 0,
    }  # fmt: skip


def test_one_score_for_everybody_opens_the_breaker(ward: Ward) -> None:
    ward.ill.says = 0.25
    answers = [ward.ask(features(income=float(number))) for number in range(LIMITS.same_scores + 1)]
    assert [answer.role for answer in answers] == ["champion"] * LIMITS.same_scores + ["baseline"]
    assert answers[-1].fallback == "breaker:constant_scores"


def test_reasons_that_are_no_numbers_or_come_too_late_are_the_baselines(ward: Ward) -> None:
    ward.ill.explains = float("nan")
    broken = ward.ask()
    assert (broken.role, broken.fallback) == ("baseline", "explanation_failed")
    assert broken.reasons
    ward.ill.explains, ward.ill.hold = None, threading.Event()
    hasty = ward.table(Serving(explain_milliseconds=20, breaker=LIMITS))
    late = ward.ask(table=hasty)
    ward.ill.hold.set()
    assert (late.role, late.fallback) == ("baseline", "explanation_timeout")
    assert late.reasons
    assert ward.ask(SAFE, table=hasty).role == "champion"  # who needs no reasons is not held up


def test_a_killed_champion_is_not_asked_and_the_decision_says_so(ward: Ward) -> None:
    answer = ward.ask(table=ward.table(killed="baseline"))
    assert (answer.role, answer.fallback, ward.ill.asked) == ("baseline", "killed", 0)
    assert ward.bench.lines[-1]["fallback"] == "killed"
    on_trial = ward.ask(table=ward.table(killed="baseline", share=1.0))
    assert (on_trial.role, ward.bench.lines[-1]["arm"]) == ("baseline", None)


def test_where_the_switch_leaves_nothing_nobody_decides(ward: Ward) -> None:
    table = ward.table(killed="nothing")
    with pytest.raises(RefusedError, match="two people") as refusal:
        ward.ask(table=table)
    assert (refusal.value.status, refusal.value.code) == (503, "killed")
    assert ward.bench.lines == []
    assert ward.ask(table=table, purpose="verification").role == "champion"


def test_a_row_that_was_scored_before_is_a_decision_of_its_own_but_not_scored_again(ward: Ward) -> None:
    first, second = ward.ask(), ward.ask(key="c2")
    assert (first.cached, second.cached, ward.ill.asked) == (False, True, 1)
    assert (first.score, first.reasons) == (second.score, second.reasons)
    assert first.decision_id != second.decision_id
    assert [line["key"] for line in ward.bench.lines] == ["c1", "c2"]
    assert ward.ask(purpose="verification").cached is False  # a proof is never from memory
    assert ward.ask(table=ward.table(Serving(cache=False))).cached is False
    assert ward.ill.asked == 3


def test_many_rows_are_answered_as_one_by_one(ward: Ward) -> None:
    rows = [features(0.1 * number, 4.0 - 0.1 * number, number % 5) for number in range(40)]
    one_by_one = [ward.ask(row, table=ward.table(Serving(cache=False))) for row in rows]
    requests = [Request(row, f"c{number}", None, number) for number, row in enumerate(rows)]
    decided = asyncio.run(ward.decider.decide_without_recording(ward.table(Serving(cache=False)), "loan", requests))
    assert [one.scored.score.hex() for one in decided] == [answer.score.hex() for answer in one_by_one]
    assert [one.scored.reasons for one in decided] == [answer.reasons for answer in one_by_one]
    assert {one.scored.decision for one in decided} == {"approve", "decline"}


def test_rows_on_trial_go_to_the_pool_together_and_each_fails_alone(ward: Ward) -> None:
    async def picky(target: Any, values: dict[str, Any]) -> dict[str, Any]:
        return {"refused": "not this one"} if values["late"] == 3 else await ward.bench.honest(target, values)

    ward.bench.pool.behave = picky
    rows = [features(0.1 * number, 1.0, number % 5) for number in range(60)]
    requests = [Request(row, f"c{number}", None, number) for number, row in enumerate(rows)]
    decided = asyncio.run(ward.decider.decide_without_recording(ward.table(share=1.0), "loan", requests))
    answered = [(one.pending.role, one.pending.fallback) for one in decided]
    assert answered == [
        ("champion", "challenger_failed") if number % 5 == 3 else ("challenger", None) for number in range(60)
    ]
    assert ward.bench.pool.calls == 1


def test_one_wrong_row_of_many_is_named_and_none_is_decided(ward: Ward) -> None:
    requests = [Request(RISKY, "a", None, 0), Request(RISKY | {"late": "often"}, "b", None, 1)]
    with pytest.raises(InvalidError, match=r"row 1: .*late") as error:
        asyncio.run(ward.decider.decide_without_recording(ward.table(), "loan", requests))
    assert error.value.detail["row"] == 1
    assert ward.bench.lines == []


def test_features_that_may_not_be_used_are_left_out_and_the_baseline_answers(ward: Ward) -> None:
    known = {"income": 0.1, "debt": 4.0}
    request = Request(known, "c1", LookedUpFeatures("loans_v1", 99.0, ("late",)))
    answer = asyncio.run(ward.decider.decide(ward.table(), "loan", request))
    assert (answer.role, answer.fallback, ward.ill.asked) == ("baseline", "stale_features", 0)
    neutral = ward.ask(known | {"late": 0}, table=ward.table(killed="baseline"))  # 0 is the mean of `late`
    assert answer.score == neutral.score
    line = ward.bench.lines[0]
    assert (line["unusable"], line["feature_service"], line["feature_age"]) == (["late"], "loans_v1", 99.0)
    for number in range(LIMITS.in_a_row):
        asyncio.run(ward.decider.decide(ward.table(), "loan", request._replace(key=f"c{number}")))
    assert ward.ask().fallback == "breaker:stale_features"


def test_a_new_champion_has_a_breaker_of_its_own(ward: Ward) -> None:
    ward.ill.says = float("nan")
    for number in range(LIMITS.in_a_row):
        ward.ask(features(late=number))
    answer = ward.ask(table=ward.table(champion=ward.bench.second, baseline=ward.bench.second))
    assert (answer.role, answer.release) == ("champion", "loan@2")
    assert [event.data["cause"] for event in ward.events] == ["not_a_probability", "champion changed"]


def test_a_shadow_scores_copies_that_are_on_record_and_change_no_answer(ward: Ward) -> None:
    async def ask() -> Answer:
        table = ward.table(shadow=ward.bench.second)
        answer = await ward.decider.decide(table, "loan", Request(RISKY, "c1"))
        await ward.decider.shadow.drain()
        return answer

    answer = asyncio.run(ask())
    given, copy = ward.bench.lines
    assert (answer.role, answer.release, given["purpose"]) == ("champion", "loan@1", "customer")
    assert (copy["role"], copy["purpose"], copy["release"]) == ("shadow", "shadow", "loan@2")
    assert copy["shadow_of"] == given["decision_id"] != copy["decision_id"]
    assert copy["score"] != given["score"]


def test_a_shadow_that_fails_or_falls_behind_costs_nobody_an_answer(ward: Ward) -> None:
    release = asyncio.Event()

    async def hang(target: Any, values: Any) -> dict[str, Any]:
        await release.wait()
        return await ward.bench.honest(target, values)

    ward.bench.pool.behave = hang

    async def ask() -> None:
        table = ward.table(Serving(cache=False), shadow=ward.bench.second)
        for number in range(300):
            await ward.decider.decide(table, "loan", Request(SAFE, f"c{number}"))
        release.set()
        await ward.decider.shadow.drain()

    asyncio.run(ask())
    assert len([line for line in ward.bench.lines if line["purpose"] == "customer"]) == 300
    copies = [line for line in ward.bench.lines if line["purpose"] == "shadow"]
    assert len(copies) + ward.decider.shadow.dropped == 300
    assert ward.decider.shadow.dropped > 0
