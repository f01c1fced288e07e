"""One request, one decision: which arm, which model, the score, the reasons, and the record before the reply."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from lineage.digest import digest_of
from lineage.errors import PlimsollError, UnavailableError, UnknownError
from serve.assignment import falls_on_challenger, position_of
from serve.evidence import CHALLENGER, CHAMPION
from serve.routes import BASELINE, Route, RouteTable, Target
from serve.store import BundleStore
from validators.scoring.bundle import Bundle, parse_features
from validators.scoring.reasons import adverse_reasons

log = logging.getLogger(__name__)
Purpose = Literal["customer", "verification"]


@dataclass(frozen=True)
class Scored:
    """What a model says about one row."""

    row: list[float]
    score: float
    threshold: float
    decision: str
    adverse: bool
    reasons: list[dict[str, Any]]


class ChallengerPort(Protocol):
    """The other pool."""

    def is_ready(self, target: Target) -> bool:
        """Whether the challenger may be sent requests; until then nobody is assigned to an arm."""

    async def __call__(self, target: Target, features: dict[str, Any]) -> dict[str, Any]:
        """The fields of `Scored`. Raises UnavailableError when the pool fails."""


@dataclass(frozen=True)
class Answer:
    """A decision as the caller gets it; `row` stays with us."""

    decision: str
    score: float
    threshold: float
    decision_id: str
    release: str
    digest: str
    role: str
    fallback: str | None
    reasons: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """JSON form. Its values are not copied."""
        return {name: getattr(self, name) for name in _ANSWER}


_ANSWER = tuple(Answer.__dataclass_fields__)


@dataclass(slots=True)
class Pending:
    """A decision under way: what has been found out so far."""

    route: Route
    key: str
    purpose: Purpose
    started: float
    position: float | None = None
    arm: str | None = None
    role: str = CHAMPION
    target: Target | None = None
    fallback: str | None = None
    error: str | None = None


class Weighed(NamedTuple):
    """A decision that is made but neither recorded nor given."""

    pending: Pending
    target: Target
    scored: Scored
    version: int
    latency_ms: float


def score(bundle: Bundle, features: dict[str, Any], *, with_baseline: bool = False, explain: bool = False) -> Scored:
    """Score named features with a bundle's model or its baseline, and explain an adverse decision.

    Raises:
        InvalidError: a feature is missing, unknown or not what is expected.
        UnavailableError: the model answered no probability.
    """
    row = parse_features(bundle, features)
    scorer = bundle.baseline if with_baseline else bundle.model
    value = float(scorer.score(row)[0])
    if not 0.0 <= value <= 1.0:  # NaN too
        raise UnavailableError(f"the model answered {value!r}; a probability is expected", field="score")
    threshold = bundle.baseline_threshold if with_baseline else bundle.threshold
    adverse = value >= threshold
    wanted = explain or bundle.spec.explain == "always" or (adverse and bundle.spec.explain == "adverse")
    reasons: list[dict[str, Any]] = []
    if wanted:
        contributions = scorer.contributions(row)
        if np.isfinite(contributions).all():
            reasons = [dict(reason) for reason in adverse_reasons(bundle, contributions, scorer)]
    decision = bundle.spec.adverse if adverse else bundle.spec.favourable
    return Scored(row[0].tolist(), value, threshold, decision, adverse, reasons)


class Decider:
    """Answers with the bundles in memory. Everything that can fail outside is a port.

    Args:
        record: writes one line durably enough to survive this process; its failure is the request's failure.
        challenger: the other pool.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: BundleStore,
        record: Callable[[dict[str, Any]], None],
        challenger: ChallengerPort,
        replica: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._record, self._challenger = store, record, challenger
        self._replica, self._clock = replica, clock

    async def decide(
        self,
        table: RouteTable,
        model: str,
        features: dict[str, Any],
        key: str | None,
        purpose: Purpose = "customer",
        *,
        explain: bool = False,
    ) -> Answer:
        """Answer one row of named features: `weigh` and `give` in one.

        Args:
            key: names the customer, who stays on one arm; the features themselves are the name where it is absent.

        Raises:
            UnknownError: no route leads to the model.
            InvalidError: a feature is wrong.
            UnavailableError: no bundle can answer, or the decision could not be recorded.
        """
        return self.give(await self.weigh(table, model, features, key, purpose, explain=explain))

    async def weigh(
        self,
        table: RouteTable,
        model: str,
        features: dict[str, Any],
        key: str | None,
        purpose: Purpose = "customer",
        *,
        explain: bool = False,
    ) -> Weighed:
        """Make the decision without giving it, so that a request of many rows gives all of them or none.

        Raises:
            UnknownError: no route leads to the model.
            InvalidError: a feature is wrong.
            UnavailableError: no bundle can answer.
        """
        route = route_of(table, model)
        pending = Pending(route, key if key is not None else digest_of(features), purpose, time.perf_counter())
        pending.position, pending.arm = self.arm_of(route, pending.key, purpose)
        scored = self._control(pending, features, explain)
        if pending.arm == CHALLENGER:
            scored = await self._try_challenger(pending, features, scored)
        if pending.target is None:
            raise UnavailableError(f"no bundle of {model} answered", field="model")
        latency_ms = round((time.perf_counter() - pending.started) * 1000.0, 3)
        return Weighed(pending, pending.target, scored, table.version, latency_ms)

    def arm_of(self, route: Route, key: str, purpose: Purpose) -> tuple[float | None, str | None]:
        """Where a key stands in [0, 1) and on which arm; None for both where there is no trial that counts it."""
        if route.challenger is None or purpose == "verification":
            return None, None
        if not self._challenger.is_ready(route.challenger):
            return None, None
        position = position_of(key, route.salt)
        return position, CHALLENGER if falls_on_challenger(position, route.share) else CHAMPION

    def _control(self, pending: Pending, features: dict[str, Any], explain: bool) -> Scored:
        """The champion's answer, or the baseline's where there is no champion or it was refused."""
        route = pending.route
        bundle = self._store.get(route.champion)
        if bundle is not None:
            pending.target = route.champion
            try:
                return score(bundle, features, explain=explain)
            except UnavailableError as error:
                log.error("%s: %s", route.model, error.message)
                pending.fallback = pending.error = "champion_failed"
        elif route.champion is not None:
            pending.fallback = pending.error = "champion_refused"
        pending.role = BASELINE
        for target in (route.baseline, route.previous):
            bundle = self._store.get(target)
            if bundle is not None:
                pending.target = target
                return score(bundle, features, with_baseline=True, explain=explain)
        raise UnavailableError(
            f"no verified bundle of {route.model} can answer; an operator has to look at the replica's log",
            field="model",
        )

    async def _try_challenger(self, pending: Pending, features: dict[str, Any], control: Scored) -> Scored:
        """The challenger's answer, or the control's with the failure on record: the customer is never made to wait."""
        target = pending.route.challenger
        if target is None:
            return control
        try:
            async with asyncio.timeout(pending.route.challenger_timeout):
                scored = Scored(**await self._challenger(target, features))
        except TimeoutError:
            pending.fallback, pending.error = "challenger_timeout", "timeout"
        except PlimsollError as error:
            pending.fallback, pending.error = "challenger_failed", f"{type(error).__name__}: {error.message}"[:200]
        else:
            pending.role, pending.target, pending.fallback, pending.error = CHALLENGER, target, None, None
            return scored
        return control

    def give(self, weighed: Weighed) -> Answer:
        """Record the decision, then hand it out.

        Raises:
            UnavailableError: it could not be recorded, so it is not given.
        """
        pending, target, scored = weighed.pending, weighed.target, weighed.scored
        decision_id = secrets.token_hex(16)
        self._record(
            {
                "score": scored.score,
                "threshold": scored.threshold,
                "decision": scored.decision,
                "adverse": scored.adverse,
                "type": "decision",
                "decision_id": decision_id,
                "at": datetime.fromtimestamp(self._clock(), UTC).isoformat(),
                "model": pending.route.model,
                "release": target.release,
                "digest": target.digest,
                "role": pending.role,
                "arm": pending.arm,
                "key": pending.key,
                "key_hash_share": pending.position,
                "share": pending.route.share,
                "features": scored.row,
                "reasons": [reason["code"] for reason in scored.reasons],
                "fallback": pending.fallback,
                "latency_ms": weighed.latency_ms,
                "error": pending.error,
                "rollout": pending.route.salt or None,
                "purpose": pending.purpose,
                "replica": self._replica,
                "route_version": weighed.version,
            }
        )
        return Answer(
            scored.decision,
            scored.score,
            scored.threshold,
            decision_id,
            target.release,
            target.digest,
            pending.role,
            pending.fallback,
            scored.reasons,
        )


def route_of(table: RouteTable, model: str) -> Route:
    """The model's route.

    Raises:
        UnknownError: there is none.
    """
    try:
        return table.routes[model]
    except KeyError:
        known = ", ".join(sorted(table.routes)) or "none"
        raise UnknownError(f"no model {model[:80]!r} is served here; models: {known}", field="model") from None
