"""Load generator: one process, one thread, kept connections, prepared requests, replies parsed minimally.

Closed loop: so many clients, each sends its next request when it has the reply. Open loop: requests are due at fixed
times, whether or not the earlier ones were answered, and a wait counts from the moment the request was due: a server
that stalls cannot hide it by keeping the clients from asking.
"""

from __future__ import annotations

import gc
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MOST = 2_000_000  # requests of one load
_GRACE = 10.0  # seconds that replies may take after the last request was sent
_NAP, _EXACT, _LONG, _LATE = 0.0003, 0.002, 0.1, 0.02
_HEAD_END = b"\r\n\r\n"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Taken:
    """Result of a load.

    Attributes:
        seconds: from the first request to the last reply.
        waits: seconds until the whole reply was there, from when the request was sent or, in an open loop, due.
        answered: seconds from when it was sent; the same as `waits` in a closed loop.
        skipped: requests that were due but never sent, because the load itself had no processor to send them by.
        statuses: HTTP statuses; 0 where the connection broke or no reply came in time.
    """

    seconds: float
    waits: Floats
    answered: Floats
    statuses: npt.NDArray[np.int16]
    skipped: int = 0

    @property
    def rate(self) -> float:
        """Good replies a second."""
        return float((self.statuses == 200).sum() / self.seconds)

    @property
    def failed(self) -> int:
        """Requests without a good reply."""
        return int((self.statuses != 200).sum())


