"""A receiver of OpenLineage events, and what an outbox sends."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any, ClassVar

import orjson

from lineage.ledger import Ledger
from lineage.openlineage.events import Translator, encode
from lineage.openlineage.outbox import Outbox

SECONDS = 60
Answer = Callable[[int, bytes], int]


class Receiver:
    """A real HTTP server: keeps every body it was sent and answers each as it is told to."""

    def __init__(self, port: int = 0, tls: tuple[Path, Path] | None = None) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Answer = lambda number, body: 201
        self.arrived: Queue[bytes] = Queue()
        self.reply = b"{}"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm: ClassVar[bool] = True

            def do_POST(self) -> None:
                outer.take(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}/api/v1/lineage"

    def take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()} | {"path": request.path})
        status = self.answer(len(self.bodies), body)
        with suppress(OSError):  # who asked may be gone
            request.send_response(status)
            request.send_header("Content-Length", str(len(self.reply)))
            request.send_header("Location", "/elsewhere")
            request.end_headers()
            request.wfile.write(self.reply)
        self.arrived.put(body)

    def wait(self, count: int) -> None:
        """Until so many bodies were answered."""
        for _ in range(count):
            self.arrived.get(timeout=SECONDS)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def running(outbox: Outbox) -> Iterator[Outbox]:
    outbox.start()
    try:
        yield outbox
    finally:
        outbox.close(SECONDS)


def all_of(ledger: Ledger, namespace: str = "plimsoll") -> list[bytes]:
    translator = Translator(ledger.records, namespace)
    return [encode(event) for record in ledger.records for event in translator.events(record)]


def drain(outbox: Outbox) -> None:
    """Deliver until everything is told; a failure is an error here."""
    while (wait := outbox.step()) is not None:
        assert wait == 0.0, outbox.state()


def dead_letters(outbox: Outbox) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in outbox.dead_letters.read_bytes().splitlines()]
