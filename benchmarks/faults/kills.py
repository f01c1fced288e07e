"""SIGKILL of the ledger at random and around each call to the disk: acknowledged facts must remain.

Eight writers append facts under idempotency keys and write each acknowledgement to a pipe. After each kill the ledger
is opened again and compared with the acknowledgements; then every writer sends its last, unacknowledged fact again, as
a client does, which must not make a second record.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lineage.errors import PlimsollError
from lineage.ledger import Ledger
from lineage.log.disk import Disk
from lineage.log.signing_key import signer_at
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor

KILLS, PER_FOLDER, WRITERS = 1_000, 25, 8
SEGMENT_BYTES = 20_000
CONTROLLER = Actor("controller", "service")
#: Points of a kill: a call to the disk and before or after it, half-way through a write, before the reply.
CALLS = ("open", "append", "flush", "write_at", "rename", "flush_folder")
POINTS = [f"{call} {when}" for call in CALLS for when in ("before", "after")] + ["append half", "reply before"]
_RANDOM = "at random"


class KillingDisk(Disk):
    """The real disk, on which this process dies at the n-th time it reaches a point."""

    def __init__(self, point: str, countdown: int) -> None:
        self._point, self._left = point, countdown
        for call in CALLS:
            setattr(self, call, self._deadly(call))

    def reach(self, point: str) -> None:
        """Kill this process if this is the chosen point."""
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def _deadly(self, call: str):  # type: ignore[no-untyped-def]  # as the method that it replaces
        real = getattr(Disk, call)

        def deadly(*arguments):  # type: ignore[no-untyped-def]
            self.reach(f"{call} before")
            if call == "append" and self._point == "append half":
                descriptor, data = arguments
                os.write(descriptor, data[: len(data) // 2])
                self.reach("append half")
                os.write(descriptor, data[len(data) // 2 :])
                return None
            result = real(self, *arguments)
            self.reach(f"{call} after")
            return result

        return deadly


@dataclass
class Results:
    """Results of the kills in one folder; `acknowledged` maps the key of a fact to its number."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    unhurt: int = 0
    restarts: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def run(kills: int = KILLS, seed: int = 1) -> Iterator[str]:
    """Counts of kills by point, of acknowledged facts and of failures; 0 of n bounds the rate by 3/n (95 %)."""
    results, facts = Results(), 0
    with tempfile.TemporaryDirectory(dir=".") as place:
        folder = Path(place) / "log"
        signer_at(Path(place) / "log.key")
        for number in range(kills):
            if number % PER_FOLDER == 0:
                shutil.rmtree(folder, ignore_errors=True)
                facts += len(results.acknowledged)
                results.acknowledged = {}
            _kill_once(folder, number, random.Random(seed * 1_000_003 + number), results)
    facts += len(results.acknowledged)
    fewest = min(results.kills.items(), key=lambda item: item[1])
    kills_at_points = f"each point at least {fewest[1]} times ({fewest[0]})"
    yield f"{sum(results.kills.values())} kills, {kills_at_points}, {results.unhurt} missed"
    yield f"{facts} facts acknowledged"
    bound = f"below {3 / kills:.2%} of kills at 95 %" if not results.wrong else ""
    yield f"lost, doubled or reordered: {len(results.wrong)} {bound}"
    cuts = statistics.quantiles(results.restarts, n=100)
    yield f"open again after a kill: median {cuts[49] * 1e3:.0f} ms, p99 {cuts[98] * 1e3:.0f} ms"
    yield from results.wrong[:5]


def _kill_once(folder: Path, number: int, rng: random.Random, results: Results) -> None:
    point = [*POINTS, _RANDOM][number % (len(POINTS) + 1)]
    ends = 1 if point.split()[0] in ("rename", "flush_folder") else rng.randint(1, 12)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(folder, KillingDisk(point, ends), number, writer)
    os.close(writer)
    text = _listen(reader, child, rng.randint(1, 200) if point == _RANDOM else None)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        results.kills[point] += 1
    else:
        results.unhurt += 1  # it ended before it reached the point so many times
    for line in text.splitlines():
        seq, _, key = line.partition(" ")
        if key in results.acknowledged:
            results.wrong.append(f"kill {number} ({point}): {key} was acknowledged twice")
        results.acknowledged[key] = int(seq)
    _check(folder, number, point, results)


def _listen(reader: int, child: int, kill_after: int | None) -> str:
    """Acknowledgements until the process ended; with `kill_after` it is killed after so many of them."""
    text = b""
    while chunk := os.read(reader, 65_536):
        text += chunk
        if kill_after is not None and text.count(b"\n") >= kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = None
    os.close(reader)
    return text[: text.rfind(b"\n") + 1].decode()


def _child(folder: Path, disk: KillingDisk, number: int, pipe: int) -> None:
    try:
        signer = signer_at(folder.with_name("log.key"))
        ledger = Ledger(folder, disk=disk, signer=signer, segment_bytes=SEGMENT_BYTES)

        def write(writer: int) -> None:
            for count in range(200):
                key = _key(number, writer, count)
                seq = ledger.append(_draft(key))["seq"]
                disk.reach("reply before")
                os.write(pipe, f"{seq} {key}\n".encode())

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        os._exit(0)  # a child must not continue as its parent


def _key(number: int, writer: int, count: int) -> str:
    return f"{number}-{writer}-{count}"


def _draft(key: str) -> Draft:
    data = {"alert": "drill", "severity": "ticket", "summary": key}
    return Draft("AlertRaised", CONTROLLER, data, "m", key=key)


def _check(folder: Path, number: int, point: str, results: Results) -> None:
    began = time.perf_counter()
    try:
        ledger = Ledger(folder, signer=signer_at(folder.with_name("log.key")), segment_bytes=SEGMENT_BYTES)
    except PlimsollError as error:
        results.wrong.append(f"kill {number} ({point}): {error.message}")
        return
    results.restarts.append(time.perf_counter() - began)
    try:
        for writer in range(WRITERS):  # as a client without a reply
            counts = [
                int(key.rsplit("-", 1)[1]) for key in results.acknowledged if key.startswith(f"{number}-{writer}-")
            ]
            key = _key(number, writer, max(counts, default=-1) + 1)
            results.acknowledged[key] = ledger.append(_draft(key))["seq"]
        held = [record["key"] for record in ledger.records]
        if len(held) != len(set(held)):
            results.wrong.append(f"kill {number} ({point}): a fact is there twice")
        lost = [key for key, seq in results.acknowledged.items() if seq > len(held) or held[seq - 1] != key]
        if lost:
            results.wrong.append(f"kill {number} ({point}): {len(lost)} facts are not where they were: {lost[:3]}")
    except PlimsollError as error:
        results.wrong.append(f"kill {number} ({point}): {error.message}")
    finally:
        ledger.close()
