"""Alternating rounds, and medians with distribution-free confidence intervals."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import psutil

from benchmarks.serving.contenders import Contender
from benchmarks.serving.load import Taken, closed

QUICK = os.environ.get("PLIMSOLL_BENCH") == "quick"
ROUNDS, SECONDS, WARM = (3, 0.5, 0.2) if QUICK else (7, 1.5, 0.3)
_LEVEL = 0.95


@dataclass(frozen=True)
class Round:
    """Result of one contender in one round.

    Attributes:
        cpu: seconds that the processes of the server side computed.
    """

    taken: Taken
    cpu: float

    @property
    def rate(self) -> float:
        """Good replies a second."""
        return self.taken.rate

    @property
    def thrift(self) -> float:
        """Good replies a second of the server side's CPU time."""
        return self.taken.rate * self.taken.seconds / max(self.cpu, 0.01)

    def wait(self, share: float) -> float:
        """Milliseconds that so many of the replies did not exceed."""
        return float(np.quantile(self.taken.waits, share)) * 1e3


def take_turns(
    contenders: Sequence[Contender], clients: int, rounds: int = ROUNDS, seconds: float = SECONDS
) -> list[list[Round]]:
    """Rounds of each contender: A B C, C B A, A B C … Each continues with the requests after its last round."""
    results: list[list[Round]] = [[] for _ in contenders]
    asked = [0] * len(contenders)
    for number in range(rounds):
        order = range(len(contenders))
        for place in order if number % 2 == 0 else reversed(order):
            one = contenders[place]
            warm = closed(one.port, one.requests, clients, WARM, asked[place])
            processes = one.processes()
            before = cpu_seconds(processes)
            taken = closed(one.port, one.requests, clients, seconds, asked[place] + len(warm.waits))
            results[place].append(Round(taken, cpu_seconds(processes) - before))
            asked[place] += len(warm.waits) + len(taken.waits)
    return results


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """CPU time of processes and of their children that have ended."""
    spent = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            spent += sum(process.cpu_times()[:4])  # user, system, and those of ended children
    return spent


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the order statistics around it that hold the true one with at least 95 %.

    With fewer than six values these are minimum and maximum, at the lower confidence of `promise`.
    """
    ranked = sorted(values)
    cut = _cut(len(ranked))
    return statistics.median(ranked), ranked[cut], ranked[len(ranked) - 1 - cut]


def promise(count: int) -> float:
    """Confidence of the interval of `middle` for `count` values."""
    return 1.0 - 2.0 * _below(count, _cut(count))


def text(values: Sequence[float], digits: int = 0) -> str:
    """`median (low to high)`."""
    return "{0:.{3}f} ({1:.{3}f} to {2:.{3}f})".format(*middle(values), digits)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ratios of rounds next to each other."""
    return [a / b if b else math.inf for a, b in zip(ours, theirs, strict=True)]


def _cut(count: int) -> int:
    cut = 0
    while 1.0 - 2.0 * _below(count, cut + 1) >= _LEVEL and cut + 1 < count / 2:
        cut += 1
    return cut


def _below(count: int, cut: int) -> float:
    """The probability that at most `cut` of `count` values lie on one side of the true median."""
    return sum(math.comb(count, one) for one in range(cut + 1)) / 2.0**count
