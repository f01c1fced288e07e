"""One request, one decision: which arm, which model, the score, the reasons, and the record before the reply."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

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
        """JSON form."""
        return asdict(self)


@dataclass
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
    return Scored([float(number) for number in row[0]], value, threshold, decision, adverse, reasons)


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
        """Answer one row of named features.

        Args:
            key: names the customer, who stays on one arm; the features themselves are the name where it is absent.

        Raises:
            UnknownError: no route leads to the model.
            InvalidError: a feature is wrong.
            UnavailableError: no bundle can answer, or the decision could not be recorded.
        """
        route = route_of(table, model)
        pending = Pending(route, key if key is not None else digest_of(features), purpose, time.perf_counter())
        self._assign(pending)
        scored = self._control(pending, features, explain)
        if pending.arm == CHALLENGER:
            scored = await self._try_challenger(pending, features, scored)
        if pending.target is None:
            raise UnavailableError(f"no bundle of {model} answered", field="model")
        return self._answer(pending, pending.target, scored, table.version)

    def _assign(self, pending: Pending) -> None:
        route = pending.route
        if route.challenger is None or pending.purpose == "verification":
            return
        if not self._challenger.is_ready(route.challenger):
            return
        pending.position = position_of(pending.key, route.salt)
        pending.arm = CHALLENGER if falls_on_challenger(pending.position, route.share) else CHAMPION

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

    def _answer(self, pending: Pending, target: Target, scored: Scored, version: int) -> Answer:
        decision_id = uuid.uuid4().hex
        fields = asdict(scored)
        reasons = fields.pop("reasons")
        self._record(
            fields
            | {
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
                "features": fields.pop("row"),
                "reasons": [reason["code"] for reason in reasons],
                "fallback": pending.fallback,
                "latency_ms": round((time.perf_counter() - pending.started) * 1000.0, 3),
                "error": pending.error,
                "rollout": pending.route.salt or None,
                "purpose": pending.purpose,
                "replica": self._replica,
                "route_version": version,
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
            reasons,
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
