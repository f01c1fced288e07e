"""The sandbox: a process of its own in which a release's bytes are parsed and proven before a replica parses them.

`python -m serve.models.sandbox_server` imports what a model needs once, then forks a child for each bundle. The child
confines itself, loads the bundle and answers every golden row; whatever the bytes do to it ends with it. Questions
come over a Unix socket as standard input: a message carries one end of another socket, over which the bundle goes in
and the verdict comes out (`serve.models.sandbox_client` asks). The server never reads what is in a bundle.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from lineage.errors import PlimsollError, TamperedError
from serve.models.confinement import confine, leave_network, memory_for
from validators.scoring.bundle import GOLDEN_FILE, Bundle, file_of, parse_baseline, parse_features, parse_model
from validators.scoring.golden import replay_golden
from validators.scoring.model_artefact import import_families

SECONDS = 10.0  # of computing for one bundle
PATIENCE = 120.0  # seconds by the clock: a busy machine is no reason to refuse a release
IDLE_SECONDS = 300.0  # unasked for so long, it ends: releases are rare and its memory is dear
_GRACE = 5.0  # seconds after which a child that outlives its own alarm is ended
_JOB = 3  # the child's only file besides the standard three


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks")
    ] + [("keepcost", ctypes.c_size_t)]


def prove(folder: Path, files: Mapping[str, bytes]) -> dict[str, float]:
    """Parse a bundle and put it to the proof: every golden row bit for bit, the baseline, one explanation of each.

    Returns:
        `golden`, how many rows came out; `memory`, bytes of the heap that the loaded model takes; `light`, bytes of
        everything else of the bundle; `spread`, how far the golden rows' scores lie apart between their deciles.

    Raises:
        TamperedError: an answer differs, or is no probability.
        PlimsollError: the bundle cannot be parsed.
    """
    tracemalloc.start()
    light = parse_baseline(folder, files)
    light_size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    before = heap_in_use()
    bundle = parse_model(light, files)
    memory = heap_in_use() - before if before else 2 * len(file_of(folder, files, bundle.spec.artefact))
    golden = file_of(folder, files, GOLDEN_FILE)
    result = replay_golden(bundle, golden)
    if not result.ok:
        raise TamperedError(
            f"{result.matched} of {result.count} golden rows came out bit for bit; all of at least one must"
        )
    rows = json.loads(golden)
    _check_answers(bundle, [row["features"] for row in rows])
    spread = _spread([float.fromhex(row["score"]) for row in rows])
    return {"golden": result.count, "memory": memory, "light": light_size, "spread": spread}


def _spread(scores: list[float]) -> float:
    """How far the scores lie apart between their deciles."""
    ordered, tenth = sorted(scores), len(scores) // 10
    return ordered[-1 - tenth] - ordered[tenth]


def _check_answers(bundle: Bundle, golden: list[dict[str, Any]]) -> None:
    for name, scorer in (("model", bundle.model), ("baseline", bundle.baseline)):
        rows = [parse_features(bundle, features) for features in golden]
        for number, row in enumerate(rows):
            score = float(scorer.score(row)[0])
            if not 0.0 <= score <= 1.0:  # NaN too
                raise TamperedError(f"the {name} answers golden row {number} with {score!r}, which is no probability")
        pushes = scorer.contributions(rows[0])
        if pushes.shape != rows[0].shape or not (abs(pushes) < float("inf")).all():
            raise TamperedError(f"the {name} does not explain golden row 0: {pushes.tolist()!r:.200}")


def heap_in_use() -> int:
    """Bytes that this process has taken from the C heap and not given back; 0 where the C library does not say."""
    library = ctypes.CDLL(None)
    try:
        library.mallinfo2.restype = _Mallinfo
    except AttributeError:
        return 0
    told = library.mallinfo2()
    return int(told.uordblks + told.hblkhd)


class SandboxServer:
    """Forks a child for each bundle, several at a time, and says how each ended."""

    def __init__(self, control: socket.socket, seconds: float, patience: float) -> None:
        self._control, self._seconds, self._patience = control, seconds, patience
        self._children: dict[int, tuple[int, socket.socket, float]] = {}  # file of the process -> id, job, deadline
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def run(self) -> None:
        """Serve until nobody is there who could ask, or nobody has asked for long."""
        while True:
            wait = 100.0 if self._children else IDLE_SECONDS * 1000
            ready = [number for number, _ in self._poll.poll(wait)]
            for number in ready:
                if number != self._control.fileno():
                    self._reap(number)
                elif not self._begin():
                    return
            for pid, _, deadline in self._children.values():
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
            if not ready and not self._children:
                return

    def _begin(self) -> bool:
        _, numbers, _, _ = socket.recv_fds(self._control, 16, 1)
        if not numbers:
            return False
        job = socket.socket(fileno=numbers[0])
        pid = os.fork()
        if pid == 0:
            _run_child(job.fileno(), self._seconds, self._patience)
        watched = os.pidfd_open(pid)
        self._children[watched] = (pid, job, time.monotonic() + self._patience + _GRACE)
        self._poll.register(watched, select.POLLIN)
        return True

    def _reap(self, watched: int) -> None:
        pid, job, _ = self._children.pop(watched)
        self._poll.unregister(watched)
        os.close(watched)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with job:
            job.setblocking(False)
            try:
                job.send(json.dumps({"ended": code}).encode() + b"\n")
            except OSError:
                return  # who asked has gone


def _run_child(job: int, seconds: float, patience: float) -> NoReturn:
    """One bundle's life, from reading its bytes to the verdict."""
    code = 1
    try:
        os.dup2(job, _JOB)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 2)  # what a broken model makes the libraries say is nobody's log
        os.closerange(_JOB + 1, os.sysconf("SC_OPEN_MAX"))
        verdict = _verdict(seconds, patience)
        os.write(_JOB, json.dumps(verdict).encode() + b"\n")
        code = 0
    finally:
        os._exit(code)


def _verdict(seconds: float, patience: float) -> dict[str, Any]:
    with os.fdopen(os.dup(_JOB), "rb") as reader:
        asked = json.loads(reader.readline())
        files = {name: reader.read(size) for name, size in asked["files"]}
    filtered = confine(memory_for(sum(map(len, files.values()))), seconds, patience)
    try:
        return {"proof": _prove_contained(Path(asked["folder"]), files), "filtered": filtered}
    except PlimsollError as error:
        return {"refused": error.message[:500]}


def _prove_contained(folder: Path, files: Mapping[str, bytes]) -> dict[str, float]:
    try:
        return prove(folder, files)
    except PlimsollError:
        raise
    except MemoryError as error:
        raise TamperedError("it takes more memory than a model of its size may") from error
    except Exception as error:  # whatever the bytes make the parsers stumble over, they are refused
        raise TamperedError(f"{error!r:.500}") from error


def main() -> None:
    """Serve the socket that is standard input."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's interrupt is for the platform, which then closes us
    os.nice(5)  # decisions come first
    leave_network()
    import_families()
    gc.freeze()
    limits = [float(argument) for argument in sys.argv[1:]] or [SECONDS, PATIENCE]
    SandboxServer(control, *limits).run()


if __name__ == "__main__":
    main()
