"""Handlers of prediction endpoints: parse the body, decide each row, record, count, and reply with headers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Protocol

from starlette.responses import Response

from lineage.digest import digest_of
from lineage.errors import InvalidError, UnavailableError
from serve.decision.answers import Answer, LookedUpFeatures, Purpose, Request, UnrecordedDecision, same_release
from serve.decision.decider import Decider
from serve.decision.explainer import explanation_header
from serve.decision.freshness import FeaturePort, usable_features
from serve.gateway import open_inference as protocol
from serve.gateway.endpoints import Call
from serve.gateway.messages import Caller, reply, require_role
from serve.gateway.schemas import DecideByEntity, DecideByFeatures, names_in
from serve.gateway.strict_json import are_exact, check_names, read_object, refuse_inexact
from serve.gateway.versions import SERVICE, default_target, find_version, require_answered_by, table_pinned_to
from serve.judge.evidence import CHALLENGER
from serve.models.bundle_store import BundleStore
from serve.routes import Route, RouteTable, Target
from validators.scoring.bundle import Bundle

_DECIDE_NAMES = names_in(DecideByFeatures) | names_in(DecideByEntity)
_ROWS_AT_ONCE = 64  # rows of a batch between two yields to the event loop


class MetricsPort(Protocol):
    """Counter of answers."""

    def decided(self, model: str, answer: Answer, seconds: float) -> None:
        """Count one answer that took `seconds` from the arrival of its request."""


class Predictions:
    """Handlers of `/decide`, `/explain` and `/infer`."""

    def __init__(
        self,
        decider: Decider,
        store: BundleStore,
        replica: str,
        metrics: MetricsPort,
        features: FeaturePort | None = None,
    ) -> None:
        self._decider, self._store, self._replica, self._metrics = decider, store, replica, metrics
        self._features = features

    async def decide(self, call: Call) -> Response:
        """Decide one row of named features, or one entity whose features are looked up.

        Raises:
            PlimsollError: the body is wrong (400, 422), or nothing may or can answer (503).
        """
        return await self._one(call, explain=False)

    async def explain(self, call: Call) -> Response:
        """As `decide`, with reasons for either decision."""
        return await self._one(call, explain=True)

    async def _one(self, call: Call, *, explain: bool) -> Response:
        content = read_object(call.body)
        check_names(content, _DECIDE_NAMES)
        purpose = _purpose(content.get("purpose", "customer"), call.caller)
        request = await self._request(call, content)
        answer = await self._decider.decide(call.table, call.model, request, purpose, explain=explain)
        self._metrics.decided(call.model, answer, time.perf_counter() - call.started)
        return reply(answer.to_dict(), headers=self._headers([answer]))

    async def _request(self, call: Call, content: dict[str, Any]) -> Request:
        key = content.get("key")
        if key is not None:
            protocol.check_text(key)
        features, entity = content.get("features"), content.get("entity")
        if entity is None:
            if type(features) is not dict:
                message = "features is missing or no object; expected named values, or entity instead"
                raise InvalidError(message, field="features")
            if not are_exact(features.values()):
                refuse_inexact(call.body)
            return Request(features, digest_of(features) if key is None else key)
        if features is not None:
            raise InvalidError("features and entity are both there; expected one of them", field="entity")
        if type(entity) is not dict or not entity:
            raise InvalidError("entity is no object or empty; expected the entity's key, by name", field="entity")
        if self._features is None:
            raise UnavailableError("this server has no feature store; send features", field="entity")
        return await self._look_up(self._features, call, entity, digest_of(entity) if key is None else key)

    async def _look_up(self, features: FeaturePort, call: Call, entity: dict[str, Any], key: str) -> Request:
        target = default_target(call.route)
        if target is None:
            raise UnavailableError(f"no release of {call.model} is in charge", field="model")
        found = await features.fetch(call.model, target.digest, entity)
        served = usable_features(found, self.bundle(call.route).features)
        about = LookedUpFeatures(served.service, served.oldest_seconds, served.stale + served.missing)
        return Request(served.values, key, about)

    async def infer(self, call: Call) -> Response:
        """Decide rows given as tensors (Open Inference Protocol, version 2): all of them or none.

        Raises:
            PlimsollError: a row is wrong (422), or nothing may or can answer (503).
        """
        bundle = self.bundle(call.route)
        length = call.headers.get(b"inference-header-content-length")
        asked = protocol.read_inference(call.body, length, bundle.features, call.model)
        several = len(asked.rows) > 1
        requests = [
            Request(row, key or digest_of(row), None, number if several else None)
            for number, (row, key) in enumerate(zip(asked.rows, asked.keys, strict=True))
        ]
        table, purpose = self._for_named_release(call, requests) if call.version else (call.table, "customer")
        decided = await self._decide_rows(table, call.model, requests, purpose)
        answers = [self._decider.record_and_answer(one) for one in decided]
        seconds = (time.perf_counter() - call.started) / len(answers)
        for answer in answers:
            self._metrics.decided(call.model, answer, seconds)
        return protocol.answer_inference(call.model, answers, asked, self._headers(answers))

    async def _decide_rows(
        self, table: RouteTable, model: str, requests: Sequence[Request], purpose: Purpose
    ) -> list[UnrecordedDecision]:
        """Decide every row before any decision is recorded, so that one wrong row leaves nothing on record."""
        decided: list[UnrecordedDecision] = []
        for start in range(0, len(requests), _ROWS_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            some = requests[start : start + _ROWS_AT_ONCE]
            decided += await self._decider.decide_without_recording(table, model, some, purpose)
        return decided

    def _for_named_release(self, call: Call, requests: Sequence[Request]) -> tuple[RouteTable, Purpose]:
        """Route table and purpose for a request that names a release."""
        route, target = call.route, find_version(call.route, call.version, call.caller)
        if call.caller.role == SERVICE:
            return table_pinned_to(call.table, route, target, self._store.get(target) is not None), "verification"

        def is_on_trial(key: str) -> bool:
            return self._decider.arm_of(route, key, "customer")[1] == CHALLENGER

        require_answered_by(route, target, [request.key for request in requests], is_on_trial, call.caller)
        return call.table, "customer"

    def bundle(self, route: Route) -> Bundle:
        """The bundle whose features describe the input of the route's model.

        Raises:
            UnavailableError: none is in memory (503).
        """
        target: Target | None
        for target in (route.champion, route.baseline, route.previous):
            bundle = self._store.get(target) or self._store.get_baseline(target)
            if bundle is not None:
                return bundle
        raise UnavailableError(f"no verified bundle of {route.model} can answer", field="model")

    def _headers(self, answers: Sequence[Answer]) -> dict[str, str]:
        """Headers about the release that answered; where rows differ, the outputs say it row by row."""
        first, headers = answers[0], {"X-Replica": self._replica}
        if len(answers) == 1:
            headers["X-Decision-Id"] = first.decision_id
            headers["Cache-Status"] = "plimsoll; hit" if first.cached else "plimsoll; fwd=miss"  # RFC 9211
            if first.reasons:
                headers["X-Explanation"] = explanation_header(first.reasons)
            if first.fallback:
                headers["X-Model-Fallback"] = first.fallback
        if same_release(answers):
            headers["X-Model-Release"] = first.release
            headers["X-Model-Digest"] = first.digest
            headers["X-Model-Role"] = first.role
        return headers


def _purpose(value: Any, caller: Caller) -> Purpose:
    if value == "customer":
        return "customer"
    if value == "verification":
        require_role(caller, "service", "purpose verification")
        return "verification"
    raise InvalidError(f"purpose is {value!r:.60}; expected customer or verification", field="purpose")
