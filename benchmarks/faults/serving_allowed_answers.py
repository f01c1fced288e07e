"""A million answers during promotions, aborts and rollbacks: each one is checked against the rules of its moment.

Customers ask in batches of a hundred, about several models in turn, as fast as they are answered. All the while one
lawful fact after the other changes a route, at a steady pace. Afterwards the ledger is replayed, and every decision on
record is judged by the fold that its replica went by (`benchmarks.faults.history`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from benchmarks.faults.history import check
from benchmarks.faults.serving_kills import on_record, summary
from benchmarks.faults.serving_load import Customers, Question, batch, received_by
from benchmarks.faults.serving_moves import Mover, spares, take_turns
from benchmarks.faults.serving_stage import Bank, decisions_of, facts_of, opened
from plimsoll.errors import Error

ANSWERS, CHANGES, MODELS, REPLICAS = 1_000_000, 200, 4, 2
_ROWS, _CUSTOMERS, _AT_ONCE = 100, 5_000, 3
_STEPS, _PER_LIFE = 3, 4  # shares of the canary and of the rollout; route changes of a release, with early ends
_PAUSE = 0.2  # seconds between two changes at least: faster ones are published as one
_HOURS = 3


class Changes(threading.Thread):
    """Thread that records route changes, spread over the run, until it is stopped."""

    def __init__(self, movers: Sequence[Mover], progress: Callable[[], float], count: int) -> None:
        super().__init__(name="changes", daemon=True)
        self._movers, self._progress, self._count = list(movers), progress, count
        self._done = threading.Event()
        self.kinds: Counter[str] = Counter()
        self.problem = ""

    def run(self) -> None:
        """Change the models in turn; an error ends the changes and is printed."""
        try:
            for fact in take_turns(self._movers):
                self.kinds[fact["kind"]] += 1
                while not self._done.wait(_PAUSE) and self.kinds.total() > self._progress() * self._count:
                    pass
                if self._done.is_set():
                    return
        except Error as error:
            self.problem = error.message

    @property
    def left(self) -> bool:
        """Whether changes remain."""
        return self.is_alive() and self.kinds.total() < self._count

    def stop(self) -> None:
        """End the changes."""
        self._done.set()
        self.join(60.0)


def run(answers: int = ANSWERS, changes: int = CHANGES, models: int = MODELS) -> Iterator[str]:
    """Violations of all answers judged; 0 of n bounds the rate by 3/n (95 %)."""
    with opened(models, 2, REPLICAS) as bank:
        lives = changes // (models * _PER_LIFE) + 2
        movers = [
            Mover(bank, champion.model, spares(bank.settings, champion.digest, lives, 1_000 * (number + 1)), _STEPS)
            for number, champion in enumerate(bank.champions)
        ]
        with Customers(bank.settings.gateway_port, asker(bank), rate=None, most=_AT_ONCE) as customers:
            moving = Changes(movers, lambda: len(customers.replies) * _ROWS / answers, changes)
            moving.start()
            began, reported = time.monotonic(), 0
            while (done := len(customers.replies) * _ROWS) < answers or moving.left:
                if time.monotonic() - began > _HOURS * 3600:
                    break
                customers.until(lambda _: len(customers.replies) * _ROWS > done, 5.0, since=time.time())
                if done * 10 // answers > reported:
                    reported = done * 10 // answers
                    pace = done / (time.monotonic() - began)
                    yield f"({done} answers, {moving.kinds.total()} changes, {pace:.0f} answers/s)"
            moving.stop()
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(moving.kinds.items()))
        yield f"{moving.kinds.total()} route changes of {models} models: {kinds} {moving.problem}"
        yield from summary(customers.replies, f"batches of {_ROWS}")
        settled = bank.settle()
        verdict = check(facts_of(bank.settings), decisions_of(bank.settings), received_by(customers.replies))
    yield f"{verdict.versions} route tables were gone by"
    yield from on_record(verdict, settled=settled)
    bound = f" (below {3 / max(1, verdict.judged):.5%} at 95 %)" if not verdict.violations else ""
    yield f"violations of any kind: {verdict.violations} of {verdict.judged}{bound}"


def asker(bank: Bank) -> Callable[[int], Question]:
    """Makes batches for all models in turn, with the same customers in each round."""
    names = [f"customer-{number}" for number in range(_CUSTOMERS)]
    models, rows, token = [champion.model for champion in bank.champions], bank.rows, bank.token
    places = range(0, len(rows) - _ROWS + 1, _ROWS)

    def ask(number: int) -> Question:
        first = number * 37 * _ROWS % (_CUSTOMERS - _ROWS)
        start = places[number % len(places)]
        return batch(models[number % len(models)], names[first : first + _ROWS], rows[start : start + _ROWS], token)

    return ask
