"""Scores rows with the champion; a row that it must not or cannot answer gets a `fallback` reason instead.

Values of `fallback`: killed, champion_refused (its bytes are not verified), champion_failed (no
probability), stale_features, explanation_timeout, explanation_failed, or breaker:<cause>.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from lineage.errors import PlimsollError
from serve.decision.answers import Pending, Scored
from serve.decision.circuit_breaker import Breaker, Failure
from serve.decision.circuit_breakers import Breakers
from serve.decision.explainer import Explainer
from serve.decision.score_cache import RowKey, ScoreCache
from serve.decision.scoring import decisions_from_scores, parse_rows, wants_reasons, with_reasons
from serve.judge.evidence import CHAMPION
from serve.models.bundle_store import BundleStore
from serve.routes import Route
from validators.scoring.bundle import Bundle
from validators.scoring.port import Rows

log = structlog.get_logger("plimsoll.gateway")


class Champion:
    """Scores with the champions of all models."""

    def __init__(
        self,
        store: BundleStore,
        breakers: Breakers,
        explainer: Explainer,
        cache: ScoreCache,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._store, self._breakers, self._explainer = store, breakers, explainer
        self.cache, self._clock = cache, clock

    async def answer(self, route: Route, pending: list[Pending], *, explain: bool) -> None:
        """Fill in `scored` where the champion answers and `fallback` where it does not.

        Raises:
            InvalidError: a feature is wrong; none of the rows is answered then.
        """
        if route.champion is None:
            return  # the baseline is the default target: that is no fallback
        bundle = self._store.get(route.champion) or await self._store.get_or_load(route.champion)
        if bundle is None:
            _fall_back(pending, "champion_refused")
            return
        # Verification requests bypass breaker, kill switch and cache.
        breaker = (
            self._breakers.of(route, self._store.score_spread(route.champion))
            if pending[0].purpose == "customer"
            else None
        )
        asked = pending if breaker is None else [one for one in pending if _may_answer(route, breaker, one)]
        if not asked:
            return
        rows = parse_rows(bundle, [one.request for one in asked])
        batch = _Batch(route, bundle, breaker, explain=explain)
        new = self._answer_from_cache(batch, asked, rows)
        if new:
            await self._score(batch, [asked[number] for number in new], rows if len(new) == len(asked) else rows[new])

    def _answer_from_cache(self, batch: _Batch, asked: list[Pending], rows: Rows) -> list[int]:
        """Answer rows from the cache; return the numbers of the others."""
        if batch.breaker is None or not batch.route.serving.cache:
            return list(range(len(asked)))
        new = []
        for number, one in enumerate(asked):
            known = self.cache.get(batch.row(rows, number))
            if known is None:
                new.append(number)
            else:
                one.scored, one.role, one.target, one.cached = known, CHAMPION, batch.route.champion, True
        return new

    async def _score(self, batch: _Batch, asked: list[Pending], rows: Rows) -> None:
        bundle, began = batch.bundle, self._clock()
        try:
            decisions = decisions_from_scores(bundle, rows, bundle.model.score(rows), with_baseline=False)
        except PlimsollError as error:
            log.error("champion failed", model=batch.route.model, message=error.message)
            batch.fail(asked, "errors", "champion_failed")
            return
        slow = (self._clock() - began) * 1000.0 > batch.route.serving.slow_milliseconds * len(asked)
        good: dict[int, Scored] = {}
        for number, scored in enumerate(decisions):
            if scored is None:
                batch.fail((asked[number],), "not_a_probability", "champion_failed")
            else:
                good[number] = scored
        wanted = [number for number, scored in good.items() if wants_reasons(bundle, scored, explain=batch.explain)]
        if wanted:
            good = await self._explain(batch, asked, rows, good, wanted)
        for number, scored in good.items():
            self._accept(batch, asked[number], scored, rows, number, slow=slow)

    async def _explain(
        self, batch: _Batch, asked: list[Pending], rows: Rows, good: dict[int, Scored], wanted: list[int]
    ) -> dict[int, Scored]:
        """`good` with reasons for the rows in `wanted`; rows whose explanation failed fall back and are left out."""
        bundle, explained = batch.bundle, dict(good)
        contributions = await self._contributions(batch, [asked[number] for number in wanted], rows[wanted])
        for place, number in enumerate(wanted):
            scored = explained.pop(number)
            if contributions is None:
                continue
            with_them = with_reasons(bundle, bundle.model, scored, contributions[place])
            if with_them is None:
                batch.fail((asked[number],), "explanation", "explanation_failed")
            else:
                explained[number] = with_them
        return explained

    async def _contributions(self, batch: _Batch, asked: list[Pending], rows: Rows) -> Rows | None:
        try:
            return await self._explainer(batch.bundle.model, rows, batch.route.serving.explain_milliseconds / 1000.0)
        except TimeoutError:
            batch.fail(asked, "explanation", "explanation_timeout")
        except PlimsollError as error:
            log.error("explanation failed", model=batch.route.model, message=error.message)
            batch.fail(asked, "explanation", "explanation_failed")
        return None

    def _accept(self, batch: _Batch, one: Pending, scored: Scored, rows: Rows, number: int, *, slow: bool) -> None:
        one.scored, one.role, one.target = scored, CHAMPION, batch.route.champion
        if batch.breaker is None:
            return
        row = batch.row(rows, number)
        if slow:
            batch.breaker.record_failure("slow")  # it counts as a failure, but the answer is used
        else:
            batch.breaker.record_answer(row[2], scored.score, favourable=not scored.adverse)
        if batch.route.serving.cache:
            self.cache.put(row, scored)


class _Batch:
    """What the rows of one request share."""

    def __init__(self, route: Route, bundle: Bundle, breaker: Breaker | None, *, explain: bool) -> None:
        self.route, self.bundle, self.breaker, self.explain = route, bundle, breaker, explain
        assert route.champion is not None  # noqa: S101  the caller has checked
        self._digest = route.champion.digest

    def row(self, rows: Rows, number: int) -> RowKey:
        return (self._digest, self.explain, rows[number].tobytes())

    def fail(self, asked: list[Pending] | tuple[Pending, ...], cause: Failure, fallback: str) -> None:
        if self.breaker is not None:
            for _ in asked:
                self.breaker.record_failure(cause)
        _fall_back(asked, fallback)


def _may_answer(route: Route, breaker: Breaker, one: Pending) -> bool:
    if route.killed:
        _fall_back((one,), "killed")
    elif one.request.served is not None and one.request.served.unusable:
        breaker.record_failure("stale_features")
        _fall_back((one,), "stale_features")
    elif not breaker.allows(one.request.key):
        _fall_back((one,), f"breaker:{breaker.cause}")
    else:
        return True
    return False


def _fall_back(pending: list[Pending] | tuple[Pending, ...], why: str) -> None:
    for one in pending:
        one.fallback = one.error = why
