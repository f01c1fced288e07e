"""SIGKILL of one part of the serving plane after the other, at 100 requests a second: errors and missing records.

Requests are not repeated. Victims come in random order; before the next one, the last has recovered: a new replica or
the challenger has answered, a new controller or ledger has recorded its start.
HAProxy, the only entrance, has its own line. Afterwards every received decision is looked up in segments and spools,
and judged (`benchmarks.faults.history`).
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from benchmarks.faults.history import Verdict, check
from benchmarks.faults.serving_load import Customers, Question, Reply, question, received_by
from benchmarks.faults.serving_moves import Mover, spares
from benchmarks.faults.serving_stage import Bank, decisions_of, facts_of, opened, until
from benchmarks.serving import platform
from benchmarks.serving.home import named
from console.terminal import processes
from serve.cluster.ray_settings import token_file

KILLS, RATE, MODELS, REPLICAS = 100, 100.0, 3, 2
TITLES = {
    "gateway replica": "ServeReplica:gateway:Gateway",
    "challenger pool": "ServeReplica:gateway:Challenger",
    "controller": "ray::Controller",
    "Serve controller": "ray::ServeController",
    "ledger": "lineage.service",
    "HAProxy": "haproxy.cfg",
}
APART = "HAProxy"
_PATIENCE, _AFTER = 120.0, 50  # seconds for a recovery; good answers between a recovery and the next kill


@dataclass
class KillCost:
    """Failures and recovery times of the kills of one victim."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    worst: float = 0.0
    stuck: int = 0


