"""Verifying a log of 1,000,000 records: the independent verifier and the ledger's own, against a bare loop of SHA-256.

The bare loop reads the same files line by line and hashes each line once, which is what cannot be avoided.
"""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lineage import examiner
from lineage.log.reader import Chain, segments
from lineage.log.writer import Log

RECORDS, ROUNDS, GROUP = 1_000_000, 3, 5_000


def run(records: int = RECORDS, rounds: int = ROUNDS) -> Iterator[str]:
    """Seconds of each, interleaved, and the ratio to the bare loop."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        folder = Path(place) / "log"
        log = _write(folder, records)
        contenders: dict[str, Callable[[], object]] = {
            "bare loop": lambda: _bare(folder),
            "verify.py": lambda: _verifier(folder),
            "own chain": lambda: sum(1 for _ in Chain(folder, log.signer.verifier)),
        }
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, work in contenders.items():
                began = time.perf_counter()
                work()
                taken[name].append(time.perf_counter() - began)
        size = sum(path.stat().st_size for path in segments(folder))
    bare = statistics.median(taken["bare loop"])
    yield f"{records} records, {size / 1e6:.0f} MB, lines of {size / records:.0f} bytes, {rounds} rounds"
    for name, values in taken.items():
        median = statistics.median(values)
        between = f"({min(values):.2f} to {max(values):.2f})"
        yield f"{name:<10}{median:6.2f} s {between}  speed is {bare / median:.2f} of the bare loop"


def _write(folder: Path, records: int) -> Log:
    log = Log(folder)
    list(log.replay())
    for number in range(records):
        log.stage(_record(number))
        if number % GROUP == GROUP - 1:
            log.commit()
    log.commit()
    log.close()
    return log


def _record(number: int) -> dict[str, Any]:
    about = {"model": "m", "release": None, "reason": None, "key": None}
    actor = {"name": "controller", "role": "service"}
    data = {"number": number, "text": "x" * 30}
    return {"at": "2026-11-23T10:00:00.000000Z", "kind": "AlertRaised", "actor": actor, "data": data, **about}


def _bare(folder: Path) -> None:
    for path in segments(folder):
        with path.open("rb") as file:
            for line in file:
                hashlib.sha256(line).digest()


def _verifier(folder: Path) -> None:
    script = Path(str(examiner.__file__)).with_name("verify.py")
    subprocess.run([sys.executable, "-I", str(script), "log", str(folder)], check=True, capture_output=True)
