"""The ledger service: the one process that writes the log and opens the lineage store.

`python -m lineage.service` serves it; it does not run on Ray, because the record must outlive the cluster it audits.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
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
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from lineage.clock import Clock, now
from lineage.diagnostic_log import configure_diagnostic_log
from lineage.errors import PlimsollError
from lineage.service import data_subjects, dossier, history, keys, pages, proofs, reads, safety, writes
from lineage.service.context import Context
from lineage.settings import Settings

BODY_BYTES = 4 * 1024 * 1024
_FIELD_CHARACTERS = 200
_SHUTDOWN_SECONDS = 2  # followers keep connections open; a stop does not wait for them
log = structlog.get_logger("plimsoll.ledger")


def create_app(settings: Settings, *, clock: Clock = now) -> FastAPI:
    """The service as an ASGI application on the home folder of `settings`."""
    context = Context(settings, clock=clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        context.attach(asyncio.get_running_loop())
        yield
        context.close()

    # No interactive docs: their pages load scripts from elsewhere. The schema itself is served.
    app = FastAPI(title="Plimsoll ledger", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.context = context
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "testserver", settings.host])
    app.add_middleware(_LimitBody)
    app.add_exception_handler(PlimsollError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    for router in (reads.open_router, proofs.open_router):
        app.include_router(router)
    for module in (reads, pages, dossier, proofs, safety, history, data_subjects, keys, writes):
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
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
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


def main() -> None:
    """Serve until stopped."""
    configure_diagnostic_log()
    settings = Settings()
    settings.logs.mkdir(parents=True, exist_ok=True)
    gc.disable()  # reading the log makes no garbage
    app = create_app(settings)
    gc.collect()
    gc.freeze()  # the records stay: a collection over a million of them would pause the service for 0.2 s
    gc.enable()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.ledger_port,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    why = serve(uvicorn.Server(config), app.state.context)
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
