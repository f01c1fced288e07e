"""Client of the sandbox (`serve.models.sandbox_server`): sends a bundle's verified bytes and receives the proof.

A bundle without a proof is not loaded, even if the sandbox itself failed.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lineage.errors import RefusedError, UnavailableError
from serve.models.sandbox_server import SECONDS, WALL_SECONDS

_ANSWER_MOST = 64 * 1024
_START_SECONDS = 60.0  # for the process itself, on a busy machine
_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "LC_ALL")  # no secrets
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Proof:
    """Proof that a bundle answered all its golden rows.

    Attributes:
        golden: number of golden rows.
        memory: heap of the loaded model in bytes.
        light: memory of the rest of the bundle in bytes.
        spread: distance between the first and last decile of the golden rows' scores.
        filtered: whether the kernel filtered the parser's system calls.
    """

    golden: int
    memory: int
    light: int
    spread: float
    filtered: bool


class Sandbox:
    """One sandbox process, started when it is first needed and again after it has ended. Thread-safe.

    Args:
        seconds: CPU time limit of a bundle.
        wall_seconds: wall-clock limit of a bundle in seconds.
        command: command of the process; the sandbox server where None.
    """

    def __init__(
        self, seconds: float = SECONDS, wall_seconds: float = WALL_SECONDS, command: tuple[str, ...] | None = None
    ) -> None:
        self._seconds, self._wall_seconds = seconds, wall_seconds
        self._command = command or (
            sys.executable,
            "-m",
            "serve.models.sandbox_server",
            str(seconds),
            str(wall_seconds),
        )
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0
        self._proven: dict[str, Proof] = {}

    @property
    def pid(self) -> int | None:
        """Id of the process, or None where it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process unless it runs, without waiting until it is ready (about a second).

        Raises:
            UnavailableError: it cannot be started.
        """
        with self._lock:
            self._running()

    def prove(self, digest: str, folder: Path, files: Mapping[str, bytes]) -> Proof:
        """Prove a bundle; a proof is cached by digest.

        Args:
            digest: verified digest of all its files.
            folder: name for errors; it is not read.

        Raises:
            RefusedError: it crashed, exceeded time or memory, or gave a wrong answer; the message says which.
            UnavailableError: the sandbox does not run.
        """
        known = self._proven.get(digest)
        if known is None:
            reply = self._ask(folder, files) or self._ask(folder, files)  # it may have ended between two calls
            if reply is None:
                raise UnavailableError("the sandbox ended before it could prove the bundle; it is in the replica's log")
            known = self._proven[digest] = _proof(reply, self._seconds, self._wall_seconds)
        return known

    def close(self) -> None:
        """End the process; the next call of `prove` starts another."""
        with self._lock:
            self._end()

    def _ask(self, folder: Path, files: Mapping[str, bytes]) -> list[dict[str, Any]] | None:
        """Lines of the child and then of the server; None where the process had ended."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.settimeout(self._wall_seconds + _START_SECONDS)  # so that the server times out first
            with theirs, self._lock:
                try:
                    socket.send_fds(self._running(), [b"bundle"], [theirs.fileno()])
                except (BrokenPipeError, ConnectionResetError):
                    self._end()
                    return None
            try:
                with suppress(BrokenPipeError, ConnectionResetError):  # the child died; the server reports it
                    header = {"folder": folder.name, "files": [(name, len(part)) for name, part in files.items()]}
                    ours.sendall(json.dumps(header).encode() + b"\n")
                    for part in files.values():
                        ours.sendall(part)
                return _lines(ours) or None
            except TimeoutError as error:
                self.close()
                raise UnavailableError(f"the sandbox did not answer for {ours.gettimeout():g} s") from error

    def _running(self) -> socket.socket:
        if self._control is not None and self._process is not None:
            if self._process.poll() is None and self._owner == os.getpid():
                return self._control
            self._end()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _ONE_THREAD
        try:
            with theirs:
                self._process = subprocess.Popen(
                    self._command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environment
                )
        except OSError as error:
            raise UnavailableError(f"the sandbox cannot be started: {error.strerror}") from error
        self._owner = os.getpid()
        return self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None and self._owner == os.getpid():  # after a fork the parent keeps its sandbox
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


def _lines(ours: socket.socket) -> list[dict[str, Any]]:
    said = b""
    with suppress(ConnectionResetError):
        while len(said) <= _ANSWER_MOST and (part := ours.recv(_ANSWER_MOST)):
            said += part
    try:
        return [dict(json.loads(line)) for line in said.splitlines()]
    except (ValueError, TypeError) as error:
        raise RefusedError(f"the sandbox sent an unreadable reply: {said[:100]!r}", code="unproven") from error


def _proof(reply: list[dict[str, Any]], seconds: float, wall_seconds: float) -> Proof:
    """The proof from the child's verdict, which the server's exit code of the child must follow.

    Raises:
        RefusedError: the child did not end well, or the bundle failed.
    """
    *verdicts, last = reply
    code = last.get("ended")
    if code != 0 or len(verdicts) != 1:
        ways = {
            -9: "was ended by force",
            -14: f"ran longer than {wall_seconds:g} s",
            -24: f"computed for {seconds:g} s",
        }
        way = ways.get(code, f"ended with {code}") if isinstance(code, int) else "did not end"
        raise RefusedError(f"the process that loaded the bundle first {way}; it is not loaded here", code="unproven")
    (verdict,) = verdicts
    if "proof" not in verdict:
        raise RefusedError(f"the bundle failed in the sandbox: {verdict.get('refused')!s:.500}", code="unproven")
    proof = verdict["proof"]
    spread = min(1.0, max(0.0, float(proof["spread"])))
    return Proof(int(proof["golden"]), int(proof["memory"]), int(proof["light"]), spread, bool(verdict["filtered"]))


@cache
def process_sandbox() -> Sandbox:
    """The sandbox of this process, closed when the process ends."""
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox
