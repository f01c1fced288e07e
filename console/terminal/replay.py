"""Open-loop load: replays real rows against the gateway at a steady rate and counts the results."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from plimsoll import Client
from plimsoll.errors import Error

Row = dict[str, Any]


@dataclass
class Tally:
    """Counts of one replay. A request failed when the client got no decision; `late` were sent after they were due."""

    sent: int = 0
    failed: int = 0
    fallbacks: int = 0
    late: int = 0
    roles: Counter[str] = field(default_factory=Counter)
    releases: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Replay:
    """Sends a request every `1 / rate` seconds whether or not earlier ones have been answered.

    Args:
        rows: each `{"key", "features", "outcome"}`; taken in order, again from the start at the end.
        rate: requests a second.
    """

    def __init__(
        self, client: Client, model: str, rows: Sequence[Row], *, rate: float = 50.0, workers: int = 24
    ) -> None:
        self._client, self._model, self._rate = client, model, rate
        self._rows = list(rows)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="replay")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replay-clock", daemon=True)
        self.tally = Tally()

    def start(self) -> None:
        """Start sending."""
        self._thread.start()

    def switch_to(self, rows: Sequence[Row]) -> None:
        """Continue with other rows."""
        with self._lock:
            self._rows = list(rows)

    def stop(self) -> Tally:
        """Stop, wait for requests in flight, and return the counts."""
        self._stop.set()
        self._thread.join()
        self._pool.shutdown(wait=True)
        return self.tally

    def _run(self) -> None:
        began, count = time.monotonic(), 0
        while not self._stop.is_set():
            with self._lock:
                row = self._rows[count % len(self._rows)]
            self._pool.submit(self._one, row)
            count += 1
            wait = began + count / self._rate - time.monotonic()
            if wait > 0:
                self._stop.wait(wait)
            else:
                self.tally.late += 1

    def _one(self, row: Row) -> None:
        try:
            decision = self._client.decide(self._model, row["features"], key=row["key"])
            self._client.outcome(self._model, decision.decision_id, row["outcome"])
        except Error as error:
            with self._lock:
                self.tally.sent += 1
                self.tally.failed += 1
                self.tally.failures.append(str(error)[:200])
            return
        with self._lock:
            self.tally.sent += 1
            self.tally.roles[decision.role] += 1
            self.tally.releases[decision.release] += 1
            self.tally.fallbacks += decision.fallback is not None
