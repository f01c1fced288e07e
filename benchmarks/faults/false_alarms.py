"""Both verifiers over untampered logs: clean, growing during the reading, rotating, and after a crash.

An alarm, a changed byte or a changed time of a file fails the run. `verify.py` is the file that examiners get.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults.disk import after_power_loss
from benchmarks.faults.power_loss import lay, memory, record, write_trace
from lineage.errors import TamperedError
from lineage.examiner import verify
from lineage.log.reader import Chain
from lineage.log.signed_note import Signer
from lineage.log.signing_key import signer_at
from lineage.log.writer import Log

READINGS = 10_000
_SEGMENT_BYTES = 30_000
_TORN = "A crash leaves that"


def run(readings: int = READINGS, seed: int = 1) -> Iterator[str]:
    """Counts of readings by kind of log, of alarms, and of files that changed during verification."""
    done, alarms, written, torn = Counter[str](), [], 0, 0
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=memory()) as place:
        signer = signer_at(Path(place) / "log.key")
        for kind, folder, still in _logs(Path(place), signer, rng, readings // 2):
            before = _state(folder) if still else None
            for verifier in ("chain", "verify.py"):
                done[kind] += 1
                alarm = _alarm(verifier, folder, signer)
                if alarm and kind == "crashed" and _TORN in alarm:
                    torn += 1  # named on purpose: from the files alone it could be a change, too
                elif alarm:
                    alarms.append(f"{verifier}, {kind}: {alarm}")
            written += before is not None and before != _state(folder)
    total = sum(done.values())
    bound = f" (at 95 % below {3 / total:.2%})" if not alarms else ""
    yield f"{total} readings: {', '.join(f'{count} {kind}' for kind, count in done.items())}"
    yield f"false alarms: {len(alarms)}{bound}; logs that changed while they were only read: {written}"
    yield f"torn ends after a crash that the examiner named: {torn}"
    yield from alarms[:5]


def _logs(place: Path, signer: Signer, rng: random.Random, number: int) -> Iterator[tuple[str, Path, bool]]:
    yield from _clean(place / "clean", signer, rng, number // 3)
    yield from _growing(place / "growing", signer, number // 3)
    yield from _crashed(place, signer, rng, number - 2 * (number // 3))


def _clean(folder: Path, signer: Signer, rng: random.Random, number: int) -> Iterator[tuple[str, Path, bool]]:
    log = Log(folder, signer=signer, segment_bytes=_SEGMENT_BYTES)
    list(log.replay())
    for count in range(number):
        if count % 10 == 0:
            for _ in range(rng.randint(1, 9)):
                log.stage(record(log.seq + 1, rng))
            log.commit()
        yield "clean", folder, True
    log.close()


def _growing(folder: Path, signer: Signer, number: int) -> Iterator[tuple[str, Path, bool]]:
    """A writer that rotates often, and starts a new log before the old one takes long to read."""
    stop = threading.Event()

    def write() -> None:
        rng, log = random.Random(0), _begun(folder, signer)
        while not stop.is_set():
            for _ in range(rng.randint(1, 5)):
                log.stage(record(log.seq + 1, rng))
            log.commit()
            stop.wait(0.002)
        log.close()

    for start in range(0, number, 100):
        shutil.rmtree(folder, ignore_errors=True)
        _begun(folder, signer).close()
        stop.clear()
        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(min(100, number - start)):
            yield "growing", folder, False
        stop.set()
        writer.join()


def _begun(folder: Path, signer: Signer) -> Log:
    log = Log(folder, signer=signer, segment_bytes=_SEGMENT_BYTES)
    list(log.replay())
    log.append(record(log.seq + 1, random.Random(0)))
    return log


def _crashed(place: Path, signer: Signer, rng: random.Random, number: int) -> Iterator[tuple[str, Path, bool]]:
    folder, trace = place / "crashed", list[Any]()
    for count in range(number):
        if count % 50 == 0:
            trace = write_trace(place / "whole", signer, rng)
            acknowledged = [at for at, call in enumerate(trace) if call[0] == "acknowledged"]
        lay(folder, after_power_loss(trace[: rng.randint(acknowledged[0] + 1, len(trace))], rng, {}))
        yield "crashed", folder, True


def _alarm(verifier: str, folder: Path, signer: Signer) -> str | None:
    try:
        if verifier == "chain":
            for _ in Chain(folder, signer.verifier):
                pass
        else:
            verify.verify_log({}, signer.verifier.vkey, None, folder)
    except (TamperedError, verify.Finding) as error:
        return str(error)
    return None


def _state(folder: Path) -> str:
    """Names, bytes and times of everything in the folder."""
    state = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        state.update(f"{path.name} {path.stat().st_mtime_ns} {path.stat().st_size}\n".encode() + path.read_bytes())
    return state.hexdigest()
