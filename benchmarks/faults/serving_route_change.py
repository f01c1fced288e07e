"""From the ledger's acknowledgement of a route change to the last answer by the old route, as customers see it.

Three gateway replicas, 100 requests a second, all of them by customers whom the next change moves: their keys lie
between the share before and the share after. What the old and the new route answer them follows from the ledger's fold
before and after the fact, so nothing is guessed.
"""

from __future__ import annotations

import statistics
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.faults.history import Verdict, check
from benchmarks.faults.serving_kills import summary
from benchmarks.faults.serving_load import Customers, Question, Reply, question, received_by
from benchmarks.faults.serving_moves import Mover, spares
from benchmarks.faults.serving_stage import Bank, Fact, decisions_of, facts_of, opened, until
from benchmarks.serving.home import named
from lineage.state.fold import LedgerState
from serve.decision.traffic_split import falls_on_challenger, position_of
from serve.ledger_view import LedgerView
from serve.routes import Route, routes_from

CHANGES, RATE, REPLICAS, ANSWERS = 200, 100.0, 3, 10_000
_STEPS = 20  # shares of the canary, and again of the rollout
_KEYS = 40  # customers who are moved by one change
_AFTER = 25  # answers by the new route before the next change
_PATIENCE = 60.0
#: A challenger gets no traffic before its pool is ready; that is no delay of the route.
_PREPARED_FIRST = "CanaryStarted"

Answer = tuple[str, str]  # role and release


@dataclass(frozen=True)
class Change:
    """One fact that changed the route; `acknowledged` is the time of the ledger's reply, seconds since the epoch."""

    fact: Fact
    acknowledged: float


@dataclass
class Moved:
    """Milliseconds until each change applied to all, and those that the pool's preparation added."""

    milliseconds: list[float] = field(default_factory=list)
    prepared: list[float] = field(default_factory=list)
    unseen: int = 0


class MovedCustomers:
    """Customers whom the next change moves to another arm; the load takes them in turn."""

    def __init__(self, bank: Bank, model: str) -> None:
        self._rows, self._token, self._model = [named(row) for row in bank.rows[:500]], bank.token, model
        self._lock = threading.Lock()
        self._keys: list[str] = ["any"]

    def ask(self, number: int) -> Question:
        """The next request."""
        with self._lock:
            key = self._keys[number % len(self._keys)]
        return question(self._model, key, self._rows[number % len(self._rows)], self._token)

    def switch_to(self, keys: list[str]) -> None:
        """Continue with other keys."""
        with self._lock:
            self._keys = keys


