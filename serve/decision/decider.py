"""Makes decisions: assigns the arm, scores, adds reasons, and records each decision before it is returned.

Where the champion does not answer the baseline does, and `fallback` says why. The challenger answers customers of its
arm; where it fails they get the champion's answer, so no customer waits for a challenger.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from lineage.errors import PlimsollError, RefusedError, UnavailableError
from serve.decision.answers import Answer, ChallengerPort, Pending, Purpose, Request, Scored, UnrecordedDecision
from serve.decision.champion import Champion
from serve.decision.scoring import decisions_from_scores, parse_rows, wants_reasons, with_reasons
from serve.decision.shadow import ShadowRequest, ShadowScorer
from serve.decision.traffic_split import falls_on_challenger, position_of
from serve.judge.evidence import CHALLENGER, CHAMPION
from serve.models.bundle_store import BundleStore
from serve.routes import BASELINE, Route, RouteTable


class Decider:
    """Decides with the bundles in memory.

    Args:
        record: appends one line so that it survives this process; if it fails the request fails.
        challenger: the challenger pool.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: BundleStore,
        champion: Champion,
        record: Callable[[dict[str, Any]], None],
        challenger: ChallengerPort,
        replica: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._champion, self._record, self._challenger = store, champion, record, challenger
        self._replica, self._clock = replica, clock
        self.shadow = ShadowScorer(challenger, record, clock)

    async def decide(
        self, table: RouteTable, model: str, request: Request, purpose: Purpose = "customer", *, explain: bool = False
    ) -> Answer:
        """Decide one row: `decide_without_recording`, then `record_and_answer`.

        Raises:
            UnknownError: there is no route of the model (404).
            InvalidError: a feature is wrong.
            RefusedError: the kill switch leaves nothing to answer (503).
            UnavailableError: no bundle can answer, or the decision could not be recorded.
        """
        (decided,) = await self.decide_without_recording(table, model, (request,), purpose, explain=explain)
        return self.record_and_answer(decided)

    async def decide_without_recording(
        self,
        table: RouteTable,
        model: str,
        requests: Sequence[Request],
        purpose: Purpose = "customer",
        *,
        explain: bool = False,
    ) -> list[UnrecordedDecision]:
        """Make the decisions of all rows before any is recorded, so that a request gets all of them or none.

        Raises:
            UnknownError: there is no route of the model (404).
            InvalidError: a feature is wrong; `row` in its detail says where, if there are several.
            RefusedError: the kill switch leaves nothing to answer (503).
            UnavailableError: no bundle can answer.
        """
        route = table.route_of(model)
        if route.killed == "nothing" and purpose == "customer":
            raise RefusedError(
                f"the kill switch of {model} is pulled: nothing is decided until two people release it",
                code="killed",
                status=503,
            )
        started = time.perf_counter()
        pending = [self._pending(route, request, purpose) for request in requests]
        await self._champion.answer(route, pending, explain=explain)
        self._answer_with_baseline(route, [one for one in pending if one.scored is None], explain=explain)
        on_trial = [one for one in pending if one.arm == CHALLENGER]
        if on_trial:
            await self._try_challenger(route, on_trial)
        latency_ms = round((time.perf_counter() - started) * 1000.0, 3)
        return [_unrecorded(one, table.version, latency_ms) for one in pending]

    def arm_of(self, route: Route, key: str, purpose: Purpose) -> tuple[float | None, str | None]:
        """Position of a key in [0, 1) and its arm; None for both where it takes part in no canary."""
        if route.challenger is None or route.killed or purpose == "verification":
            return None, None
        if not self._challenger.is_ready(route.challenger):
            return None, None
        position = position_of(key, route.salt)
        return position, CHALLENGER if falls_on_challenger(position, route.share) else CHAMPION

    def _pending(self, route: Route, request: Request, purpose: Purpose) -> Pending:
        position, arm = self.arm_of(route, request.key, purpose)
        if request.served is not None and request.served.unusable:
            position = arm = None  # the challenger must not use them either
        return Pending(route, request, purpose, position, arm)

    def _answer_with_baseline(self, route: Route, left: list[Pending], *, explain: bool) -> None:
        """Answer with the baseline what the champion did not answer."""
        if not left:
            return
        for target in (route.baseline, route.previous, route.champion):
            bundle = self._store.get_baseline(target)
            if bundle is None or target is None:
                continue
            rows = parse_rows(bundle, [one.request for one in left])
            scorer = bundle.baseline
            decisions = decisions_from_scores(bundle, rows, scorer.score(rows), with_baseline=True)
            for number, (one, scored) in enumerate(zip(left, decisions, strict=True)):
                final = scored
                if scored is not None and wants_reasons(bundle, scored, explain=explain):
                    final = with_reasons(bundle, scorer, scored, scorer.contributions(rows[number : number + 1]))
                if final is None:
                    raise UnavailableError(f"the baseline of {target.release} gave no number", field="score")
                one.scored, one.role, one.target = final, BASELINE, target
            return
        raise UnavailableError(
            f"no verified bundle of {route.model} can answer; an operator has to look at the replica's log",
            field="model",
        )

    async def _try_challenger(self, route: Route, on_trial: list[Pending]) -> None:
        """Replace the champion's answers by the challenger's; where it fails they stay, with the failure on record.

        Rows of one request are sent together: the pool limits requests, not rows.
        """
        target = route.challenger
        if target is None:
            return
        try:
            async with asyncio.timeout(route.challenger_timeout):
                replies = await self._challenger(target, [dict(one.request.features) for one in on_trial])
        except TimeoutError:
            for one in on_trial:
                one.fallback, one.error = "challenger_timeout", "timeout"
            return
        except PlimsollError as error:
            replies = [{"refused": f"{type(error).__name__}: {error.message}"}] * len(on_trial)
        for one, reply in zip(on_trial, replies, strict=True):
            if "refused" in reply:
                one.fallback, one.error = "challenger_failed", str(reply["refused"])[:200]
            else:
                one.role, one.target, one.scored = CHALLENGER, target, Scored(**reply)
                one.fallback = one.error = None
                one.cached = False

    def record_and_answer(self, decided: UnrecordedDecision) -> Answer:
        """Record the decision, then return it.

        Raises:
            UnavailableError: it could not be recorded, so it is not returned (503).
        """
        pending, target, scored = decided.pending, decided.target, decided.scored
        line = self._line(decided)
        self._record(line)
        route = pending.route
        if route.shadow is not None and pending.purpose == "customer" and not line["unusable"]:
            self.shadow.send(ShadowRequest(route.shadow, pending.request.features, line))
        return Answer(
            scored.decision,
            scored.score,
            scored.threshold,
            line["decision_id"],
            target.release,
            target.digest,
            pending.role,
            pending.fallback,
            scored.reasons,
            pending.cached,
        )

    def _line(self, decided: UnrecordedDecision) -> dict[str, Any]:
        pending, target, scored = decided.pending, decided.target, decided.scored
        served = pending.request.served
        return {
            "score": scored.score,
            "threshold": scored.threshold,
            "decision": scored.decision,
            "adverse": scored.adverse,
            "type": "decision",
            "decision_id": secrets.token_hex(16),
            "at": datetime.fromtimestamp(self._clock(), UTC).isoformat(),
            "model": pending.route.model,
            "release": target.release,
            "digest": target.digest,
            "role": pending.role,
            "arm": pending.arm,
            "key": pending.request.key,
            "key_hash_share": pending.position,
            "share": pending.route.share,
            "features": scored.row,
            "reasons": [reason["code"] for reason in scored.reasons],
            "fallback": pending.fallback,
            "latency_ms": decided.latency_ms,
            "error": pending.error,
            "rollout": pending.route.salt or None,
            "purpose": pending.purpose,
            "replica": self._replica,
            "route_version": decided.version,
            "feature_service": served.service if served else None,
            "feature_age": served.age if served else None,
            "unusable": list(served.unusable) if served else None,
        }


def _unrecorded(pending: Pending, version: int, latency_ms: float) -> UnrecordedDecision:
    if pending.target is None or pending.scored is None:
        raise UnavailableError(f"no bundle of {pending.route.model} answered", field="model")
    return UnrecordedDecision(pending, pending.target, pending.scored, version, latency_ms)
