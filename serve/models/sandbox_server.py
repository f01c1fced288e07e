"""Sandbox process: parses and proves a release's bytes before a replica parses them.

`python -m serve.models.sandbox_server` imports the model families once, then forks a child for each bundle. The child
drops its privileges, loads the bundle and answers every golden row; any damage ends with it. Jobs arrive on a Unix
socket as standard input: each message carries one end of another socket, over which the bundle is read and the verdict
written (see `serve.models.sandbox_client`). The server itself never reads a bundle.
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

SECONDS = 10.0  # CPU time for one bundle
WALL_SECONDS = 120.0  # wall-clock seconds: long, because a busy machine is no reason to refuse a release
IDLE_SECONDS = 300.0  # without jobs for this long the process ends, to free its memory
_GRACE = 5.0  # seconds after its own alarm at which a child is killed
_JOB = 3  # the child's only descriptor besides the standard three


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks")
    ] + [("keepcost", ctypes.c_size_t)]


def prove(folder: Path, files: Mapping[str, bytes]) -> dict[str, float]:
    """Parse a bundle and check it: every golden row bit for bit, the baseline, and one explanation of each.

    Returns:
        The fields of `serve.models.sandbox_client.Proof` but `filtered`.

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
    """Distance between the first and the last decile of the scores."""
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
    """Bytes allocated on the C heap of this process; 0 where the C library does not report them."""
    library = ctypes.CDLL(None)
    try:
        library.mallinfo2.restype = _Mallinfo
    except AttributeError:
        return 0
    info = library.mallinfo2()
    return int(info.uordblks + info.hblkhd)


class SandboxServer:
    """Forks a child for each bundle, several at a time, and reports each child's exit code."""

    def __init__(self, control: socket.socket, seconds: float, wall_seconds: float) -> None:
        self._control, self._seconds, self._wall_seconds = control, seconds, wall_seconds
        self._children: dict[int, tuple[int, socket.socket, float]] = {}  # file of the process -> id, job, deadline
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def run(self) -> None:
        """Serve until the client closes the socket or there was no job for `IDLE_SECONDS`."""
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
            _run_child(job.fileno(), self._seconds, self._wall_seconds)
        watched = os.pidfd_open(pid)
        self._children[watched] = (pid, job, time.monotonic() + self._wall_seconds + _GRACE)
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
                return  # the client has gone


def _run_child(job: int, seconds: float, wall_seconds: float) -> NoReturn:
    """Read one bundle, prove it, write the verdict, and exit."""
    code = 1
    try:
        os.dup2(job, _JOB)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 2)  # messages of libraries about a broken model are not logged
        os.closerange(_JOB + 1, os.sysconf("SC_OPEN_MAX"))
        verdict = _verdict(seconds, wall_seconds)
        os.write(_JOB, json.dumps(verdict).encode() + b"\n")
        code = 0
    finally:
        os._exit(code)


def _verdict(seconds: float, wall_seconds: float) -> dict[str, Any]:
    with os.fdopen(os.dup(_JOB), "rb") as reader:
        asked = json.loads(reader.readline())
        files = {name: reader.read(size) for name, size in asked["files"]}
    filtered = confine(memory_for(sum(map(len, files.values()))), seconds, wall_seconds)
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
    except Exception as error:  # any error of a parser refuses the bundle
        raise TamperedError(f"{error!r:.500}") from error


def main() -> None:
    """Serve the socket that is standard input."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on an interrupt from the terminal the platform ends this process
    os.nice(5)  # decisions have priority
    leave_network()
    import_families()
    gc.freeze()
    limits = [float(argument) for argument in sys.argv[1:]] or [SECONDS, WALL_SECONDS]
    SandboxServer(control, *limits).run()


if __name__ == "__main__":
    main()