def run(kills: int = KILLS, seed: int = 1) -> Iterator[str]:
    """Counts of errors and missing decisions; 0 of n bounds the rate by 3/n (95 %)."""
    others = [victim for victim in TITLES if victim != APART]
    order = [others[number % len(others)] for number in range(kills)]
    random.Random(seed).shuffle(order)
    costs = {victim: KillCost() for victim in TITLES}
    with opened(MODELS, 2, REPLICAS) as bank:
        _try_a_challenger(bank)
        with Customers(bank.settings.gateway_port, asker(bank), rate=RATE) as customers:
            customers.until(lambda reply: reply.good, _PATIENCE, since=0.0)
            for number, victim in enumerate([*order, *[APART] * max(1, kills // 20)]):
                _strike(bank, customers, victim, costs[victim])
                if (number + 1) % 10 == 0:
                    yield f"({number + 1} kills, {sum(len(cost.failed) for cost in costs.values())} errors)"
        yield from _lines(costs)
        yield from summary(customers.replies, "all kills together")
        settled = bank.settle()
        verdict = check(facts_of(bank.settings), decisions_of(bank.settings), received_by(customers.replies))
        yield from on_record(verdict, settled=settled)


def asker(bank: Bank) -> Callable[[int], Question]:
    """Makes requests for all models in turn."""
    models = [champion.model for champion in bank.champions]
    rows, token = [named(row) for row in bank.rows[:500]], bank.token

    def ask(number: int) -> Question:
        return question(models[number % len(models)], f"customer-{number % 997}", rows[number % len(rows)], token)

    return ask


def summary(replies: list[Reply], what: str) -> Iterator[str]:
    """Requests, failures, and the slowest answer."""
    failed = [reply for reply in replies if not reply.good]
    bound = f" (below {3 / max(1, len(replies)):.4%} of requests at 95 %)" if not failed else ""
    yield f"{what}: {len(replies)} requests, {len(failed)} failed{bound}"
    for why, count in Counter(f"{reply.status} {reply.problem[:100]}" for reply in failed).most_common(5):
        yield f"  {count} x {why}"
    waits = sorted(reply.answered - reply.due for reply in replies if reply.good)
    if len(waits) > 1:
        p99 = statistics.quantiles(waits, n=100)[98]
        middle = statistics.median(waits)
        yield f"  answered after p50 {middle * 1e3:.1f} ms, p99 {p99 * 1e3:.0f} ms, worst {waits[-1]:.2f} s"


def on_record(verdict: Verdict, *, settled: bool) -> Iterator[str]:
    """Received decisions that are on record, and those missing."""
    count = verdict.judged
    for what, words in {"missing": "given but not on record", "twice": "on record twice"}.items():
        found = verdict.wrong[what]
        bound = f" (below {3 / max(1, count):.4%} at 95 %)" if not found else ""
        yield f"decisions {words}: {found} of {count}{bound}"
    yield f"on record but not received by a customer (repeated by HAProxy): {verdict.unheard}"
    others = verdict.violations - verdict.wrong["missing"] - verdict.wrong["twice"]
    yield f"answers that were not allowed: {others} of {count}, {verdict.challengers} of them by challengers"
    if not settled:
        yield "the controller had not sealed everything when time was up"
    yield from verdict.examples


def _try_a_challenger(bank: Bank) -> None:
    """Give half of the first model's customers to a challenger, so that killing its pool has an effect."""
    champion = bank.champions[0]
    mover = Mover(bank, champion.model, spares(bank.settings, champion.digest, 1, 90_000), steps=2)
    for fact in mover:
        if fact["data"].get("share", 0.0) >= 0.5:
            return


def _strike(bank: Bank, customers: Customers, victim: str, cost: KillCost) -> None:
    """Kill the victim, wait for the proof of recovery, and count failures."""
    first, head = len(customers.replies), bank.head
    known = {reply.replica for reply in customers.replies}
    alive = {process.pid for process in _alive(bank, victim)}
    prey = random.Random(first).choice(_alive(bank, victim))
    began, killed = time.time(), time.monotonic()
    prey.kill()
    back = _proof(bank, customers, victim, began, head, alive, known)
    if back():
        cost.seconds.append(time.monotonic() - killed)
    else:
        cost.stuck += 1
    answered = customers.good
    until(lambda: customers.good >= answered + _AFTER, _PATIENCE)
    news = customers.replies[first:]
    cost.failed += [f"{reply.status} {reply.problem[:80]}" for reply in news if not reply.good]
    cost.worst = max([cost.worst, *(reply.answered - reply.due for reply in news)])


def _proof(
    bank: Bank, customers: Customers, victim: str, began: float, head: int, alive: set[int], known: set[str]
) -> Callable[[], bool]:
    """Function that returns whether the victim has recovered."""

    def answered(enough: Callable[[Reply], bool]) -> Callable[[], bool]:
        return lambda: customers.until(enough, _PATIENCE, since=began) is not None

    def again() -> bool:
        return until(lambda: bool({process.pid for process in _alive(bank, victim)} - alive), _PATIENCE)

    if victim == "gateway replica":
        return answered(lambda reply: reply.good and reply.replica not in known)
    if victim == "challenger pool":
        return lambda: again() and customers.until(_by_challenger, _PATIENCE, since=time.time()) is not None
    if victim in ("controller", "ledger"):
        kind = "ControllerStarted" if victim == "controller" else "LedgerOpened"
        return lambda: bank.recorded(kind, head, _PATIENCE) is not None
    if victim == "Serve controller":
        return lambda: again() and until(lambda: _serve_runs(bank), _PATIENCE)
    return lambda: again() and customers.until(lambda reply: reply.good, _PATIENCE, since=time.time()) is not None


def _by_challenger(reply: Reply) -> bool:
    return reply.good and any(role == "challenger" for *_, role in reply.rows)


def _alive(bank: Bank, victim: str) -> list[psutil.Process]:
    if victim == "ledger":
        return [process for name, process in processes.recorded(bank.settings).items() if name == "ledger"]
    return platform.named(bank.settings, TITLES[victim])


def _serve_runs(bank: Bank) -> bool:
    """Whether the application runs by Serve's REST interface."""
    headers = {"Authorization": f"Bearer {token_file(bank.settings).read_text().strip()}"}
    url = f"{bank.settings.ray_dashboard_url}/api/serve/applications/"
    try:
        reply = httpx.get(url, headers=headers, timeout=10.0, trust_env=False)
        content: dict[str, Any] = reply.json() if reply.is_success else {}
    except (httpx.TransportError, ValueError):
        return False
    return bool(content.get("applications", {}).get("gateway", {}).get("status") == "RUNNING")


def _lines(costs: dict[str, KillCost]) -> Iterator[str]:
    for victim, cost in costs.items():
        count = len(cost.seconds) + cost.stuck
        if not count:
            continue
        seconds = sorted(cost.seconds)
        back = f"back after median {statistics.median(seconds):.1f} s, at most {seconds[-1]:.1f} s" if seconds else ""
        stuck = f", not back within {_PATIENCE:.0f} s: {cost.stuck}" if cost.stuck else ""
        yield f"{victim}: {count} kills, {len(cost.failed)} errors, worst answer {cost.worst:.2f} s, {back}{stuck}"
        for why, times in Counter(cost.failed).most_common(3):
            yield f"  {times} x {why}"
    kills = sum(len(cost.seconds) + cost.stuck for victim, cost in costs.items() if victim != APART)
    errors = sum(len(cost.failed) for victim, cost in costs.items() if victim != APART)
    bound = f" (below {3 / kills:.1%} of kills at 95 %)" if kills and not errors else ""
    yield f"without HAProxy's own: {kills} kills, {errors} errors{bound}"
