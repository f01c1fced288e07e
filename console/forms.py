"""Plain HTML forms: their fields, the cookie that ties one to its browser, and where it was sent from."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import Request

#: Ties a form without a session to the browser that asked for it.
FORM_COOKIE = "plimsoll_form"
_FORM_BYTES = 8_192


async def form_lists(request: Request) -> dict[str, list[str]]:
    """The fields of a form with all their values; empty where the body is larger than a form may be."""
    if int(request.headers.get("content-length") or 0) > _FORM_BYTES:
        return {}
    body = (await request.body())[:_FORM_BYTES].decode("utf-8", "replace")
    return parse_qs(body, keep_blank_values=True)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, the last value of each."""
    return {name: values[-1] for name, values in (await form_lists(request)).items()}


def is_secure(request: Request) -> bool:
    """Whether the page came over TLS, so that cookies are for TLS only."""
    return request.url.scheme == "https"


def sent_from(request: Request) -> dict[str, str]:
    """The browser's address for the ledger, which counts failed sign-ins by it."""
    return {"X-Forwarded-For": request.client.host} if request.client else {}
