"""Processes of one platform: start them in sessions of their own, find all of them, end only them.

A process belongs to the platform of a home folder when its environment has that folder in PLIMSOLL_PLATFORM, when its
command line names the platform's Ray folder, or when it descends from or shares a session with such a process. A
process whose environment names another platform never does. An orphan keeps its environment, so that `plimsoll down`
finds what a crash left behind.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import psutil

from lineage.settings import Settings

MARK = "PLIMSOLL_PLATFORM"
_RAY_NAMES = ("python", "ray", "gcs_server", "haproxy")
#: Variables of the caller's shell that select another Ray: its job client prefers them to the given address.
_OTHER_RAY = {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_NAMESPACE", "RAY_TMPDIR"}

#: Without bytecode on disk each start, and each restart after a crash, compiles all modules again.
_SLOW_START = {"PYTHONDONTWRITEBYTECODE"}


def start(
    name: str, command: list[str], settings: Settings, environment: dict[str, str], *, log: str | None = None
) -> psutil.Process:
    """Start a process in a session of its own, with a record in `run/` and a log in `logs/`, named `log` or as it."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    with (settings.logs / f"{log or name}.log").open("ab") as log_file:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            env=marked(settings, environment),
            start_new_session=True,
            cwd=settings.root,
        )
    process = psutil.Process(child.pid)
    record(name, process, settings)
    return process


def record(name: str, process: psutil.Process, settings: Settings) -> None:
    """Write in `run/` that this process has this name now."""
    settings.run.mkdir(parents=True, exist_ok=True)
    entry = {"pid": process.pid, "started": process.create_time(), "name": name}
    draft = settings.run / f"{name}.draft"
    draft.write_bytes(orjson.dumps(entry))
    draft.replace(settings.run / f"{name}.process")  # replaced atomically: others read it at any time


def forget(name: str, settings: Settings) -> None:
    """Remove what `record` wrote."""
    (settings.run / f"{name}.process").unlink(missing_ok=True)


def marked(settings: Settings, environment: dict[str, str]) -> dict[str, str]:
    """This process's environment, `environment` and the mark of the platform; telemetry of libraries is off."""
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "EVIDENTLY_DISABLE_TELEMETRY": "1",
        "ITERATIVE_DO_NOT_TRACK": "do-not-track",
        "FEAST_USAGE": "False",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    # Jobs run `python`: it must be the interpreter that has the dependencies.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    inherited = {name: value for name, value in os.environ.items() if name not in _OTHER_RAY | _SLOW_START}
    return inherited | quiet | {"PATH": path} | environment | {MARK: str(settings.root)}


def recorded(settings: Settings) -> dict[str, psutil.Process]:
    """Running processes that `start` recorded, by name."""
    found = {}
    for entry in _entries(settings):
        try:
            process = psutil.Process(entry["pid"])
            if process.create_time() == entry["started"] and process.status() != psutil.STATUS_ZOMBIE:
                found[entry["name"]] = process
        except psutil.NoSuchProcess:
            continue
    return found


def of_platform(settings: Settings) -> list[psutil.Process]:
    """Every running process of the platform, except this one and its ancestors."""
    everything = {process.pid: process for process in psutil.process_iter()}
    excluded = {os.getpid()} | {parent.pid for parent in psutil.Process().parents()}
    sessions = {entry["pid"]: entry["started"] for entry in _entries(settings)}
    others = {pid for pid, process in everything.items() if _mark(process) not in ("", str(settings.root))}
    ours = {
        pid
        for pid, process in everything.items()
        if pid not in others and (_carries_mark(process, settings) or _of_session(process, sessions))
    }
    grown = True
    while grown:
        children = {pid for pid, process in everything.items() if _parent(process) in ours} - others
        grown = not children <= ours
        ours |= children
    return [everything[pid] for pid in sorted(ours - excluded) if _runs(everything[pid])]


def holder(host: str, port: int) -> psutil.Process | None:
    """The process that listens on the port; None when there is none, or when it belongs to another user."""
    at = {(ip, port) for ip in (host, f"::ffff:{host}", "0.0.0.0", "::")}  # noqa: S104
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN and tuple(connection.laddr) in at
        if listens and connection.pid is not None:
            with suppress(psutil.NoSuchProcess):
                return psutil.Process(connection.pid)
    return None


def describe(process: psutil.Process | None) -> str:
    """A process for an error message: id, command and, where it is part of a platform, that platform's home."""
    if process is None:
        return "a process of another user"
    try:
        command = " ".join(" ".join(process.cmdline()).split())[:80] or process.name()
        family = [process, *process.parents()]
    except psutil.Error:
        return f"process {process.pid}"
    # Ray's workers have no environment to read any more, but their parents have.
    home = next(filter(None, map(_mark, family)), "")
    return f"process {process.pid} ({command})" + (f" of the platform in {home}" if home else "")


def end(processes: Iterable[psutil.Process], *, grace: float = 8.0) -> None:
    """Send SIGTERM; after `grace` seconds SIGKILL those that still run."""
    running = list(processes)
    for process in running:
        _signal(process, signal.SIGTERM)
    _, remaining = psutil.wait_procs(running, timeout=grace)
    for process in remaining:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(remaining, timeout=5.0)


def remove_records(settings: Settings) -> None:
    """Remove the records of `start`."""
    for path in settings.run.glob("*.process"):
        path.unlink(missing_ok=True)


def is_free(host: str, port: int) -> bool:
    """Whether a server could bind the port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that were closed do not count
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True


def listening(host: str, port: int) -> bool:
    """Whether a server accepts connections on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def tail(settings: Settings, name: str, count: int = 12) -> str:
    """The last lines of a process's log."""
    path = settings.logs / f"{name}.log"
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:])


def wait_until_gone(settings: Settings, *, seconds: float = 15.0) -> list[psutil.Process]:
    """End all processes of the platform, in rounds until no new one appears; return those that remain."""
    deadline = time.monotonic() + seconds
    while (left := of_platform(settings)) and time.monotonic() < deadline:
        end(left)
    return left


def _mark(process: psutil.Process) -> str:
    """The home of the platform that the process's environment names, or ""."""
    try:
        return str(process.environ().get(MARK, ""))
    except psutil.Error:
        return ""


def _carries_mark(process: psutil.Process, settings: Settings) -> bool:
    # Ray's workers overwrite their environment with a title; others name the session folder on their command line.
    try:
        if _mark(process) == str(settings.root):
            return True
        if not process.name().startswith(_RAY_NAMES):
            return False
        folder = re.escape(str(Path(settings.ray_tmp).resolve()))
        return any(re.search(rf"(^|=){folder}(/|$)", part) for part in process.cmdline())
    except psutil.Error:
        return False


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _entries(settings: Settings) -> list[dict[str, Any]]:
    return [orjson.loads(path.read_bytes()) for path in sorted(settings.run.glob("*.process"))]


def _of_session(process: psutil.Process, sessions: dict[int, float]) -> bool:
    """Whether it is in a session that `start` opened, and not in a later one of the same number."""
    try:
        number = os.getsid(process.pid)
        began = sessions.get(number)
        if began is None or process.create_time() < began - 1.0:
            return False
        return not psutil.pid_exists(number) or psutil.Process(number).create_time() == began
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def _parent(process: psutil.Process) -> int:
    try:
        parent: int = process.ppid()
    except psutil.NoSuchProcess:
        return -1
    return parent


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
