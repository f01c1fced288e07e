"""Transport that writes head and body of a reply to the socket at once.

uvicorn writes them one by one and uvloop sends each immediately: two system calls, and two wake-ups of HAProxy and the
customer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class JoiningTransport:
    """A transport that joins a write with the next one; alone it is sent in the loop's next iteration."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """See `asyncio.WriteTransport.write`; sent at most one loop iteration later."""
        if self._held:
            whole, self._held = (self._held, data), b""
            self._transport.writelines(whole)
        elif data:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """See `asyncio.BaseTransport.close`; what was written is sent first."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class SingleWriteProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol on a `JoiningTransport`."""

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]


def use_single_write_replies() -> None:
    """Make it the protocol of uvicorn servers started later in this process: Ray has no setting for it."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{SingleWriteProtocol.__name__}"
