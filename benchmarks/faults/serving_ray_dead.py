"""All of Ray is killed at once under load: failures that customers see, their duration, and automatic recovery.

Every process of Ray is killed: head, raylet, dashboard, Serve's controller, replicas, the controller, HAProxy. Without
intervention the supervisor of `plimsoll up` starts Ray again and deploys. The load is 20 requests a second.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import psutil

from benchmarks.faults.history import check
from benchmarks.faults.serving_kills import asker, on_record
from benchmarks.faults.serving_load import Customers, Reply, received_by
from benchmarks.faults.serving_stage import Bank, decisions_of, facts_of, opened
from benchmarks.serving import platform
from console.terminal import processes

ROUNDS, RATE, MODELS, REPLICAS = 5, 20.0, 2, 2
_STEADY, _PATIENCE = 60, 300.0  # consecutive good answers that end the run; seconds until that
_OURS = ("ledger", "witness", "console", "supervisor", "standby")


def run(rounds: int = ROUNDS) -> Iterator[str]:
    """Seconds without the champion, and the answers meanwhile."""
    outages: list[float] = []
    with opened(MODELS, 2, REPLICAS) as bank:
        with Customers(bank.settings.gateway_port, asker(bank), rate=RATE) as customers:
            customers.until(lambda reply: reply.good, _PATIENCE, since=0.0)
            for number in range(rounds):
                head, began = bank.head, time.time()
                count = _kill_ray(bank)
                back = _until_steady(customers, began)
                seen = [reply for reply in customers.replies if reply.due >= began]
                yield from _round(number, count, began, back, seen)
                if back is None:
                    break
                outages.append(back - began)
                applied = bank.recorded("ControllerStarted", head, _PATIENCE)
                yield f"  a new controller is on record: {'yes' if applied else 'no'}"
        settled = bank.settle()
        verdict = check(facts_of(bank.settings), decisions_of(bank.settings), received_by(customers.replies))
    if outages:
        middle, worst = statistics.median(outages), max(outages)
        times = f"median {middle:.0f} s, at most {worst:.0f} s"
        yield f"champion back without a hand {len(outages)} of {rounds} times: {times}"
    yield from on_record(verdict, settled=settled)


def _kill_ray(bank: Bank) -> int:
    """End every process of Ray; return how many."""
    spared = {process.pid for name, process in processes.recorded(bank.settings).items() if name in _OURS}
    family = {child.pid for pid in spared for child in psutil.Process(pid).children(recursive=True)}
    ray = processes.recorded(bank.settings)["ray"]
    own = {child.pid for child in ray.children(recursive=True)} | {ray.pid}
    victims = [process for process in platform.everything(bank.settings) if process.pid not in spared | (family - own)]
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return len(victims)


def _until_steady(customers: Customers, began: float) -> float | None:
    """Time at which the champion began to answer steadily, in seconds since the epoch; None when time is up."""
    run_of: list[Reply] = []

    def enough(reply: Reply) -> bool:
        if reply.good and reply.rows[0][3] == "champion" and reply.asked > began:
            run_of.append(reply)
        else:
            run_of.clear()
        return len(run_of) >= _STEADY and any(not one.good for one in customers.replies if one.due >= began)

    found = customers.until(enough, _PATIENCE, since=began)
    return run_of[0].answered if found else None


def _round(number: int, count: int, began: float, back: float | None, seen: list[Reply]) -> Iterator[str]:
    failed = [reply for reply in seen if not reply.good]
    first = min((reply.due for reply in failed), default=began)
    when = f"champion back after {back - began:.1f} s" if back else f"not back within {_PATIENCE:.0f} s"
    yield f"round {number + 1}: {count} processes killed, {len(failed)} of {len(seen)} requests failed, {when}"
    yield f"  first failure {first - began:+.2f} s after the kill, slowest answer {_worst(seen):.2f} s"
    for why, times in Counter(f"{reply.status} {reply.problem[:90]}" for reply in failed).most_common(4):
        yield f"  {times} x {why}"


def _worst(seen: list[Reply]) -> float:
    return max((reply.answered - reply.due for reply in seen), default=0.0)
