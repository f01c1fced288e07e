"""Processes of one platform: start them apart from this one, find all of them again, end them and nothing else.

A process belongs to the platform of a home folder when its environment carries the mark of that folder, when its
command line names the platform's Ray folder, or when it descends from or shares a session with one that does. The
mark outlives its parents, so that `plimsoll down` finds what a crash has orphaned.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import psutil

from lineage.settings import Settings

MARK = "PLIMSOLL_PLATFORM"
_RAY_NAMES = ("python", "ray", "gcs_server", "haproxy")


def start(name: str, command: list[str], settings: Settings, environment: dict[str, str]) -> psutil.Process:
    """Start a process in a session of its own, its output in `logs/<name>.log`, and remember it."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    with (settings.logs / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=marked(settings, environment),
            start_new_session=True,
            cwd=settings.root,
        )
    process = psutil.Process(child.pid)
    settings.run.mkdir(parents=True, exist_ok=True)
    entry = {"pid": process.pid, "started": process.create_time(), "name": name}
    (settings.run / f"{name}.process").write_bytes(orjson.dumps(entry))
    return process


def marked(settings: Settings, environment: dict[str, str]) -> dict[str, str]:
    """This process's environment with `environment` and the mark of the platform; telemetry of libraries is off."""
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "EVIDENTLY_DISABLE_TELEMETRY": "1",
        "ITERATIVE_DO_NOT_TRACK": "do-not-track",
        "FEAST_USAGE": "False",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    # Jobs say `python`: it has to be the one that everything here is installed for.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return dict(os.environ) | quiet | {"PATH": path} | environment | {MARK: str(settings.root)}


def remembered(settings: Settings) -> dict[str, psutil.Process]:
    """Processes that `start` remembered and that still run, by name."""
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
    """Every running process of the platform, this one and its ancestors left out."""
    everything = {process.pid: process for process in psutil.process_iter()}
    spared = {os.getpid()} | {parent.pid for parent in psutil.Process().parents()}
    sessions = {entry["pid"]: entry["started"] for entry in _entries(settings)}
    ours = {
        pid for pid, process in everything.items() if _carries_mark(process, settings) or _of_session(process, sessions)
    }
    grown = True
    while grown:
        children = {pid for pid, process in everything.items() if _parent(process) in ours}
        grown = not children <= ours
        ours |= children
    return [everything[pid] for pid in sorted(ours - spared) if _runs(everything[pid])]


def end(processes: Iterable[psutil.Process], *, grace: float = 8.0) -> None:
    """Ask processes to stop; after `grace` seconds end those that did not."""
    running = list(processes)
    for process in running:
        _signal(process, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(running, timeout=grace)
    for process in stubborn:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=5.0)


def forget(settings: Settings) -> None:
    """Remove what `start` remembered."""
    for path in settings.run.glob("*.process"):
        path.unlink(missing_ok=True)


def listening(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def tail(settings: Settings, name: str, count: int = 12) -> str:
    """The last lines that a process wrote."""
    path = settings.logs / f"{name}.log"
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:])


def wait_until_gone(settings: Settings, *, seconds: float = 15.0) -> list[psutil.Process]:
    """End everything of the platform, round by round, as new orphans come to light; return what resists."""
    deadline = time.monotonic() + seconds
    while (left := of_platform(settings)) and time.monotonic() < deadline:
        end(left)
    return left


def _carries_mark(process: psutil.Process, settings: Settings) -> bool:
    # Ray's workers overwrite their environment with a title, but name the session folder on their command line.
    try:
        if process.environ().get(MARK) == str(settings.root):
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
    # The session outlives its leader, and while it does its number is given to nobody else.
    try:
        began = sessions.get(os.getsid(process.pid))
        return began is not None and process.create_time() >= began - 1.0
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
