"""Answers through the gateway beside peers: throughput, explanations, 500 models, overload.

Every contender answers with the same model on the same machine in the same run. They take turns, round by round and
in alternating order, so that other load of the machine affects all equally; ratios are of rounds next to each
other. `PLIMSOLL_BENCH=quick` makes fewer and shorter rounds.
"""

from __future__ import annotations

from collections.abc import Iterator


def run() -> Iterator[str]:
    """The whole table."""
    from benchmarks.serving.table import lines  # others import the model of this folder and nothing else

    yield from lines()
