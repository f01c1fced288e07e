"""The console as one ASGI application: Dash on its FastAPI backend, behind the access middleware.

Run it with `python -m console.server`.

One worker: the follower of the ledger and the open sockets live in this process. All other state is in the browser's
cookie or in the ledger.
"""

from __future__ import annotations

import inspect
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import dash
import httpx
import structlog
import uvicorn
from dash import Dash
from fastapi import FastAPI, Query, Request
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, Response

from console import layout, live_updates, pages, signin
from console.access import AccessMiddleware
from console.accounts import page as accounts_page
from console.accounts import password
from console.ledger_client import LedgerClient
from console.person_ledger import person_ledger
from console.session import Sessions
from lineage.http_server import HostCheck, PunctualProtocol
from lineage.private_folders import close_to_others
from lineage.settings import Settings
from plimsoll.errors import Error

HERE = Path(__file__).parent
#: A report is a document of its own: no script, no network, its own origin.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
_PLACES = 12
#: Paths of Dash and of `_own_routes`.
_DASH = ("/_dash-", "/_reload-hash", "/_favicon.ico", "/assets/", "/report/", "/sign-in", "/sign-out")
log = structlog.get_logger("plimsoll.console")


def build(settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """The application. One a process: Dash keeps callbacks in a process-wide list.

    Args:
        transport: how to reach the ledger; HTTP to `settings.ledger_url` when absent.
    """
    sessions = Sessions(settings.secrets / "console.key")
    client = LedgerClient(settings.ledger_url, transport=transport)
    feed = live_updates.Feed(client, build=secrets.token_hex(4))
    held: list[Dash] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await warm_up(held[0])
        yield
        await feed.close()
        await client.close()

    # No interactive docs: their pages load scripts from elsewhere.
    server = FastAPI(title="Plimsoll console", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    server.state.client, server.state.feed = client, feed
    for module in (accounts_page, password):
        server.include_router(module.routes(client))
    server.add_exception_handler(KeyError, answer_unknown_callback)
    server.include_router(signin.routes(client, sessions))
    _own_routes(server)
    app = _dash(server)
    held.append(app)
    pages.register()
    live_updates.register(feed)
    # Dash's own `compress` takes level 9: 4.5 MB of plotly.js then hold all tabs up for twice as long, for 0.3 % less.
    server.add_middleware(GZipMiddleware, minimum_size=500, compresslevel=6)
    server.add_middleware(
        AccessMiddleware, sessions=sessions, client=client, hashes=lambda: list(app.csp_hashes()), is_known=is_known
    )
    server.add_middleware(HostCheck, hosts=(*settings.host_names, "testserver"))  # the name that tests use
    return server


def is_known(path: str) -> bool:
    """Whether the console has something at a path; Dash answers every other one with 200 and its shell."""
    own = path in (accounts_page.PATH, password.PATH) or path.startswith((*_DASH, f"{accounts_page.PATH}/"))
    return own or any(_matches(page, path) for page in dash.page_registry.values())


def _matches(page: dict[str, Any], path: str) -> bool:
    """Whether this is the page's path, or one of its template: `/release/<release>`."""
    pattern = re.sub(r"<[^>]*>", "[^/]+", re.escape(page["path_template"] or page["path"]))
    return re.fullmatch(pattern, path) is not None


def _dash(server: FastAPI) -> Dash:
    app = Dash(
        "console",
        server=server,
        use_pages=True,
        pages_folder="",
        assets_folder=str(HERE / "assets"),
        assets_ignore="first.js",
        title="Plimsoll",
        update_title=None,
        include_pages_meta=False,
        suppress_callback_exceptions=True,
        on_error=report_error,
        websocket_callbacks=False,
        websocket_inactivity_timeout=0,
        enable_mcp=False,
        index_string=(HERE / "page.html").read_text(),
    )
    app.layout = layout.layout
    return app


def report_error(error: Exception) -> None:
    """Log a failing callback, then let it fail: outside debug mode the backend would answer 500 and say nothing."""
    log.error("a callback failed", exc_info=error)
    raise error


async def answer_unknown_callback(_: Request, error: Exception) -> Response:
    """404 for a callback that is not there: a tab of another version asks so. Every other KeyError stays an error."""
    if "Callback function not found" not in str(error):
        raise error
    message = "this console has no such callback; reload the page"
    return JSONResponse({"error": message, "code": "unknown"}, 404)


async def warm_up(app: Dash) -> None:
    """Register what Dash registers at its first request.

    A tab that was open before a restart comes back by its socket, before any request; without this it is refused for
    ever. The name is private to Dash; a test opens a socket first.
    """
    for prepare in app.backend._before_request_funcs:
        done = prepare()
        if inspect.isawaitable(done):
            await done


def _own_routes(server: FastAPI) -> None:
    """Routes before Dash: it adds a catch-all that answers 200 to every other path."""

    @server.get("/healthz")
    async def health() -> Response:
        return JSONResponse({"ok": True})

    @server.get("/favicon.ico")
    async def favicon() -> Response:
        return Response((HERE / "assets" / "favicon.svg").read_bytes(), media_type="image/svg+xml")

    @server.get("/beat")
    async def beat() -> Response:
        """The beat for browsers without a socket; the ledger is asked for this person, so an ended session gets 401."""
        try:
            page = await person_ledger().records(1)
        except Error as error:
            return JSONResponse({"error": error.message}, error.status or 503)
        return JSONResponse({"head": page["head"], "silent": 0, "at": time.time()})

    @server.get("/places")
    async def places(search: Annotated[str, Query(max_length=200)] = "") -> Response:
        """Releases for the palette whose name has this part, the one that moved last first."""
        try:
            found = (await person_ledger().releases(search=search, limit=_PLACES)).releases
        except Error as error:
            return JSONResponse({"error": error.message}, error.status or 503)
        return JSONResponse(
            [{"name": one.release, "href": f"/release/{one.release}", "note": one.state} for one in found]
        )

    @server.get("/report/{release}")
    async def report(release: str) -> Response:
        headers = {"Content-Security-Policy": REPORT_POLICY}
        try:
            at = person_ledger()
            answer = await at.client.send(at.person.token, "GET", f"/v1/reports/{quote(release)}")
        except Error as error:
            return Response(error.message, error.status or 503, headers, "text/plain; charset=utf-8")
        return HTMLResponse(answer.content, headers=headers)


def main() -> None:
    """Serve until stopped."""
    close_to_others()
    settings = Settings()
    settings.require_safe_host()
    uvicorn.run(
        build(settings),
        host=settings.host,
        port=settings.console_port,
        http=PunctualProtocol,
        workers=1,
        log_level="warning",
        server_header=False,
    )


if __name__ == "__main__":
    main()
