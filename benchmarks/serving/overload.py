"""Overload by ten times the capacity, in an open loop: latency of refusals and of admitted requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from benchmarks.serving.load import Floats, Taken, opened
from benchmarks.serving.rounds import QUICK, middle, take_turns
from benchmarks.serving.stage import Stage

TIMES, UNLOADED, SECONDS = 10, 0.1, 3.0 if QUICK else 10.0
_REFUSED = 503


def lines(stage: Stage) -> Iterator[str]:
    """Capacity, waits without load, and the flood."""
    favourable, _ = stage.sorted_rows
    ours = stage.contender("Plimsoll", favourable)
    (rounds,) = take_turns([ours], 16, rounds=3)
    capacity = middle([one.rate for one in rounds])[0]
    yield f"capacity {capacity:.0f} requests/s (16 clients, 1 replica)"
    calm = opened(ours.port, ours.requests, UNLOADED * capacity, SECONDS)
    unloaded = _p(calm.waits[calm.statuses == 200], 0.99)
    yield f"  at {UNLOADED:.0%} of it          {_both(calm.waits[calm.statuses == 200])}, {_others(calm)}"
    flood = opened(ours.port, ours.requests, TIMES * capacity, SECONDS)
    asked = len(flood.statuses) / flood.seconds
    yield f"  at {TIMES}x, {asked:.0f} asked a second ({_others(flood)}), each wait from when the request was due:"
    for name, status in (("admitted", 200), ("refused (503)", _REFUSED)):
        chosen = flood.statuses == status
        if not chosen.any():
            yield f"    {name:<18} none"
            continue
        share = chosen.sum() / flood.seconds
        waits, sent = _both(flood.waits[chosen]), _both(flood.answered[chosen])
        yield f"    {name:<18} {share:7.0f} a second, {waits}; from when it was sent {sent}"
    let_in = flood.statuses == 200
    if let_in.any():
        due, posted = (_p(waits[let_in], 0.99) / unloaded for waits in (flood.waits, flood.answered))
        yield f"    p99 of admitted is {due:.2f}x of unloaded, {posted:.2f}x from when it was sent"
    share = flood.skipped / (flood.skipped + len(flood.statuses))
    yield f"    {share:.0%} of the flood was never sent: the load shares the processors with the platform"


def _both(waits: Floats) -> str:
    return f"p50 {_p(waits, 0.5):.2f} ms, p99 {_p(waits, 0.99):.2f} ms"


def _p(waits: Floats, share: float) -> float:
    return float(np.quantile(waits, share)) * 1e3 if len(waits) else float("nan")


def _others(taken: Taken) -> str:
    counts = Counter(int(status) for status in taken.statuses)
    return ", ".join(f"{count} with {status or 'no reply'}" for status, count in sorted(counts.items()))
