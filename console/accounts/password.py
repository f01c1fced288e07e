"""The page on which a person chooses a password, by a one-time code or by the old password."""

from __future__ import annotations

import hmac
import secrets

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from console.accounts.page import templates
from console.forms import FORM_COOKIE, form_of, is_secure, sent_from
from console.ledger_client import LedgerClient
from plimsoll.errors import Error

PATH = "/password"


def routes(client: LedgerClient) -> APIRouter:
    """`/password`."""
    router = APIRouter()

    @router.get(PATH)
    async def show(request: Request) -> Response:
        form = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(24)
        answer = _page(form, request.query_params.get("name", ""))
        answer.set_cookie(FORM_COOKIE, form, httponly=True, samesite="strict", secure=is_secure(request))
        return answer

    @router.post(PATH)
    async def choose(request: Request) -> Response:
        form, cookie = await form_of(request), request.cookies.get(FORM_COOKIE, "")
        name = form.get("name", "")
        if not cookie or not hmac.compare_digest(cookie.encode(), form.get("form", "").encode()):
            return RedirectResponse(PATH, 303)
        body = {"name": name, "new": form.get("new", "")}
        body |= {field: form[field] for field in ("code", "old") if form.get(field)}
        try:
            await client.send(None, "POST", "/v1/password", json=body, headers=sent_from(request))
        except Error as error:
            return _page(cookie, name, error.message, error.status or 503)
        return RedirectResponse("/sign-in?again=1", 303)

    return router


def _page(form: str, name: str, problem: str = "", status: int = 200) -> HTMLResponse:
    shown = templates.get_template("password.html").render(
        title="Choose a password", form=form, name=name, problem=problem
    )
    return HTMLResponse(shown, status)
