"""What the ledger service lets people stop and let go: the kill switch of one model or of all, and the shadow."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from fastapi import APIRouter, Depends, Request, Response

from lineage.rules import actions
from lineage.service.bodies import Because, Kill
from lineage.service.reads import PROBLEMS, Caller, context_of, reader
from lineage.service.writes import AGAIN, IfMatch, Key, Wish, act, bounded, must_have_seen
from lineage.state.fold import LedgerState

router = APIRouter(dependencies=[Depends(bounded)], responses=PROBLEMS)
#: How the way of a model's kill switch begins, and that of all models.
_ONE, _ALL = "/v1/models/{model}/kill", "/v1/kill"


@router.get(_ALL, dependencies=[Depends(reader)])
def killed(request: Request) -> Response:
    """What is stopped: `kill` (all models, or null), `etag` (for releasing that), `models` (stopped ones by name)."""
    etag, told = context_of(request).ledger.read(_killed)
    return Response(told, headers={"ETag": f'"{etag}"'}, media_type="application/json")


@router.post(_ONE, status_code=201, responses=AGAIN)
def kill(request: Request, model: str, body: Kill, who: Caller, key: Key = None) -> Response:
    """Stop a model at once. Takes no ETag: stopping must always be possible."""
    return _kill(request, model, body, who, key)


@router.post(_ALL, status_code=201, responses=AGAIN)
def kill_all(request: Request, body: Kill, who: Caller, key: Key = None) -> Response:
    """Stop all models at once. Takes no ETag."""
    return _kill(request, None, body, who, key)


@router.post(f"{_ONE}/ask-release", status_code=201, responses=AGAIN)
def ask_release(
    request: Request, model: str, body: Because, who: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Ask to let a model go; a second person has to confirm."""
    return _ask(request, model, body, who, key, if_match)


@router.post(f"{_ALL}/ask-release", status_code=201, responses=AGAIN)
def ask_release_all(
    request: Request, body: Because, who: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Ask to let all models go; a second person has to confirm."""
    return _ask(request, None, body, who, key, if_match)


@router.post(f"{_ONE}/release", status_code=201, responses=AGAIN)
def release(
    request: Request, model: str, body: Because, who: Caller, key: Key = None, if_match: IfMatch = None
) -> Response:
    """Let a model go, as somebody else asked."""
    return _release(request, model, body, who, key, if_match)


@router.post(f"{_ALL}/release", status_code=201, responses=AGAIN)
def release_all(request: Request, body: Because, who: Caller, key: Key = None, if_match: IfMatch = None) -> Response:
    """Let all models go, as somebody else asked."""
    return _release(request, None, body, who, key, if_match)


@router.post("/v1/releases/{release}/shadow/{verb}", status_code=201, responses=AGAIN)
def shadow(
    request: Request,
    release: str,
    verb: Literal["start", "stop"],
    body: Because,
    who: Caller,
    key: Key = None,
    if_match: IfMatch = None,
) -> Response:
    """Let a registered release score copies of live requests without being used, or end that."""
    kind = {"start": "ShadowStarted", "stop": "ShadowStopped"}[verb]
    wish = Wish(kind, release, body.reason, who, key, if_match)
    return act(request, wish, lambda state: actions.shadow(state, release, who, body.reason, kind))


def _kill(request: Request, model: str | None, body: Kill, who: Caller, key: str | None) -> Response:
    wish = Wish("KillSwitchPulled", model, body.reason, who, key, None, {"answer": body.answer})
    return act(request, wish, lambda state: actions.kill(state, model, who, body.reason, body.answer))


def _ask(
    request: Request, model: str | None, body: Because, who: Caller, key: str | None, if_match: str | None
) -> Response:
    wish = Wish("KillReleaseRequested", model, body.reason, who, key, must_have_seen(if_match))
    return act(request, wish, lambda state: actions.ask_kill_release(state, model, who, body.reason))


def _release(
    request: Request, model: str | None, body: Because, who: Caller, key: str | None, if_match: str | None
) -> Response:
    wish = Wish("KillSwitchReleased", model, body.reason, who, key, must_have_seen(if_match))
    return act(request, wish, lambda state: actions.release_kill(state, model, who, body.reason))


def _killed(state: LedgerState) -> tuple[int, bytes]:
    models: dict[str, Any] = {name: model.kill for name, model in state.models.items() if model.kill}
    return state.etag, orjson.dumps({"kill": state.kill, "etag": state.etag, "models": models})
