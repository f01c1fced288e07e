"""A replica, as an ASGI application, that delays answers until a test releases them."""

from __future__ import annotations

import asyncio
import threading

from starlette.types import Receive, Scope, Send


class Replica:
    """A replica that delays answers until `go` is called."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.came = threading.Semaphore(0)
        self.headers: dict[bytes, bytes] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._go: asyncio.Event | None = None

    def go(self) -> None:
        """Answer what is held, and from now on at once."""
        assert self._loop is not None
        assert self._go is not None
        self._loop.call_soon_threadsafe(self._go.set)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What a replica does, as an ASGI application."""
        if self._loop is None or self._go is None:
            self._loop, self._go = asyncio.get_running_loop(), asyncio.Event()
        while (await receive()).get("more_body"):
            pass
        self.headers = dict(scope["headers"])
        if scope["path"].startswith("/decide/"):
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.came.release()
            await self._go.wait()
            self.inside -= 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})
