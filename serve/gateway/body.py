"""Reader of request bodies: limits of size and time, content types, and decompression within the limit."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection

from starlette.requests import Request

from serve.gateway.messages import ENCODINGS, Headers, RequestError

BODY_MOST = 1024 * 1024
#: A request whose body has not arrived by then is refused; the ingress would wait three times as long.
READ_SECONDS = 10.0
_WINDOWS = {b"gzip": 31, b"deflate": 15}  # zlib's `wbits`; deflate means the zlib form (RFC 9110, 8.4.1.2)


async def read_body(request: Request, headers: Headers, types: Collection[str], seconds: float = READ_SECONDS) -> bytes:
    """Read and decompress a body of at most 1 MiB.

    Args:
        types: accepted content types; "" stands for none.
        seconds: time limit for the body to arrive.

    Raises:
        RequestError: another content type or encoding (415), too large (413), too slow (408), cut short or in pieces
            that cannot be read (400).
    """
    _check_type(headers.get(b"content-type", b""), types)
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding != b"identity":
        encoding = encoding.lower()
        if encoding not in _WINDOWS:
            raise _encoding(encoding)
    coding = headers.get(b"transfer-encoding", b"chunked")
    if coding.lower() != b"chunked":
        shown = coding.decode("latin-1")[:60]
        message = f"transfer encoding {shown!r} is not possible here; expected chunked"
        raise RequestError(message, 400, "malformed", "Transfer-Encoding")
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced[:20]) > BODY_MOST:
        raise _too_large()
    try:
        async with asyncio.timeout(seconds):
            body = await _receive(request)
    except TimeoutError as error:
        message = f"the body did not arrive within {seconds:g} s; expected it with the request"
        raise RequestError(message, 408, "too_slow", "body") from error
    return body if encoding == b"identity" else _unpack(body, encoding)


async def _receive(request: Request) -> bytes:
    receive = request.receive
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("the caller went away before the body was whole", 400, "cut_short", "body")
        body += message.get("body", b"")
        if len(body) > BODY_MOST:
            raise _too_large()
        if not message.get("more_body", False):
            return body


def _check_type(given: bytes, types: Collection[str]) -> None:
    kind = given.decode("latin-1").partition(";")[0].strip().lower()
    if kind not in types:
        expected = " or ".join(kind for kind in types if kind)
        shown = repr(kind[:60]) if kind else "missing"
        raise RequestError(f"the content type is {shown}; expected {expected}", 415, "content_type", "Content-Type")


def _unpack(body: bytes, encoding: bytes) -> bytes:
    name = encoding.decode()
    unpacker = zlib.decompressobj(_WINDOWS[encoding])
    try:
        content = unpacker.decompress(body, BODY_MOST + 1)
    except zlib.error as error:
        raise RequestError(f"the body is not {name}: {error}", 400, "malformed", "body") from error
    if len(content) > BODY_MOST or unpacker.unconsumed_tail:
        raise _too_large()
    if not unpacker.eof or unpacker.unused_data:
        what = "goes on behind the end of" if unpacker.eof else "ends before the end of"
        raise RequestError(f"the body {what} its {name}; expected one whole piece", 400, "malformed", "body")
    return content


def _encoding(given: bytes) -> RequestError:
    shown, expected = given.decode("latin-1")[:60], " or ".join(ENCODINGS)
    message = f"content encoding {shown!r} is not known; expected {expected} or none"
    return RequestError(message, 415, "encoding", "Content-Encoding")


def _too_large() -> RequestError:
    return RequestError(f"the body is larger than {BODY_MOST} bytes; send fewer rows", 413, "too_large", "body")
