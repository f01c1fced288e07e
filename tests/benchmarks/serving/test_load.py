"""The load generator against a minimal server: every reply is seen whole and timed from the right moment."""

from __future__ import annotations

import math
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.serving.load import closed, opened, request_of

Answer = Callable[[int], list[bytes] | None]
LONG = 60.0  # seconds that no test takes: they end with `most`
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Counted:
    """Numbers the requests of all connections."""

    def __init__(self) -> None:
        self._lock, self.count = threading.Lock(), 0
        self.bodies: list[bytes] = []

    def next(self, body: bytes) -> int:
        with self._lock:
            self.count += 1
            self.bodies.append(body)
            return self.count


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[int, Counted]]:
    """A server that sends the pieces of `answer(number)`, or closes the connection where that is None."""
    seen = Counted()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline():
                length = 0
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    length = int(value) if name == b"Content-Length" else length
                pieces = answer(seen.next(self.rfile.read(length)))
                if pieces is None:
                    return
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                if b"connection: close" in pieces[0]:
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, request_queue_size = True, 64

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1], seen
        finally:
            server.shutdown()
            thread.join()


def requests(count: int = 8) -> list[bytes]:
    return [request_of("/", b"%d" % number) for number in range(count)]


def test_a_closed_loop_sees_a_reply_to_every_request() -> None:
    with serving(lambda _: [GOOD]) as (port, seen):
        taken = closed(port, requests(), clients=4, seconds=LONG, most=40)
    assert len(taken.statuses) == seen.count == 40
    assert (taken.statuses == 200).all()
    assert (taken.waits > 0).all()
    assert taken.failed == 0
    assert taken.rate > 0


def test_requests_go_round_from_where_one_says() -> None:
    with serving(lambda _: [GOOD]) as (port, seen):
        closed(port, requests(3), clients=1, seconds=LONG, first=2, most=4)
    assert seen.bodies == [b"2", b"0", b"1", b"2"]


def test_replies_in_pieces_and_in_chunks_are_read_whole() -> None:
    pieces = [b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Le", b"ngth: 4\r\n\r\nbu", b"sy"]
    chunks = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\n", b"0\r\n\r\n"]
    with serving(lambda number: pieces if number % 2 else chunks) as (port, _):
        taken = closed(port, requests(), clients=1, seconds=LONG, most=4)
    assert taken.statuses.tolist() == [503, 200, 503, 200]


def test_a_connection_that_breaks_is_a_failure_and_the_next_request_has_a_new_one() -> None:
    with serving(lambda number: None if number == 2 else [GOOD]) as (port, _):
        taken = closed(port, requests(), clients=1, seconds=LONG, most=4)
    assert taken.statuses.tolist() == [200, 0, 200, 200]
    assert taken.failed == 1


def test_a_connection_that_the_server_ends_politely_is_made_anew() -> None:
    ending = b"HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    with serving(lambda number: [ending if number % 2 else GOOD]) as (port, _):
        taken = closed(port, requests(), clients=1, seconds=LONG, most=4)
    assert taken.statuses.tolist() == [503, 200, 503, 200]


def test_an_open_loop_asks_as_often_as_it_should() -> None:
    with serving(lambda _: [GOOD]) as (port, seen):
        taken = opened(port, requests(), rate=400, seconds=0.25, connections=4, late=math.inf)
    assert len(taken.statuses) == seen.count == 100
    assert (taken.statuses == 200).all()


def test_waits_count_from_when_a_request_was_due_so_that_a_stalling_server_cannot_hide_them() -> None:
    def slowly(_: int) -> list[bytes]:
        time.sleep(0.02)  # a slow server; nothing is timed by it
        return [GOOD]

    with serving(slowly) as (port, _):
        taken = opened(port, requests(), rate=1000, seconds=0.01, connections=1, late=math.inf)
    assert len(taken.statuses) == 10
    assert (taken.waits >= taken.answered).all()
    assert (np.diff(taken.waits) > 0).all()  # each was due long before the one before it was answered


def test_what_the_load_itself_was_too_late_to_send_is_skipped_and_counted() -> None:
    with serving(lambda _: [GOOD]) as (port, seen):
        taken = opened(port, requests(), rate=1000, seconds=0.1, connections=4, late=-1.0)  # any send is too late
    assert taken.skipped + len(taken.statuses) == 100
    assert seen.count == len(taken.statuses)
