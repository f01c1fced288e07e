"""Starts the platform's services in order, monitors them, and restarts those that end.

A process of its own (`python -m console.terminal.supervisor`), independent of the terminal that started it. It writes
the state of the services to `status.json`.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import psutil

from console.terminal import processes
from console.terminal.services import Service, services
from lineage.settings import Settings
from serve.cluster.ray_settings import prepare

_TICK = 0.25
_BACK_OFF = (1.0, 2.0, 5.0, 15.0, 30.0)


def status_file(settings: Settings) -> Path:
    """The file with the states of the services."""
    return settings.root / "status.json"


class Supervisor:
    """Starts each service when those it needs are ready, and restarts it when it ends."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings = settings
        self._stop = stop
        self._services = services(settings)
        self._running: dict[str, psutil.Process] = {}
        self._began: dict[str, float] = {}
        self._restarts: dict[str, int] = {}
        self._status: dict[str, dict[str, Any]] = {
            service.name: {"title": service.title, "state": "waiting"} for service in self._services
        }

    def run(self) -> None:
        """Run until `stop` is set."""
        prepare(self._settings)
        while not self._stop.is_set():
            for service in self._services:
                self._advance(service)
            self._write()
            self._stop.wait(_TICK if not self._all_ready() else 1.0)

    def _advance(self, service: Service) -> None:
        state = self._status[service.name]["state"]
        if state == "waiting":
            if all(self._status[name]["state"] == "ready" for name in service.needs):
                self._start(service)
        elif state == "starting":
            self._check_start(service)
        elif state == "ready" and not service.once and not _alive(self._running[service.name]):
            self._mark_failed(service, "it ended")
        elif state == "failed" and time.monotonic() >= self._status[service.name]["again_at"]:
            self._start(service)

    def _start(self, service: Service) -> None:
        process = processes.start(service.name, service.command, self._settings, service.environment)
        self._running[service.name] = process
        self._began[service.name] = time.monotonic()
        self._status[service.name] = {"title": service.title, "state": "starting", "pid": process.pid}

    def _check_start(self, service: Service) -> None:
        process, took = self._running[service.name], time.monotonic() - self._began[service.name]
        alive = _alive(process)
        if (not service.once or not alive) and service.ready():
            ready = {"state": "ready", "seconds": round(took, 1)}
            self._status[service.name] |= ready
        elif not alive:
            self._mark_failed(service, "it ended before it was ready")
        elif took > service.seconds:
            processes.end([process, *process.children(recursive=True)])
            self._mark_failed(service, f"it was not ready within {service.seconds:.0f} s")

    def _mark_failed(self, service: Service, why: str) -> None:
        count = self._restarts.get(service.name, 0)
        self._restarts[service.name] = count + 1
        pause = _BACK_OFF[min(count, len(_BACK_OFF) - 1)]
        failed = {
            "title": service.title,
            "state": "failed",
            "why": why,
            "restarts": count + 1,
            "again_at": time.monotonic() + pause,
            "log": processes.tail(self._settings, service.name),
        }
        self._status[service.name] = failed
        for other in self._services:  # one-time steps that depend on it must be repeated
            if service.name in other.needs and other.once:
                self._status[other.name] = {"title": other.title, "state": "waiting"}

    def _all_ready(self) -> bool:
        return all(status["state"] == "ready" for status in self._status.values())

    def _write(self) -> None:
        draft = status_file(self._settings).with_suffix(".new")
        view = {"ready": self._all_ready(), "services": self._status}
        draft.write_bytes(orjson.dumps(view))
        draft.replace(status_file(self._settings))


def _alive(process: psutil.Process) -> bool:
    try:
        # A child that ended stays a zombie until it is waited for.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Supervise until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Supervisor(Settings(), stop).run()
    sys.exit(0)


if __name__ == "__main__":
    main()
