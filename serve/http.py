"""Requests read with limits, and answers written: every error is JSON that names what was expected."""

from __future__ import annotations

import hmac
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from lineage.errors import InvalidError, PlimsollError, RefusedError

BODY_MOST = 1024 * 1024
_JSON = "application/json"


class RequestError(InvalidError):
    """The request cannot be understood at all."""

    def __init__(self, message: str, status: int, code: str, field: str | None = None, **detail: Any) -> None:
        super().__init__(message, field=field, **detail)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Caller:
    """The account behind a token."""

    name: str
    role: str


def reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(content), status, dict(headers or {}), _JSON)


def error_reply(error: PlimsollError) -> Response:
    """The answer to what went wrong; `Allow` and `WWW-Authenticate` are set where HTTP wants them."""
    headers = {}
    if error.status == 405:
        headers["Allow"] = str(error.detail.get("allowed", ""))
    elif error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return reply(error.body(), error.status, headers)


def caller_of(authorization: str | None, tokens: Mapping[str, tuple[str, str]]) -> Caller:
    """Who asks. Every known hash is compared in constant time.

    Raises:
        RefusedError: there is no bearer token (401), or nobody knows it (401).
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise RefusedError("send the header `Authorization: Bearer <token>`", code="no_token", status=401)
    digest = sha256(token.strip().encode()).hexdigest()
    found = None
    for known, who in tokens.items():
        if hmac.compare_digest(known, digest):
            found = Caller(*who)
    if found is None:
        raise RefusedError("this token is not known or has expired; sign in again", code="unknown_token", status=401)
    return found


def require_role(caller: Caller, role: str, what: str) -> None:
    """Refuse callers of another role.

    Raises:
        RefusedError: 403.
    """
    if caller.role != role:
        raise RefusedError(f"{what} is for role {role}; {caller.name} has role {caller.role}", code="role", status=403)


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object, at most 1 MiB, also after decompression.

    Raises:
        RequestError: too large (413), an encoding other than gzip (415), not JSON or not an object (400).
    """
    body = await _read(request)
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "gzip":
        body = _gunzip(body)
    elif encoding != "identity":
        raise RequestError(
            f"content encoding {encoding!r} is not known; expected gzip or none", 415, "encoding", "Content-Encoding"
        )
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}; expected an object", 400, "malformed", "body") from error
    if not isinstance(content, dict):
        raise RequestError(f"the body is a {type(content).__name__}; expected an object", 400, "malformed", "body")
    return content


async def _read(request: Request) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > BODY_MOST:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MOST:
            raise _too_large()
    return bytes(body)


def _gunzip(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(body, BODY_MOST + 1)
    except zlib.error as error:
        raise RequestError(f"the body is not gzip: {error}", 400, "malformed", "body") from error
    if len(content) > BODY_MOST or unpacker.unconsumed_tail:
        raise _too_large()
    return content


def _too_large() -> RequestError:
    return RequestError(f"the body is larger than {BODY_MOST} bytes; send fewer rows", 413, "too_large", "body")
