"""The contenders: a port, prepared requests, and the processes whose CPU time counts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.serving import peer_mlserver
from benchmarks.serving.home import named
from benchmarks.serving.load import request_of
from benchmarks.serving.model import Rows
from benchmarks.serving.platform import free_ports

_PATIENCE = 120.0
#: One thread for one row, for every peer. Ray's variables are removed, so that it has its defaults.
_CLEAN = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
_CLEAN |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # every core listener on loopback


@dataclass(frozen=True)
class Contender:
    """A server under test and its requests.

    Attributes:
        processes: lists the processes of the server side.
    """

    name: str
    port: int
    requests: Sequence[bytes]
    processes: Callable[[], list[psutil.Process]]


def decisions(model: str, rows: Rows, token: str) -> list[bytes]:
    """Requests to the gateway, each with a customer key of its own."""
    bodies = ({"features": named(row), "key": f"customer-{number}"} for number, row in enumerate(rows))
    return [request_of(f"/decide/{model}", json.dumps(body).encode(), token) for body in bodies]


@contextmanager
def floor(folder: Path, model: Path, rows: Rows) -> Iterator[list[Contender]]:
    """uvicorn and Starlette, with both ways to score."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "benchmarks.serving.peer_floor", str(model), str(port)]
    with _served(command, folder / "floor.log", port, "/score", _row(rows[0])) as processes:
        names = {"/score": "uvicorn + Starlette", "/direct": "  with our direct call"}
        yield [Contender(name, port, _bare(path, rows), processes) for path, name in names.items()]


@contextmanager
def ray_defaults(folder: Path, model: Path, rows: Rows) -> Iterator[Contender]:
    """Ray Serve with its defaults."""
    (port,) = free_ports(1)
    place = folder / "r"
    command = [sys.executable, "-m", "benchmarks.serving.peer_ray", str(model), str(port), str(place)]
    with _served(command, folder / "ray.log", port, "/", _row(rows[0])) as processes:
        yield Contender("Ray Serve's defaults", port, _bare("/", rows), processes)
    shutil.rmtree(place, ignore_errors=True)


@contextmanager
def mlserver(folder: Path, model: Path, rows: Rows) -> Iterator[Contender]:
    """MLServer in one process.

    Raises:
        NotInstalled: it cannot be installed here.
    """
    port, *spare = free_ports(3)
    command = peer_mlserver.command_in(folder / "mlserver", model, port, (spare[0], spare[1]))
    path = f"/v2/models/{peer_mlserver.NAME}/infer"
    requests = [request_of(path, _inference(row)) for row in rows]
    with _served(command, folder / "mlserver.log", port, path, _inference(rows[0])) as processes:
        yield Contender("MLServer", port, requests, processes)


def score_in(contender: Contender) -> float:
    """Score in the reply to a contender's first request; it must be equal for all.

    Raises:
        httpx.HTTPStatusError: it answers with an error.
    """
    head, _, body = contender.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[2:])
    reply = _ask(contender.port, lines[0].split(" ")[1], body, headers).raise_for_status().json()
    outputs = reply.get("outputs")
    return float(np.ravel(outputs[0]["data"])[0] if outputs else reply["score"])


def _bare(path: str, rows: Rows) -> list[bytes]:
    return [request_of(path, _row(row)) for row in rows]


def _row(row: Any) -> bytes:
    return json.dumps({"row": row.tolist()}).encode()


def _inference(row: Any) -> bytes:
    tensor = {"name": "rows", "shape": [1, len(row)], "datatype": "FP64", "data": row.tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def _ask(port: int, path: str, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    headers = {"Content-Type": "application/json"} | (headers or {})
    return httpx.post(f"http://127.0.0.1:{port}{path}", content=body, headers=headers, timeout=10.0, trust_env=False)


@contextmanager
def _served(
    command: list[str], log: Path, port: int, path: str, body: bytes
) -> Iterator[Callable[[], list[psutil.Process]]]:
    """Run a server until the end of the block; yields how to list its processes."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PLIMSOLL_", "RAY_"))} | _CLEAN
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=clean, stdout=output, stderr=output, start_new_session=True)
    process = psutil.Process(server.pid)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _is_up(port, path, body):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[:3]} does not come up:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        yield lambda: [process, *process.children(recursive=True)]
    finally:
        _end(server, process)


def _is_up(port: int, path: str, body: bytes) -> bool:
    try:
        return _ask(port, path, body).is_success
    except httpx.TransportError:
        return False


def _end(server: subprocess.Popen[bytes], process: psutil.Process) -> None:
    children: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        children = process.children(recursive=True)
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(20)
    for left in [process, *children]:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    server.wait(10)
