"""Replicas are added, removed and replaced under load: failures that customers see.

100 requests a second, asked once each, by `plimsoll scale` and `plimsoll redeploy`. Every request without a
decision counts as lost.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from benchmarks.faults.history import check
from benchmarks.faults.serving_kills import asker, on_record
from benchmarks.faults.serving_load import Customers, Reply, received_by
from benchmarks.faults.serving_stage import decisions_of, facts_of, opened
from benchmarks.serving import platform

RATE, MODELS, REPLICAS, ROUNDS = 100.0, 2, 2, 3
_SCALES, _PATIENCE, _AFTER = (3, 1, 2), 180.0, 200  # good answers after each change, before the next


def run(rounds: int = ROUNDS) -> Iterator[str]:
    """Failures of each kind of change."""
    with opened(MODELS, 2, REPLICAS) as bank:
        with Customers(bank.settings.gateway_port, asker(bank), rate=RATE) as customers:
            customers.until(lambda reply: reply.good, _PATIENCE, since=0.0)
            for _ in range(rounds):
                for replicas in _SCALES:
                    began = time.time()
                    platform.scale(bank.settings, replicas)
                    yield _line(f"to {replicas} replicas", customers, began)
                began = time.time()
                platform.redeploy(bank.settings)
                yield _line("redeployed", customers, began)
        settled = bank.settle()
        verdict = check(facts_of(bank.settings), decisions_of(bank.settings), received_by(customers.replies))
        replies = customers.replies
    failed = [reply for reply in replies if not reply.good]
    yield f"{rounds * (len(_SCALES) + 1)} changes, {len(replies)} requests, {len(failed)} failed"
    for why, times in Counter(f"{reply.status} {reply.problem[:90]}" for reply in failed).most_common(4):
        yield f"  {times} x {why}"
    yield from on_record(verdict, settled=settled)


def _line(what: str, customers: Customers, began: float) -> str:
    done = time.time()
    good = 0

    def enough(reply: Reply) -> bool:
        nonlocal good
        good += reply.good
        return good >= _AFTER

    customers.until(enough, _PATIENCE, since=done)
    seen = [reply for reply in customers.replies if reply.due >= began]
    failed = sum(not reply.good for reply in seen)
    worst = max((reply.answered - reply.due for reply in seen), default=0.0)
    return f"  {what} in {done - began:.1f} s: {failed} of {len(seen)} failed, worst answer {worst:.2f} s"
