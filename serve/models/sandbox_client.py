"""The way into the sandbox (`serve.models.sandbox_server`): hand over a bundle's verified bytes, hear whether it holds.

What did not come out of the sandbox with every answer right is not loaded, also where the sandbox itself failed.
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
from serve.models.sandbox_server import PATIENCE, SECONDS

_ANSWER_MOST = 64 * 1024
_START_SECONDS = 60.0  # for the process itself, on a busy machine
_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "LC_ALL")  # no secrets
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Proof:
    """A bundle answered all its golden rows.

    Attributes:
        golden: how many.
        memory: bytes of heap that the model took when it was loaded there.
        light: bytes that the rest of the bundle took.
        spread: how far the golden rows' scores lie apart between their deciles.
        filtered: whether the kernel filtered the parser's system calls.
    """

    golden: int
    memory: int
    light: int
    spread: float
    filtered: bool


class Sandbox:
    """One sandbox process, started when it is first needed and again when it has ended. Any thread may ask.

    Args:
        seconds: of computing that a bundle may take.
        patience: seconds by the clock that it may take.
        command: what runs in place of the sandbox, for tests.
    """

    def __init__(
        self, seconds: float = SECONDS, patience: float = PATIENCE, command: tuple[str, ...] | None = None
    ) -> None:
        self._seconds, self._patience = seconds, patience
        self._command = command or (sys.executable, "-m", "serve.models.sandbox_server", str(seconds), str(patience))
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0
        self._proven: dict[str, Proof] = {}

    @property
    def pid(self) -> int | None:
        """The process, where it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process unless it runs; it is ready about a second later, which nobody waits for here.

        Raises:
            UnavailableError: it cannot be started.
        """
        with self._lock:
            self._running()

    def prove(self, digest: str, folder: Path, files: Mapping[str, bytes]) -> Proof:
        """Have a bundle proven; what was proven under its digest is not asked again.

        Args:
            digest: of all its files, verified.
            folder: only named.

        Raises:
            RefusedError: it crashed, ran too long, took too much memory or answered wrongly; the message says which.
            UnavailableError: the sandbox does not run, so nothing is proven.
        """
        known = self._proven.get(digest)
        if known is None:
            told = self._ask(folder, files) or self._ask(folder, files)  # it may have ended as we asked
            if told is None:
                raise UnavailableError("the sandbox ended before it could prove the bundle; it is in the replica's log")
            known = self._proven[digest] = _proof(told, self._seconds, self._patience)
        return known

    def close(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._end()

    def _ask(self, folder: Path, files: Mapping[str, bytes]) -> list[dict[str, Any]] | None:
        """What the child and then the server said; None where the process was not there to take the question."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.settimeout(self._patience + _START_SECONDS)  # the server is to be the first to lose patience
            with theirs, self._lock:
                try:
                    socket.send_fds(self._running(), [b"bundle"], [theirs.fileno()])
                except (BrokenPipeError, ConnectionResetError):
                    self._end()
                    return None
            try:
                with suppress(BrokenPipeError, ConnectionResetError):  # a child that died: we shall hear of it
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
        if self._process is not None and self._owner == os.getpid():  # a fork's parent keeps its sandbox
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
        raise RefusedError(f"the sandbox answered what nobody understands: {said[:100]!r}", code="unproven") from error


def _proof(told: list[dict[str, Any]], seconds: float, patience: float) -> Proof:
    """The proof in a verdict of the child followed by the server's word that the child ended well."""
    *verdicts, last = told
    code = last.get("ended")
    if code != 0 or len(verdicts) != 1:
        ways = {-9: "was ended by force", -14: f"ran longer than {patience:g} s", -24: f"computed for {seconds:g} s"}
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
    """The sandbox of this process."""
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox
