"""Access middleware: session, CSRF and security headers for every request and socket.

A plain ASGI class, because `BaseHTTPMiddleware` never sees a websocket. Without a session there are only the sign-in
page, static assets and `/healthz`.
"""

from __future__ import annotations

from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.ledger_client import CLIENT, LedgerClient
from console.session import COOKIE, WHO, Person, Sessions

OPEN = frozenset({"/healthz", "/sign-in", "/password", "/favicon.ico", "/_favicon.ico"})
_OPEN_FOLDER = "/assets/"
#: These read their token from the form themselves.
FORMS = ("/sign-in", "/sign-out", "/password")
ACCOUNTS, ADMIN = "/accounts", "admin"
CSRF_HEADER = "x-csrftoken"

_FIXED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


def content_policy(hashes: list[str]) -> str:
    """The content security policy of console pages: no eval, no inline script but those with a hash.

    `style-src 'unsafe-inline'` stays: the component libraries add style elements; style attributes are barred.
    """
    scripts = " ".join(["'self'", *hashes])
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; style-src-attr 'none'; "
        "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
    )


def may_open(person: Person, path: str) -> bool:
    """Whether the page is one for this person: accounts are for admins, everything else is for all others."""
    own = path == ACCOUNTS or path.startswith(f"{ACCOUNTS}/")
    if person.role != ADMIN:
        return not own
    return own or path in OPEN or path == "/sign-out" or path.startswith(_OPEN_FOLDER)


class AccessMiddleware:
    """Lets requests and sockets through to the application; it wraps all of it.

    Args:
        hashes: gives the inline scripts' hashes. Asked at response time: Dash adds one at its first request.
        is_known: whether there is something at a path; Dash answers every other one with 200 and its shell.
    """

    def __init__(
        self,
        app: ASGIApp,
        sessions: Sessions,
        client: LedgerClient,
        hashes: Callable[[], list[str]],
        is_known: Callable[[str], bool],
    ) -> None:
        self.app = app
        self._client = client
        self._sessions = sessions
        self._hashes = hashes
        self._is_known = is_known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        person, path = self._person_of(scope), scope["path"]
        guarded = self._headers(scope, send)
        if person is None and path not in OPEN and not path.startswith(_OPEN_FOLDER):
            await self._refuse(scope, receive, guarded)
            return
        if person is not None and not may_open(person, path):
            await self._elsewhere(person, scope, receive, guarded)
            return
        own_token = path in FORMS or path.startswith(f"{ACCOUNTS}/")
        changes = scope["method"] not in ("GET", "HEAD", "OPTIONS") and not own_token
        if changes and (person is None or not person.sent(Headers(scope=scope).get(CSRF_HEADER))):
            refusal = JSONResponse({"error": "this request does not carry its session's token; reload"}, 403)
            await refusal(scope, receive, guarded)
            return
        await self._as(person, scope, receive, guarded)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        person = self._person_of(scope)
        if person is None or not may_open(person, scope["path"]):
            await receive()
            await send({"type": "websocket.close", "code": 4001, "reason": "sign in"})
            return
        scope["person"] = person
        await self._as(person, scope, receive, send)

    async def _as(self, person: Person | None, scope: Scope, receive: Receive, send: Send) -> None:
        before, client = WHO.set(person), CLIENT.set(self._client)
        try:
            await self.app(scope, receive, send)
        finally:
            CLIENT.reset(client)
            WHO.reset(before)

    def _person_of(self, scope: Scope) -> Person | None:
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(Headers(scope=scope).get("cookie", ""))
        except CookieError:
            return None
        return self._sessions.open(jar[COOKIE].value) if COOKIE in jar else None

    async def _elsewhere(self, person: Person, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET" or scope["path"].startswith("/_dash-"):
            await JSONResponse({"error": f"role {person.role} may not open this"}, 403)(scope, receive, send)
            return
        await RedirectResponse(ACCOUNTS if person.role == ADMIN else "/", 303)(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["method"] != "GET" or path.startswith("/_dash-"):
            await JSONResponse({"error": "sign in first"}, 401)(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        target = quote(path + (f"?{query}" if query else ""), safe="")
        await RedirectResponse(f"/sign-in?next={target}", 303)(scope, receive, send)

    def _headers(self, scope: Scope, send: Send) -> Send:
        static = scope["path"].startswith(("/assets/", "/_dash-component-suites/"))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                shell = message["status"] == 200 and headers.get("content-type", "").startswith("text/html")
                if shell and not self._is_known(scope["path"]):
                    message["status"] = 404  # the page says so, too
                for name, value in _FIXED.items():
                    headers[name] = value
                if scope.get("scheme") == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
                if not static:
                    headers["Cache-Control"] = "no-store"
                if "content-security-policy" not in headers:
                    headers["Content-Security-Policy"] = content_policy(self._hashes())
            await send(message)

        return with_headers
