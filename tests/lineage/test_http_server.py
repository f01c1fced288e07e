"""Connections whose request does not arrive in time end; requests for other hosts are refused."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lineage import http_server
from lineage.http_server import HostCheck, PunctualProtocol
from lineage.settings import Settings

_LONG = 60.0


async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """An application that answers with the body of the request, for the hosts `localhost` and `[::1]`."""
    app = HostCheck(Starlette(routes=[Route("/", echo, methods=["GET", "POST"])]), ["localhost", "[::1]"])
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Server(uvicorn.Config(app, http=PunctualProtocol, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    assert started.wait(_LONG)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(_LONG)
    listener.close()


@contextmanager
def sent(port: int, data: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), _LONG) as connection:
        connection.sendall(data)
        yield connection


def until_closed(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the last answer; 0 where the connection was closed without one."""
    data = b""
    while part := connection.recv(65_536):
        data += part
    head, _, body = data.rpartition(b"\r\n\r\n")
    return int(head.rpartition(b"HTTP/1.1 ")[2][:3] or 0), body


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: a",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: loc",  # on a kept connection
    ],
)
def test_a_request_whose_headers_do_not_come_ends(begun: bytes, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEADER_SECONDS", 0.05)
    with sent(port, begun) as connection:
        status, body = until_closed(connection)
    assert (status, json.loads(body)["code"]) == (408, "too_slow")


def test_a_request_whose_body_does_not_come_ends(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "BODY_SECONDS", 0.05)
    with sent(port, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab") as connection:
        assert until_closed(connection)[0] in (0, 408), "closed; the application may not have begun to answer"


def test_a_flood_of_unfinished_requests_ends_the_oldest(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MOST_UNFINISHED", 3)
    waiting = [socket.create_connection(("127.0.0.1", port), _LONG)]
    try:
        for _ in range(3):
            waiting.append(socket.create_connection(("127.0.0.1", port), _LONG))
        assert until_closed(waiting[0])[0] == 408
        waiting[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert until_closed(waiting[-1])[0] == 200
    finally:
        for connection in waiting:
            connection.close()


def test_no_http_is_refused_in_json(port: int) -> None:
    with sent(port, b"\x16\x03\x01\x02\x00 not HTTP\r\n\r\n") as connection:
        status, body = until_closed(connection)
    assert (status, json.loads(body)["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("Host: localhost\r\n", 200),
        ("Host: LocalHost:7411\r\n", 200),
        ("Host: [::1]:7411\r\n", 200),
        ("Host: rebound.example\r\n", 421),
        ("Host: localhost.rebound.example\r\n", 421),
        ("Host: localhost\r\nHost: rebound.example\r\n", 421),
        ("Host: \r\n", 421),
        ("", 421),
    ],
)
def test_only_requests_for_this_host_are_answered(host: str, status: int, port: int) -> None:
    with sent(port, f"GET / HTTP/1.1\r\n{host}Connection: close\r\n\r\n".encode()) as connection:
        assert until_closed(connection)[0] == status


def test_further_names_are_a_setting() -> None:
    assert Settings().host_names == ("127.0.0.1", "localhost", "[::1]")
    more = Settings(host="10.0.0.4", allowed_hosts="Ledger.bank.example, ,console.bank.example")
    assert more.host_names[3:] == ("10.0.0.4", "ledger.bank.example", "console.bank.example")
