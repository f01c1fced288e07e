"""Power lost between any two calls to the disk, also during an earlier recovery: acknowledged records must remain.

A trial fails when an acknowledged record is lost, doubled, changed or out of order, when the log reports the
remains as tampering, or when it accepts no more records.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults.disk import RecordingDisk, after_power_loss, files_in
from lineage.errors import PlimsollError
from lineage.log.signed_note import Signer
from lineage.log.signing_key import signer_at
from lineage.log.writer import Log

TRIALS, PER_TRACE = 20_000, 100


def run(trials: int = TRIALS, seed: int = 1) -> Iterator[str]:
    """Counts of trials, of acknowledged records at stake and of failures; 0 of n bounds the rate by 3/n (95 %)."""
    failures, at_stake, twice = [], 0, 0
    with tempfile.TemporaryDirectory(dir=memory()) as place:
        signer = signer_at(Path(place) / "log.key")
        for number in range(trials):
            rng = random.Random(seed * 1_000_003 + number)
            if number % PER_TRACE == 0:
                trace = write_trace(Path(place) / "whole", signer, rng)
            acknowledged, again, wrong = _trial(trace, Path(place), signer, rng)
            at_stake, twice = at_stake + acknowledged, twice + again
            if wrong:
                failures.append(f"trial {number}: {wrong}")
    yield f"{trials} losses of power, {twice} of them followed by another while recovering; {at_stake} records at stake"
    bound = f"below {3 / trials:.2%} at 95 %" if not failures else ""
    yield f"lost, doubled, reordered or called tampering: {len(failures)} {bound}"
    yield from failures[:5]


def write_trace(folder: Path, signer: Signer, rng: random.Random) -> list[Any]:
    """Trace of a log that is written in groups, rotated and closed at times."""
    shutil.rmtree(folder, ignore_errors=True)
    disk, total = RecordingDisk(), 0
    for _ in range(rng.randint(1, 3)):
        log = Log(folder, signer=signer, segment_bytes=rng.choice((1_000, 5_000, 1 << 20)), disk=disk)
        list(log.replay())
        for _ in range(rng.randint(2, 12)):
            for _ in range(rng.randint(1, 8)):
                total += 1
                log.stage(record(total, rng))
            log.commit()
            disk.note("acknowledged", total)
        log.close()
    return disk.trace


def record(number: int, rng: random.Random) -> dict[str, Any]:
    about = {"model": None, "release": None, "reason": None, "key": None}
    actor = {"name": "controller", "role": "service"}
    data = {"number": number, "text": "x" * rng.choice((0, 30, 200, 900))}
    return {"at": "2026-11-23T10:00:00.000000Z", "kind": "AlertRaised", "actor": actor, "data": data, **about}


def _trial(trace: list[Any], place: Path, signer: Signer, rng: random.Random) -> tuple[int, bool, str | None]:
    """Acknowledged records, whether power was lost twice, and what went wrong."""
    cut = rng.randint(1, len(trace))
    acknowledged = max((call[1] for call in trace[:cut] if call[0] == "acknowledged"), default=0)
    folder = place / "after"
    lay(folder, after_power_loss(trace[:cut], rng, {}))
    twice = rng.random() < 0.3
    if twice:
        before, disk = files_in(folder), RecordingDisk()
        wrong = _check(folder, acknowledged, signer, disk, "")
        if wrong:
            return acknowledged, twice, wrong
        if disk.trace:
            lay(folder, after_power_loss(disk.trace[: rng.randint(1, len(disk.trace))], rng, before))
    return acknowledged, twice, _check(folder, acknowledged, signer, RecordingDisk(), "next")


def lay(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _check(folder: Path, acknowledged: int, signer: Signer, disk: RecordingDisk, more: str) -> str | None:
    try:
        log = Log(folder, signer=signer, disk=disk)
    except PlimsollError as error:
        return f"it does not open: {error.message}"
    try:
        numbers = [entry.record["data"]["number"] for entry in log.replay()]
        if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < acknowledged:
            return f"{acknowledged} records were acknowledged, {len(numbers)} are there: {numbers[-3:]}"
        if more and log.append(record(len(numbers) + 1, random.Random(0)))["seq"] != len(numbers) + 1:
            return "the next record has the wrong number"
    except PlimsollError as error:
        return f"{type(error).__name__}: {error.message}"
    finally:
        log.close()
    return None


def memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  only what is lost matters, not how fast
