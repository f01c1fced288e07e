"""Routes of sessions: sign in, sign out, choose a password."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Depends, Request, Response

from lineage.service.bodies import ChoosePassword, SignIn
from lineage.service.reads import PROBLEMS, Caller, context_of
from lineage.service.writes import limit_fact_size

router = APIRouter(dependencies=[Depends(limit_fact_size)], responses=PROBLEMS)
_JSON = "application/json"


@router.post("/v1/session")
async def sign_in(request: Request, body: SignIn) -> Response:
    """Sign a person in: the token is good for twelve hours, or until it was not used for one."""
    sign_ins, source = context_of(request).sign_ins, source_of(request)
    session = await sign_ins.by_password(body.name, body.password, source, body.device)
    context_of(request).tokens_changed()
    return Response(orjson.dumps(session), headers={"Cache-Control": "no-store"}, media_type=_JSON)


@router.delete("/v1/session")
def sign_out(request: Request, actor: Caller) -> Response:
    """End the session of the token that is sent, at the gateway too."""
    context = context_of(request)
    context.credentials.end_session(request.headers["authorization"].partition(" ")[2])
    context.tokens_changed()
    return Response(orjson.dumps({"signed_out": actor.name}), media_type=_JSON)


@router.post("/v1/password")
async def choose_password(request: Request, body: ChoosePassword) -> Response:
    """Set a password that a person chose, with a one-time code or the old password; other sessions end."""
    context = context_of(request)
    account = await context.sign_ins.choose(body.name, body.code, body.old, body.new, source_of(request))
    context.tokens_changed()
    return Response(orjson.dumps({"name": account.name, "chosen": True}), media_type=_JSON)


def source_of(request: Request) -> str:
    """Address of the caller."""
    return request.client.host if request.client else "unknown"
