"""Open-loop load in a thread of its own: requests at a steady rate, without retries, every reply kept.

A request is due whether or not earlier ones were answered. Replies are compared with the record
afterwards, so each is read whole.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import polars as pl

from benchmarks.faults.history import RECEIVED

_IDLE = 5.0  # seconds after which a kept connection is not used again: the server may close it at that moment
_PATIENCE = 40.0  # HAProxy gives up after 35 s
_LENGTH = b"\r\ncontent-length:"


@dataclass(frozen=True)
class Question:
    """A request as bytes, and the customer keys, one for each row."""

    content: bytes
    model: str
    keys: Sequence[str]


@dataclass
class Reply:
    """Result of one request; times are seconds since the epoch, status 0 where there was no complete reply.

    `due` is when it should have been sent. `rows` has decision id, release, digest and role of each row.
    """

    model: str
    keys: Sequence[str]
    due: float
    asked: float
    answered: float = 0.0
    status: int = 0
    replica: str = ""
    rows: list[tuple[str, str, str | None, str]] = field(default_factory=list)
    problem: str = ""

    @property
    def good(self) -> bool:
        """Whether every row was decided."""
        return self.status == 200 and len(self.rows) == len(self.keys)


class Customers:
    """A load that runs from `with` to its end.

    Args:
        ask: makes the next question when it is due, in the load's own thread.
        rate: questions a second; None for a closed loop of `most` customers.
        most: questions under way at a time.
    """

    def __init__(
        self, port: int, ask: Callable[[int], Question], *, rate: float | None = 100.0, most: int = 256
    ) -> None:
        self._port, self._ask, self._rate, self._most = port, ask, rate, most
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="customers", daemon=True)
        self._free: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self.replies: list[Reply] = []
        self.good = 0
        self._news = threading.Condition()

    def __enter__(self) -> Customers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE + 10.0)

    def until(self, enough: Callable[[Reply], bool], seconds: float, *, since: float) -> Reply | None:
        """Wait for a reply to a request sent after `since` that satisfies `enough`; None when time is up."""
        deadline, seen = time.monotonic() + seconds, 0
        with self._news:
            while True:
                for reply in self.replies[seen:]:
                    if reply.asked >= since and enough(reply):
                        return reply
                seen = len(self.replies)
                if not self._news.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    return None

    async def _run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        began, number = time.time(), 0
        while not self._stop.is_set():
            while len(tasks) >= self._most:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            due = time.time() if self._rate is None else began + number / self._rate
            if due > time.time():
                await asyncio.sleep(due - time.time())
            task = asyncio.create_task(self._one(self._ask(number), due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        if tasks:
            await asyncio.wait(tasks)
        for _, _, writer in self._free:
            writer.close()

    async def _one(self, question: Question, due: float) -> None:
        reply = Reply(question.model, question.keys, due, time.time())
        try:
            async with asyncio.timeout(_PATIENCE):
                reply.asked, head, body = await self._exchange(question.content)
            read_into(reply, head, body)
        except (OSError, TimeoutError, EOFError, ValueError) as error:
            reply.problem = f"{type(error).__name__}: {error}"[:200]
        reply.answered = time.time()
        with self._news:
            self.replies.append(reply)
            self.good += reply.good
            self._news.notify_all()

    async def _exchange(self, content: bytes) -> tuple[float, bytes, bytes]:
        reader, writer = await self._connection()
        try:
            asked = time.time()
            writer.write(content)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            at = head.index(_LENGTH) + len(_LENGTH)
            body = await reader.readexactly(int(head[at : head.index(b"\r", at)]))
        except BaseException:
            writer.close()
            raise
        if b"\r\nconnection: close" in head:
            writer.close()
        else:
            self._free.append((time.monotonic(), reader, writer))
        return asked, head, body

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._free:
            since, reader, writer = self._free.pop()
            if time.monotonic() - since < _IDLE and not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)


def read_into(reply: Reply, head: bytes, body: bytes) -> None:
    """Parse an answer into the reply.

    Raises:
        ValueError: it has not the form of an answer.
    """
    reply.status = int(head[9:12])
    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    reply.replica = headers.get(b"x-replica", b"").decode()
    if reply.status != 200:
        reply.problem = body[:200].decode(errors="replace")
        return
    content = orjson.loads(body)
    if "outputs" not in content:
        reply.rows = [tuple(content[name] for name in ("decision_id", "release", "digest", "role"))]
        return
    digest = headers.get(b"x-model-digest", b"").decode() or None
    columns: Mapping[str, Any] = {output["name"]: output["data"] for output in content["outputs"]}
    names = zip(columns["decision_id"], columns["release"], columns["role"], strict=True)
    reply.rows = [(name, release, digest, role) for name, release, role in names]


def received_by(replies: Sequence[Reply]) -> pl.DataFrame:
    """Received decisions, one for each row, with the columns `benchmarks.faults.history.RECEIVED`."""
    rows = (
        (name, key, reply.asked, reply.answered, release, digest, role)
        for reply in replies
        for key, (name, release, digest, role) in zip(reply.keys, reply.rows, strict=False)
    )
    return pl.DataFrame(list(rows), schema=RECEIVED, orient="row")


def question(model: str, key: str, features: Mapping[str, float], token: str) -> Question:
    """Request of one customer to `/decide`."""
    body = orjson.dumps({"features": features, "key": key})
    return Question(_post(f"/decide/{model}", body, token, "application/json"), model, (key,))


def batch(model: str, keys: Sequence[str], rows: Any, token: str) -> Question:
    """Request for many customers to `/infer`: one matrix as bytes, float64[n, f], and the keys as JSON."""
    data = rows.astype("<f8").tobytes()
    size = {"binary_data_size": len(data)}
    matrix = {"name": "features", "datatype": "FP64", "shape": list(rows.shape), "parameters": size}
    named = {"name": "key", "datatype": "BYTES", "shape": [len(keys)], "data": list(keys)}
    outputs = [{"name": name} for name in ("decision_id", "release", "role")]
    text = orjson.dumps({"inputs": [matrix, named], "outputs": outputs})
    length = f"Inference-Header-Content-Length: {len(text)}\r\n"
    path = f"/v2/models/{model}/infer"
    return Question(_post(path, text + data, token, "application/octet-stream", length), model, keys)


def _post(path: str, body: bytes, token: str, kind: str, more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nAuthorization: Bearer {token}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
