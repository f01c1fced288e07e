"""Replies in one write: the same bytes as uvicorn's own, in fewer writes, without delay."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.gateway.single_write import SingleWriteProtocol, use_single_write_replies

SECONDS = 20.0
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Spy:
    """Passes on to a real transport and counts the writes."""

    def __init__(self, transport: Any, counts: list[int]) -> None:
        self._transport, self._counts = transport, counts

    def write(self, data: bytes) -> None:
        self._counts[0] += 1
        self._transport.write(data)

    def writelines(self, parts: Any) -> None:
        self._counts[0] += 1
        self._transport.writelines(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def ordinary(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(b'{"score":0.5}', headers={"x-decision-id": "7"})(scope, receive, send)


async def empty(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(status_code=204)(scope, receive, send)


async def chunked(scope: Scope, receive: Receive, send: Send) -> None:
    async def parts() -> Any:
        for part in (b"one", b"two", b"three"):
            yield part

    await StreamingResponse(parts())(scope, receive, send)


async def reader(scope: Scope, receive: Receive, send: Send) -> None:
    """Wants the body, which the caller sends only when told to go on."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await Response(body)(scope, receive, send)


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("so that uvicorn answers")


async def talked(
    app: Callable[..., Awaitable[None]],
    protocol: type[HttpToolsProtocol],
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]],
) -> tuple[bytes, int]:
    """What was received, the date left out, and how many writes that took."""
    counts = [0]

    class Counted(protocol):  # type: ignore[valid-type,misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(Spy(transport, counts))

    config = uvicorn.Config(app, http=Counted, lifespan="off", log_config=None, log_level="critical", port=0)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with asyncio.timeout(SECONDS):
        streams = await asyncio.open_connection("127.0.0.1", port)
        found = await talk(*streams)
        streams[1].close()
        server.should_exit = True
        await task
    return re.sub(rb"date: [^\r]+", b"date: ", found), counts[0]


def saying(*requests: bytes) -> Callable[..., Awaitable[bytes]]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for request in requests:
            writer.write(request)
        return await reader.read()

    return talk


async def told_to_go_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
    )
    first = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"body")
    return first + await reader.read()


CASES: dict[str, tuple[Any, Any, int, int]] = {  # application, what the caller says, writes of uvicorn and of ours
    "ordinary": (ordinary, saying(LAST), 2, 1),
    "kept connection": (ordinary, saying(GET, LAST), 4, 2),
    "three at once": (ordinary, saying(GET + GET + LAST), 6, 3),
    "head": (ordinary, saying(LAST.replace(b"GET", b"HEAD")), 1, 1),
    "no content": (empty, saying(LAST), 2, 1),
    "in chunks": (chunked, saying(LAST), 5, 3),
    "told to go on": (reader, told_to_go_on, 3, 2),
    "an error of the application": (failing, saying(LAST), 2, 1),
    "no request": (ordinary, saying(b"nonsense\r\n\r\n"), 1, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_bytes_in_fewer_writes(case: str) -> None:
    app, talk, theirs, most = CASES[case]
    plain, writes = uvloop.run(talked(app, HttpToolsProtocol, talk))
    ours, fewer = uvloop.run(talked(app, SingleWriteProtocol, talk))
    assert ours == plain != b""
    assert (writes, fewer) == (theirs, most)


def test_what_is_followed_by_nothing_goes_out_too() -> None:
    """A reply whose next part waits for the caller to have the first."""

    async def story() -> tuple[bytes, int]:
        first_is_there = asyncio.Event()

        async def waits(scope: Scope, receive: Receive, send: Send) -> None:
            async def parts() -> Any:
                yield b"first"
                await first_is_there.wait()
                yield b"second"

            await StreamingResponse(parts())(scope, receive, send)

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
            writer.write(LAST)
            start = await reader.readuntil(b"first\r\n")
            first_is_there.set()
            return start + await reader.read()

        return await talked(waits, SingleWriteProtocol, talk)

    found, _ = uvloop.run(story())
    assert found.endswith(b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n")


def test_servers_that_are_started_afterwards_do_so() -> None:
    use_single_write_replies()
    config = uvicorn.Config(ordinary, log_config=None)
    config.load()
    assert config.http_protocol_class is SingleWriteProtocol
