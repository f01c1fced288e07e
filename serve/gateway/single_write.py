"""Head and body of a reply in one write to the socket. uvicorn writes them one by one, and uvloop sends each at once:
two system calls here, two wake-ups of HAProxy and of the customer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class JoiningTransport:
    """A transport that holds what is written until the next write, which it goes out with, or the loop's next turn."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """As a transport's, at most a turn of the loop later."""
        if self._held:
            whole, self._held = (self._held, data), b""
            self._transport.writelines(whole)
        elif data:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """As a transport's: what was written goes out first."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class SingleWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol on a transport that joins writes."""

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]


def use_single_write_replies() -> None:
    """Have servers that are started in this process from now on do so: Ray gives its server no settings for it."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{SingleWriteProtocol.__name__}"
