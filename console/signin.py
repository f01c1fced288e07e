"""Signing in and out: plain server-rendered pages, because a Dash page would open a socket too early."""

from __future__ import annotations

import hmac
import secrets
from html import escape

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from console.accounts import page as accounts_page
from console.forms import FORM_COOKIE, form_of, is_secure, sent_from
from console.ledger_client import LedgerClient
from console.session import COOKIE, CSRF_COOKIE, WHO, Person, Sessions
from plimsoll.errors import Error

#: By it the ledger knows a browser again, so that guesses made elsewhere do not lock its owner out.
DEVICE_COOKIE = "plimsoll_device"
_YEAR = 365 * 24 * 3600

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · Plimsoll</title><link rel="icon" href="/assets/favicon.svg" type="image/svg+xml">
<script src="/assets/first.js"></script><link rel="stylesheet" href="/assets/tokens.css">
<link rel="stylesheet" href="/assets/console.css"></head>
<body class="sign-in"><main>
<h1><span class="mark" aria-hidden="true"></span>Plimsoll</h1>
<p class="note">Release console. Everything you do here is recorded with your name and a reason.</p>
{problem}
<form method="post" action="/sign-in">
<input type="hidden" name="form" value="{form}"><input type="hidden" name="next" value="{target}">
<label for="name">Name</label>
<input id="name" name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus
 value="{name}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit" class="button filled">Sign in</button>
</form>
<p class="note"><a href="/password">Choose a password</a> with a one-time code or the old one.
Lost it? Two admins make a new code.</p>
</main></body></html>"""


def page(form: str, target: str, *, name: str = "", problem: str = "", status: int = 200) -> HTMLResponse:
    """The sign-in page; `problem` is shown as an alert."""
    shown = f'<p class="refusal" role="alert">{escape(problem)}</p>' if problem else ""
    body = _PAGE.format(problem=shown, form=escape(form), target=escape(target), name=escape(name))
    return HTMLResponse(body, status)


def local(target: str | None) -> str:
    """A path on this console, or `/`: a link must not be able to send people elsewhere after they sign in."""
    target = target or "/"
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and "\\" not in target
    return target if plain and not any(ord(c) < 32 for c in target) else "/"


def routes(client: LedgerClient, sessions: Sessions) -> APIRouter:
    """`/sign-in` and `/sign-out`."""
    router = APIRouter()

    @router.get("/sign-in")
    async def show(request: Request) -> Response:
        target = local(request.query_params.get("next"))
        if WHO.get() is not None and "again" not in request.query_params:
            return RedirectResponse(target, 303)
        form = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(24)
        answer = page(form, target)
        answer.set_cookie(FORM_COOKIE, form, httponly=True, samesite="strict", secure=is_secure(request))
        return answer

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        form = await form_of(request)
        cookie, target = request.cookies.get(FORM_COOKIE, ""), local(form.get("next"))
        name = form.get("name", "")
        if not cookie or not hmac.compare_digest(cookie.encode(), form.get("form", "").encode()):
            return RedirectResponse("/sign-in?again=1", 303)
        try:
            sent = {"name": name, "password": form.get("password", ""), "device": request.cookies.get(DEVICE_COOKIE)}
            asked = await client.send(None, "POST", "/v1/session", json=sent, headers=sent_from(request))
            answer = asked.json()
        except Error as error:
            return page(cookie, target, name=name, problem=error.message, status=error.status or 503)
        sealed, person = sessions.seal(answer)
        target = accounts_page.PATH if person.role == accounts_page.ADMIN else target
        return _signed_in(request, target, sealed, person, answer["device"])

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        return await _leave(client, request)

    return router


async def _leave(client: LedgerClient, request: Request) -> Response:
    person, form = WHO.get(), await form_of(request)
    if person is None or not person.sent(form.get("csrf")):
        return RedirectResponse("/", 303)
    try:
        await client.send(person.token, "DELETE", "/v1/session")
    except Error as error:
        # Only 401 means that the token is gone; anything else leaves it alive and must be seen.
        if error.status != 401:
            return page("", "/", problem=f"You are still signed in: {error.message}", status=503)
    answer = RedirectResponse("/sign-in", 303)
    for stale in (COOKIE, CSRF_COOKIE):
        answer.delete_cookie(stale, samesite="strict")
    return answer


def _signed_in(request: Request, target: str, sealed: str, person: Person, device: str) -> Response:
    answer = RedirectResponse(target, 303)
    answer.set_cookie(COOKIE, sealed, httponly=True, samesite="strict", secure=is_secure(request))
    # Readable by design: the page copies it into a header, which no foreign page can do.
    answer.set_cookie(CSRF_COOKIE, person.csrf, samesite="strict", secure=is_secure(request))
    secure = is_secure(request)
    answer.set_cookie(DEVICE_COOKIE, device, max_age=_YEAR, httponly=True, samesite="strict", secure=secure)
    answer.delete_cookie(FORM_COOKIE, samesite="strict")
    return answer
