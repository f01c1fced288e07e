"""HTTP messages: request headers within limits, callers by token, JSON replies, compression and error replies."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response

from lineage.errors import InvalidError, PlimsollError, RefusedError

HEADERS_MOST = 100
HEADER_BYTES_MOST = 32 * 1024
#: Replies of fewer bytes are not compressed: sending them takes less time than compressing.
PACK_LEAST = 4096
ENCODINGS = ("gzip", "deflate")
JSON, BINARY = "application/json", "application/octet-stream"
#: Why a request is refused, by HTTP status, and the header that HTTP wants beside it.
REFUSALS: Mapping[int, tuple[str, str | None]] = {
    400: (
        "The request or its body cannot be read: no JSON, a name or header twice, cut short, a path with `//`.",
        None,
    ),
    401: ("No token, or one that is not known.", "WWW-Authenticate"),
    403: ("Not for the caller's role, or not the release that would answer.", None),
    404: ("There is no such model, version or path.", None),
    405: ("Another method is right; the header Allow says which.", "Allow"),
    408: ("The body did not arrive in time.", None),
    409: ("The Idempotency-Key came with another body before.", None),
    413: ("The body is too large, also after decompression, or has too many rows.", None),
    415: ("Another content type or encoding is expected.", "Accept-Encoding"),
    421: ("The name in Host is not one of this server.", None),
    422: ("A value is not what is expected; `field` names it.", None),
    431: (f"More than {HEADERS_MOST} headers, or {HEADER_BYTES_MOST} bytes of them.", None),
    503: ("No verified model may or can answer, it could not be recorded, or there is too much to do.", "Retry-After"),
}
#: Statuses that close the connection. 413 does not: a caller that is still sending would see a reset and no reply.
_CLOSING = (408,)
#: Headers that the gateway interprets: a second one of the same name would be ambiguous.
_SINGLE = frozenset(
    b"authorization content-encoding content-length content-type host idempotency-key "
    b"inference-header-content-length transfer-encoding".split()
)
_LEVEL = 1  # compression level: the highest takes five times as long to save another tenth

Headers = Mapping[bytes, bytes]


class RequestError(InvalidError):
    """The request cannot be parsed as HTTP for this gateway; `status` and `code` say why."""

    def __init__(self, message: str, status: int, code: str, field: str | None = None, **detail: Any) -> None:
        super().__init__(message, field=field, **detail)
        self.status, self.code = status, code


class Caller(NamedTuple):
    """The account behind a token."""

    name: str
    role: str


def headers_of(request: Request) -> Headers:
    """Request headers by name in lower case.

    Raises:
        RequestError: too many or too long (431), or an interpreted header given twice (400).
    """
    pairs = request.scope["headers"]
    if len(pairs) > HEADERS_MOST:
        raise RequestError(f"{len(pairs)} headers are too many; send at most {HEADERS_MOST}", 431, "headers", "headers")
    headers: dict[bytes, bytes] = dict(pairs)
    if len(headers) != len(pairs):
        _refuse_doubles([name for name, _ in pairs])
    size = sum(map(len, headers)) + sum(map(len, headers.values()))
    if size > HEADER_BYTES_MOST:
        message = f"the headers have {size} bytes; send at most {HEADER_BYTES_MOST}"
        raise RequestError(message, 431, "headers", "headers")
    return headers


def _refuse_doubles(names: list[bytes]) -> None:
    for name in _SINGLE.intersection(names):
        if names.count(name) > 1:
            shown = name.decode("latin-1")
            raise RequestError(f"header {shown!r} is there twice; expected once", 400, "malformed", shown)


def check_host(headers: Headers, hosts: Collection[str]) -> None:
    """Refuse requests for another host, which is how DNS rebinding from a browser would arrive.

    Args:
        hosts: accepted names and addresses, without port.

    Raises:
        RequestError: another host (421), or none (400).
    """
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if not host:
        raise RequestError("the header Host is missing; expected it", 400, "malformed", "Host")
    name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    if name not in hosts:
        raise RequestError(f"host {host[:100]!r} is not served here; expected {', '.join(hosts)}", 421, "host", "Host")


def caller_of(authorization: str | None, tokens: Mapping[str, tuple[str, str]]) -> Caller:
    """The account that a bearer token belongs to.

    The token is looked up by its SHA-256. The time of the look-up may depend on the hash, which reveals nothing about
    tokens: a caller cannot choose a token's hash, and a known hash does not authenticate.

    Args:
        tokens: SHA-256 of a token -> (account, role).

    Raises:
        RefusedError: there is no bearer token, or it is unknown (401).
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if not token or scheme.lower() != "bearer":
        raise RefusedError("send the header `Authorization: Bearer <token>`", code="no_token", status=401)
    found = tokens.get(sha256(token.encode()).hexdigest())
    if found is None:
        raise RefusedError("this token is not known or has expired; sign in again", code="unknown_token", status=401)
    return Caller(*found)


def require_role(caller: Caller, role: str, what: str) -> None:
    """Refuse callers of another role.

    Raises:
        RefusedError: the caller has another role (403).
    """
    if caller.role != role:
        raise RefusedError(f"{what} is for role {role}; {caller.name} has role {caller.role}", code="role", status=403)


def reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON reply."""
    return Response(orjson.dumps(content), status, headers, JSON)


def compress_reply(response: Response, accepted: bytes | None) -> None:
    """Compress a reply in place if it is large and the caller accepts an encoding.

    Args:
        accepted: value of the request's header Accept-Encoding.
    """
    body = bytes(response.body)
    if len(body) < PACK_LEAST:
        return
    response.headers["Vary"] = "Accept-Encoding"
    encoding = _accepted_encoding(accepted)
    if encoding is None:
        return
    response.body = gzip.compress(body, _LEVEL, mtime=0) if encoding == "gzip" else zlib.compress(body, _LEVEL)
    response.headers["Content-Encoding"] = encoding
    response.headers["Content-Length"] = str(len(response.body))


def _accepted_encoding(accepted: bytes | None) -> str | None:
    """The supported encoding with the highest quality value, or None."""
    quality = {}
    for part in (accepted or b"").decode("latin-1").lower().split(","):
        name, _, options = part.partition(";")
        quality[name.strip()] = _quality(options)
    weights = {encoding: quality.get(encoding, quality.get("*", 0.0)) for encoding in ENCODINGS}
    best = max(ENCODINGS, key=lambda encoding: weights[encoding])
    return best if weights[best] > 0 else None


def _quality(options: str) -> float:
    name, _, value = options.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0  # an unreadable quality value counts as not accepted


def error_reply(error: PlimsollError) -> Response:
    """The JSON reply for an error, with the headers that its status requires."""
    headers = {}
    if error.status == 405:
        headers["Allow"] = str(error.detail.get("allowed", ""))
    elif error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    elif error.status == 415:
        headers["Accept-Encoding"] = ", ".join(ENCODINGS)
    elif error.status == 503 and error.code != "killed":  # retrying does not help
        headers["Retry-After"] = "1"
    elif error.status in _CLOSING:
        headers["Connection"] = "close"
    return reply(error.body(), error.status, headers)
