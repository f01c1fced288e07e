"""What ledger and console ask of every connection: headers and body in time, and a Host that is served here.

uvicorn has a time limit for idle connections only: one that sends a byte a minute was kept for ever.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from typing import Any, ClassVar

import orjson
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds in which all headers of a request have to arrive, and then its body; as in the gateway's HAProxy.
HEADER_SECONDS, BODY_SECONDS = 5.0, 15.0
#: Connections with an unfinished request, at a time. Beyond it the oldest is closed: a process has about 1,000 files.
MOST_UNFINISHED = 256
_REASONS = {400: b"Bad Request", 408: b"Request Timeout"}
_LATE = "the request did not arrive in time; expected its headers within {:g} s and its body within {:g} s"


class PunctualProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol that ends connections whose request does not arrive in time."""

    _unfinished: ClassVar[OrderedDict[PunctualProtocol, None]] = OrderedDict()  # oldest first, of the process's port
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._await(HEADER_SECONDS)
        while len(self._unfinished) > MOST_UNFINISHED:
            next(iter(self._unfinished))._close_late()

    def on_message_begin(self) -> None:
        """The first byte of a request came."""
        super().on_message_begin()
        if self._limit is None:  # else it began with the connection
            self._await(HEADER_SECONDS)

    def on_headers_complete(self) -> None:
        """All headers came."""
        self._await(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The whole request came."""
        self._arrived()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """The connection is a socket's from now on."""
        self._arrived()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._arrived()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._arrived()
        self._end(400, "malformed", msg)

    def _await(self, seconds: float) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self.loop.call_later(seconds, self._late)
        self._unfinished.setdefault(self)

    def _arrived(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        self._unfinished.pop(self, None)

    def _late(self) -> None:
        if self.flow.read_paused:  # the application is slow to take it, not the sender to send it
            self._await(BODY_SECONDS)
        else:
            self._close_late()

    def _close_late(self) -> None:
        self._arrived()
        self._end(408, "too_slow", _LATE.format(HEADER_SECONDS, BODY_SECONDS))

    def _end(self, status: int, code: str, message: str) -> None:
        """Close the connection, with an answer if none has begun."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            body = orjson.dumps({"error": message, "code": code})
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, _REASONS[status], len(body), body)
            )
        self.transport.close()


class HostCheck:
    """Refuses requests and sockets for a name that is not served here: so DNS rebinding from a browser arrives."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or _name(Headers(scope=scope).getlist("host")) in self._hosts:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "this host is not served here"})
        else:
            message = "the header Host names a host that is not served here; PLIMSOLL_ALLOWED_HOSTS adds names"
            refusal = JSONResponse({"error": message, "code": "host", "field": "Host"}, status_code=421)
            await refusal(scope, receive, send)


def _name(given: list[str]) -> str:
    """The name in a Host header without its port, in lower case; "" where there is not exactly one."""
    if len(given) != 1:
        return ""
    host = given[0].lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