def request_of(path: str, body: bytes, token: str | None = None) -> bytes:
    """A request as bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {token}\r\n" if token else ""
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def closed(
    port: int, requests: Sequence[bytes], clients: int, seconds: float, first: int = 0, most: int = _MOST
) -> Taken:
    """Closed loop: each client sends its next request on the reply.

    Args:
        first: index of the first of `requests`, which go round; so that no round repeats what one before it asked.
        most: maximum number of requests.
    """
    with _quiet(), _Load(port, requests, clients, first) as load:
        began = time.perf_counter()
        end = began + seconds
        for _ in range(clients):
            load.send(time.perf_counter())
        while load.busy:
            for _ in load.replies(0.1):
                now = time.perf_counter()
                if now < end and load.sent < most:
                    load.send(now)
            if load.busy and time.perf_counter() > end + _GRACE:
                load.give_up()
        return load.taken(began)


def opened(
    port: int,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    connections: int = 512,
    first: int = 0,
    late: float = _LATE,
) -> Taken:
    """Requests that are due `rate` times a second; what is due while no connection is free waits, and that counts.

    What is due while one is free, but this process gets no processor for `late` seconds, says nothing of the server:
    those requests are skipped and counted.
    """
    count, step = int(rate * seconds), 1.0 / rate
    with _quiet(), _Load(port, requests, connections, first) as load:
        began = time.perf_counter()
        number = skipped = 0
        while number < count or load.busy:
            now = time.perf_counter()
            if number < count and load.free:
                waited = max(began + number * step, load.freed)
                missed = min(count - number, int((now - waited) / step)) if now - waited > late else 0
                number, skipped = number + missed, skipped + missed
            while number < count and load.free and (due := began + number * step) <= now:
                load.send(due)
                number += 1
            pause = began + number * step - time.perf_counter() if number < count and load.free else _LONG
            if 0 < pause < _EXACT:  # epoll rounds up to whole milliseconds
                time.sleep(min(pause, _NAP))
                pause = 0.0
            for _ in load.replies(max(0.0, pause - _EXACT / 2)):
                pass
            if load.busy and now > began + seconds + _GRACE:
                load.give_up()
        return load.taken(began, skipped)


class _Wire:
    """One connection and the request on it."""

    __slots__ = ("answer", "due", "number", "sent", "sock", "whole")

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.answer, self.whole = sock, b"", -1
        self.due = self.sent = 0.0
        self.number = -1


class _Load:
    """Connections of one load, which of them are free, since when any is, how many were sent, what came back."""

    def __init__(self, port: int, requests: Sequence[bytes], connections: int, first: int) -> None:
        self._port, self._requests, self._next = port, requests, first
        self._selector = selectors.DefaultSelector()
        self.free = [self._connect() for _ in range(connections)]
        self._flying: set[_Wire] = set()
        self._waits, self._answered = np.zeros(_MOST), np.zeros(_MOST)
        self._statuses = np.zeros(_MOST, dtype=np.int16)
        self.sent = 0
        self._last = self.freed = 0.0

    def __enter__(self) -> _Load:
        return self

    def __exit__(self, *_: object) -> None:
        for wire in [*self.free, *self._flying]:
            wire.sock.close()
        self._selector.close()

    @property
    def busy(self) -> bool:
        """Whether a reply is outstanding."""
        return bool(self._flying)

    def send(self, due: float) -> None:
        """Send the next request on a free connection."""
        wire = self.free.pop()
        wire.number, wire.due = self.sent, due
        self.sent += 1
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        self._flying.add(wire)
        wire.sent = time.perf_counter()
        try:
            wire.sock.sendall(request)
        except OSError:
            self._broken(wire)

    def replies(self, timeout: float) -> Iterator[None]:
        """Read available bytes; yields once for each completed request."""
        for key, _ in self._selector.select(timeout):
            wire: _Wire = key.data
            try:
                data = wire.sock.recv(65_536)
            except OSError:
                data = b""
            if wire not in self._flying:
                if not data:
                    self._renew(wire)
                continue
            if not data:
                self._broken(wire)
                yield
            elif self._complete(wire, data):
                yield

    def give_up(self) -> None:
        """Count requests without a reply as failed."""
        for wire in list(self._flying):
            self._broken(wire)

    def taken(self, began: float, skipped: int = 0) -> Taken:
        """The result."""
        cut = slice(0, self.sent)
        waits, answered = self._waits[cut].copy(), self._answered[cut].copy()
        return Taken(self._last - began, waits, answered, self._statuses[cut].copy(), skipped)

    def _complete(self, wire: _Wire, data: bytes) -> bool:
        answer = wire.answer + data if wire.answer else data
        if wire.whole < 0:
            end = answer.find(_HEAD_END)
            if end < 0:
                wire.answer = answer
                return False
            wire.whole = _length(answer[:end].lower(), end + len(_HEAD_END))
        chunked = wire.whole == 0
        if (chunked and not answer.endswith(b"0\r\n\r\n")) or len(answer) < wire.whole:
            wire.answer = answer
            return False
        self._done(wire, int(answer[9:12]))
        if b"connection: close" in answer[: answer.find(_HEAD_END)].lower():
            self._renew(wire)
        return True

    def _done(self, wire: _Wire, status: int) -> None:
        now = self._last = time.perf_counter()
        number = wire.number
        self._waits[number], self._answered[number] = now - wire.due, now - wire.sent
        self._statuses[number] = status
        wire.answer, wire.whole = b"", -1
        self._flying.discard(wire)
        if not self.free:
            self.freed = now
        self.free.append(wire)

    def _broken(self, wire: _Wire) -> None:
        self._done(wire, 0)
        self._renew(wire)

    def _renew(self, wire: _Wire) -> None:
        """Another connection in place of one that was closed."""
        self._selector.unregister(wire.sock)
        wire.sock.close()
        self.free.remove(wire)
        self.free.insert(0, self._connect())

    def _connect(self) -> _Wire:
        sock = socket.create_connection(("127.0.0.1", self._port), 10.0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = _Wire(sock)
        self._selector.register(sock, selectors.EVENT_READ, wire)
        return wire


def _length(head: bytes, body: int) -> int:
    """Bytes of the whole reply; 0 where it comes in chunks."""
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    stop = head.find(b"\r\n", at + 2)
    return body + int(head[at + 17 : stop if stop > 0 else len(head)])


@contextmanager
def _quiet() -> Iterator[None]:
    """No garbage collection while something is timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
