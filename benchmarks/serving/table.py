"""The table of the serving plane, in one run on one machine."""

from __future__ import annotations

import os
import platform as machine
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks.serving import explained, many, overload, throughput
from benchmarks.serving.model import DEPTH, TREES, WIDTH
from benchmarks.serving.rounds import ROUNDS, SECONDS, promise
from benchmarks.serving.stage import staged


def lines() -> Iterator[str]:
    """All lines of the table."""
    load = os.getloadavg()[0]
    yield (
        f"{os.cpu_count()} processors (load {load:.1f} before), Python {machine.python_version()}, "
        f"Ray {version('ray')}, XGBoost {version('xgboost')}; "
        f"binary:logistic, {TREES} trees, depth {DEPTH}, {WIDTH} features, one thread"
    )
    yield (
        f"load: benchmarks/serving/load.py, 1 process, kept connections; {ROUNDS} rounds of {SECONDS} s in turns; "
        f"medians with {promise(ROUNDS):.0%} intervals (order statistics)"
    )
    yield (
        "a governed decision: token, keyed split, record on the spool before the reply, sealed every 5 s, drift and "
        "fairness hourly, nothing answered from memory; its CPU time is all of the platform's (ledger, Ray, console)"
    )
    with tempfile.TemporaryDirectory(dir=".") as place:
        folder = Path(place).resolve()
        with staged(folder / "one", 1, "adverse") as stage:
            right = stage.check_champions()
            yield f"1 model ready {stage.seconds:.0f} s after the start; {right} of 1 answers as it should"
            few = (1, stage.memory())
            yield from throughput.lines(stage, folder)
            yield from explained.lines(stage)
            yield from overload.lines(stage)
        yield from many.lines(folder / "many", few)
