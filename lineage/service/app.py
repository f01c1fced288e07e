"""The ledger service: the one process that writes the log and opens the lineage store.

`python -m lineage.service` serves it; it does not run on Ray, because the record must outlive the cluster it audits.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from lineage.clock import Clock, now
from lineage.diagnostic_log import configure_diagnostic_log
from lineage.errors import PlimsollError, RefusedError
from lineage.http_server import HostCheck, PunctualProtocol
from lineage.private_folders import close_to_others
from lineage.service import (
    accounts,
    data_subjects,
    dossier,
    history,
    keys,
    pages,
    proofs,
    reads,
    safety,
    sessions,
    writes,
)
from lineage.service.context import Context
from lineage.settings import Settings
from lineage.witness.client import warm_up

BODY_BYTES = 4 * 1024 * 1024
_FIELD_CHARACTERS = 200
_SHUTDOWN_SECONDS = 2  # followers keep connections open; a stop does not wait for them
log = structlog.get_logger("plimsoll.ledger")


def create_app(settings: Settings, *, clock: Clock = now) -> FastAPI:
    """The service as an ASGI application on the home folder of `settings`."""
    app = build(settings)
    app.state.context = Context(settings, clock=clock)
    return app


def build(settings: Settings) -> FastAPI:
    """The application without its context, which has to be set as `app.state.context` before it serves."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        context: Context = app.state.context
        context.attach(asyncio.get_running_loop())
        yield
        context.close()

    # No interactive docs: their pages load scripts from elsewhere. The schema itself is served.
    app = FastAPI(title="Plimsoll ledger", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(_LimitBody)
    app.add_middleware(HostCheck, hosts=(*settings.host_names, "testserver"))  # the name that tests use
    app.add_exception_handler(PlimsollError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    for router in (reads.open_router, proofs.open_router):
        app.include_router(router)
    for module in (reads, pages, dossier, proofs, safety, history, data_subjects, keys, writes, sessions, accounts):
        app.include_router(module.router, responses=reads.PROBLEMS)
    return app


class _LimitBody:
    """Refuses a body that is too large or without Content-Length. Plain ASGI: each append pays for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > BODY_BYTES or "transfer-encoding" in headers:
                message = f"the body is larger than {BODY_BYTES} bytes or does not say its length"
                refusal = JSONResponse({"error": message, "code": "too_large"}, status_code=413)
                return await refusal(scope, receive, send)
        return await self._app(scope, receive, send)


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, PlimsollError)  # noqa: S101  registered for this class only
    if error.status >= 500:
        log.error("request failed", message=error.message)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if "retry_after" in error.detail:
        headers["Retry-After"] = str(error.detail["retry_after"])
    return Response(orjson.dumps(error.body()), error.status, headers, "application/json")


async def _answer_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    broken = first["type"] == "json_invalid"
    field = "body" if broken else ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    field = field.encode(errors="backslashreplace").decode()[:_FIELD_CHARACTERS]
    given = "" if broken or first["type"] == "missing" else f", got {first.get('input')!r:.120}"
    body = {"error": f"{field}: {first['msg']}{given}", "code": "invalid", "field": field}
    return JSONResponse(body, status_code=422)


async def _answer_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    return JSONResponse({"error": str(error.detail), "code": "http"}, error.status_code, error.headers)


def wait_for_turn(settings: Settings, *, forever: bool) -> int:
    """The lock of the process that serves this home, as an open descriptor. The kernel frees it when the process ends.

    Args:
        forever: wait for it: a spare, with everything imported, serves in the moment in which its predecessor ends.

    Raises:
        RefusedError: another process serves this home.
    """
    path = settings.log_folder.parent / "turn.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if forever else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise RefusedError(
            f"another ledger service serves {settings.root}; stop it (`plimsoll down`) or choose another PLIMSOLL_HOME",
            code="already_open",
        ) from error
    return descriptor


def main() -> None:
    """Serve until stopped; with `--in-turn` after the process that serves this home now has ended."""
    configure_diagnostic_log()
    close_to_others()
    settings = Settings()
    settings.require_safe_host()
    settings.logs.mkdir(parents=True, exist_ok=True)
    app = build(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.ledger_port,
        http=PunctualProtocol,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    config.load()  # with what it imports, before the turn: a spare has only the log to read then
    warm_up()
    turn = wait_for_turn(settings, forever="--in-turn" in sys.argv[1:])
    gc.disable()  # reading the log makes no garbage
    app.state.context = Context(settings)
    gc.collect()
    gc.freeze()  # the records stay: a collection over a million of them would pause the service for 0.2 s
    gc.enable()
    why = serve(uvicorn.Server(config), app.state.context)
    os.close(turn)
    if why:
        sys.exit(why)


def serve(server: uvicorn.Server, context: Context) -> str | None:
    """Serve until stopped; the reason if the witness showed that the log is not the one it saw."""
    reasons: list[str] = []

    def stop(why: str) -> None:
        reasons.append(why)
        server.should_exit = True

    context.stop = stop
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    return reasons[0] if reasons else None if server.started else "the ledger service could not start"


if __name__ == "__main__":
    main()
