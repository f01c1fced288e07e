"""Routes for kill switch and shadow."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from fastapi import APIRouter, Depends, Request, Response

from lineage.rules import actions
from lineage.service.bodies import Kill, WithReason
from lineage.service.reads import PROBLEMS, Caller, context_of, reader
from lineage.service.writes import REPEATED, ActionRequest, IfMatch, Key, act, limit_fact_size, required_etag
from lineage.state.fold import LedgerState

router = APIRouter(dependencies=[Depends(limit_fact_size)], responses=PROBLEMS)
#: Path prefixes of a model's kill switch and of the switch of all models.
_ONE, _ALL = "/v1/models/{model}/kill", "/v1/kill"


@router.get(_ALL, dependencies=[Depends(reader)])
def killed(request: Request) -> Response:
    """The kill switches: `kill` (of all models, or null), its `etag`, and `models` (the pulled ones by model)."""
    etag, body = context_of(request).ledger.read(_killed)
    return Response(body, headers={"ETag": f'"{etag}"'}, media_type="application/json")


@router.post(_ONE, status_code=201, responses=REPEATED)
def kill(request: Request, model: str, body: Kill, actor: Caller, key: Key = None) -> Response:
    """Stop a model at once. Takes no ETag: stopping must always be possible."""
    return _kill(request, model, body, actor, key)


@router.post(_ALL, status_code=201, responses=REPEATED)
def kill_all(request: Request, body: Kill, actor: Caller, key: Key = None) -> Response:
    """Stop all models at once. Takes no ETag."""
    return _kill(request, None, body, actor, key)


@router.post(f"{_ONE}/ask-release", status_code=201, responses=REPEATED)
def ask_release(
    request: Request, model: str, body: WithReason, actor: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Request the release of a model's kill switch; a second person has to confirm."""
    return _ask(request, model, body, actor, key, if_match)


@router.post(f"{_ALL}/ask-release", status_code=201, responses=REPEATED)
def ask_release_all(
    request: Request, body: WithReason, actor: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Request the release of the kill switch of all models; a second person has to confirm."""
    return _ask(request, None, body, actor, key, if_match)


@router.post(f"{_ONE}/release", status_code=201, responses=REPEATED)
def release(
    request: Request, model: str, body: WithReason, actor: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Confirm another person's request to release a model's kill switch."""
    return _release(request, model, body, actor, key, if_match)


@router.post(f"{_ALL}/release", status_code=201, responses=REPEATED)
def release_all(
    request: Request, body: WithReason, actor: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Confirm another person's request to release the kill switch of all models."""
    return _release(request, None, body, actor, key, if_match)


@router.post("/v1/releases/{release}/shadow/{verb}", status_code=201, responses=REPEATED)
def shadow(
    request: Request,
    release: str,
    verb: Literal["start", "stop"],
    body: WithReason,
    actor: Caller,
    key: Key = None,
    if_match: IfMatch = None,
) -> Response:
    """Start or stop the shadow: a registered release scores copies of live requests, its answers are not used."""
    kind = {"start": "ShadowStarted", "stop": "ShadowStopped"}[verb]
    action = ActionRequest(kind, release, body.reason, actor, key, if_match)
    return act(request, action, lambda state: actions.shadow(state, release, actor, body.reason, kind))


def _kill(request: Request, model: str | None, body: Kill, actor: Caller, key: str | None) -> Response:
    action = ActionRequest("KillSwitchPulled", model, body.reason, actor, key, None, {"answer": body.answer})
    return act(request, action, lambda state: actions.kill(state, model, actor, body.reason, body.answer))


def _ask(
    request: Request, model: str | None, body: WithReason, actor: Caller, key: str | None, if_match: str | None
) -> Response:
    action = ActionRequest("KillReleaseRequested", model, body.reason, actor, key, required_etag(if_match))
    return act(request, action, lambda state: actions.ask_kill_release(state, model, actor, body.reason))


def _release(
    request: Request, model: str | None, body: WithReason, actor: Caller, key: str | None, if_match: str | None
) -> Response:
    action = ActionRequest("KillSwitchReleased", model, body.reason, actor, key, required_etag(if_match))
    return act(request, action, lambda state: actions.release_kill(state, model, actor, body.reason))


def _killed(state: LedgerState) -> tuple[int, bytes]:
    models: dict[str, Any] = {name: model.kill for name, model in state.models.items() if model.kill}
    return state.etag, orjson.dumps({"kill": state.kill, "etag": state.etag, "models": models})