def run(changes: int = CHANGES, answers: int = ANSWERS) -> Iterator[str]:
    """Milliseconds, failures and misrouted answers; 0 of n bounds the rate by 3/n (95 %)."""
    made: list[Change] = []
    with opened(1, 2, REPLICAS) as bank:
        champion = bank.champions[0]
        moved_customers = MovedCustomers(bank, champion.model)
        fresh = spares(bank.settings, champion.digest, changes // _STEPS + 2, 50_000)
        mover = Mover(bank, champion.model, fresh, _STEPS)
        with Customers(bank.settings.gateway_port, moved_customers.ask, rate=RATE) as customers:
            customers.until(lambda reply: reply.good, _PATIENCE, since=0.0)
            for fact in mover:
                change = Change(fact, time.time())
                made.append(change)
                _until_seen(bank, moved_customers, customers, change)
                if len(made) % 20 == 0:
                    yield f"({len(made)} changes, {len(customers.replies)} answers)"
                if len(made) >= changes:
                    break
            until(lambda: len(customers.replies) >= answers, 600.0)
        yield from summary(customers.replies, f"{len(made)} route changes, {REPLICAS} replicas")
        bank.settle()
        facts = facts_of(bank.settings)
        verdict = check(facts, decisions_of(bank.settings), received_by(customers.replies))
    yield from _lines(measure(facts, made, customers.replies, champion.model), verdict)


def _until_seen(bank: Bank, moved_customers: MovedCustomers, customers: Customers, change: Change) -> None:
    """Wait until answers follow the change, then switch the load to customers whom the next change moves."""
    model = change.fact["model"]
    bank.recorded("RouteApplied", change.fact["seq"], _PATIENCE)
    view = bank.service.model(model)
    moved_customers.switch_to(between(view["salt"] or "", view["share"], min(1.0, view["share"] + 0.5 / _STEPS)))
    count = len(customers.replies)
    until(lambda: len(customers.replies) >= count + _AFTER, _PATIENCE)


def between(salt: str, low: float, high: float) -> list[str]:
    """Keys whose hash under this salt lies between two shares; any keys where the interval is empty."""
    found: list[str] = []
    for number in range(200_000):
        key = f"customer-{number}"
        if not salt or high <= low or low <= position_of(key, salt) < high:
            found.append(key)
        if len(found) == _KEYS:
            break
    return found


def measure(facts: Sequence[Fact], changes: Sequence[Change], replies: Sequence[Reply], model: str) -> Moved:
    """Time of the last answer by the old route after each change; pure.

    An answer counts that the old route gives and the new one does not, up to the next change.
    """
    moved = Moved()
    good = sorted((reply for reply in replies if reply.good), key=lambda reply: reply.answered)
    times = [reply.answered for reply in good]
    routes = _routes(facts, [change.fact["seq"] for change in changes], model)
    ends = [*(change.acknowledged for change in changes[1:]), float("inf")]
    for change, (old, new), end in zip(changes, routes, ends, strict=True):
        window = good[bisect_left(times, change.acknowledged) : bisect_left(times, end)]
        asked = [(reply, _answer(old, reply.keys[0]), _answer(new, reply.keys[0])) for reply in window]
        differ = [(reply, before, after) for reply, before, after in asked if before != after]
        if not any(_of(reply) == after for reply, _, after in differ):
            moved.unseen += 1
            continue
        last = max((reply.answered for reply, before, _ in differ if _of(reply) == before), default=change.acknowledged)
        took = moved.prepared if change.fact["kind"] == _PREPARED_FIRST else moved.milliseconds
        took.append((last - change.acknowledged) * 1e3)
    return moved


def _routes(facts: Sequence[Fact], seqs: Sequence[int], model: str) -> list[tuple[Route, Route]]:
    """The route before and after each of these records."""
    fold, found, wanted = LedgerState(), [], set(seqs)
    for fact in facts:
        before = routes_from(LedgerView.of(fold), {}, 0, fold.seq).routes.get(model) if fact["seq"] in wanted else None
        fold.apply(fact)
        if before is not None:
            found.append(
                (
                    before,
                    routes_from(LedgerView.of(fold), {}, 0, fold.seq).routes[model],
                )
            )
    return found


def _answer(route: Route, key: str) -> Answer:
    """Role and release that answer this customer by this route."""
    if route.challenger and falls_on_challenger(position_of(key, route.salt), route.share):
        return "challenger", route.challenger.release
    target = route.champion or route.baseline
    assert target is not None
    return "champion" if route.champion else "baseline", target.release


def _of(reply: Reply) -> Answer:
    _, release, _, role = reply.rows[0]
    return role, release


def _lines(moved: Moved, verdict: Verdict) -> Iterator[str]:
    took = sorted(moved.milliseconds)
    if len(took) > 1:
        p99 = statistics.quantiles(took, n=100)[98]
        rest = f"worst {took[-1]:.0f} ms; {moved.unseen} moved no customer of the load"
        yield f"last old answer of {len(took)} changes: p50 {statistics.median(took):.0f} ms, p99 {p99:.0f} ms, {rest}"
    if moved.prepared:
        yield f"a challenger's first share, its pool prepared first: at most {max(moved.prepared):.0f} ms"
    misrouted = verdict.violations
    bound = f" (below {3 / max(1, verdict.judged):.4%} at 95 %)" if not misrouted else ""
    yield f"misrouted, not on record or there twice: {misrouted} of {verdict.judged}{bound}"
    yield from verdict.examples
