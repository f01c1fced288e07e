"""Starts the platform's services in order, monitors them, and restarts those that end.

A process of its own (`python -m console.terminal.supervisor`), independent of the terminal that started it. It writes
the state of the services to `status.json`. A service that was ready is restarted at once when it ends: the kernel
reports the end, nothing is polled for it. Only one that ends before it is ready is given longer and longer pauses.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import psutil

from console.terminal import processes
from console.terminal.services import Service, services
from lineage.private_folders import close_to_others
from lineage.settings import Settings
from serve.cluster.ray_settings import prepare

_TICK, _IDLE = 0.25, 1.0
_APART = 1.0  # seconds between two starts of a service that ends as soon as it is ready
_BACK_OFF = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)


def status_file(settings: Settings) -> Path:
    """The file with the states of the services."""
    return settings.root / "status.json"


def pause_before(failed_starts: int, since_start: float) -> float:
    """Seconds until a service that ended is started again.

    Args:
        failed_starts: starts in a row that ended before the service was ready; 0 when it was ready.
        since_start: seconds since it was started.
    """
    back_off = _BACK_OFF[min(failed_starts, len(_BACK_OFF) - 1)]
    return max(back_off, _APART - since_start, 0.0)


class Wakeup:
    """Waits for the end of processes, for a signal, or for a time."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)

    def wake(self) -> None:
        """End the wait; a signal handler may call it."""
        with suppress(BlockingIOError):  # full: it wakes anyway
            os.write(self._writer, b"\0")

    def wait(self, running: list[psutil.Process], seconds: float) -> None:
        """Return when one of the processes has ended, after `wake`, or after `seconds`."""
        watched = select.poll()
        watched.register(self._reader, select.POLLIN)
        descriptors: list[int] = []
        try:
            for process in running:
                descriptors.append(os.pidfd_open(process.pid))
                watched.register(descriptors[-1], select.POLLIN)
            watched.poll(seconds * 1_000)
        except ProcessLookupError:
            return  # it ended and was waited for already
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        with suppress(BlockingIOError):
            os.read(self._reader, 4_096)


class Supervisor:
    """Starts each service when those it needs are ready, and restarts it when it ends."""

    def __init__(self, settings: Settings, stop: threading.Event, wakeup: Wakeup) -> None:
        self._settings = settings
        self._stop, self._wakeup = stop, wakeup
        self._services = services(settings)
        self._running: dict[str, psutil.Process] = {}
        self._began: dict[str, float] = {}
        self._restarts: dict[str, int] = {}
        self._failed_starts: dict[str, int] = {}
        self._spares: dict[str, psutil.Process] = {}
        self._status: dict[str, dict[str, Any]] = {
            service.name: {"title": service.title, "state": "waiting"} for service in self._services
        }

    def run(self) -> None:
        """Run until `stop` is set."""
        prepare(self._settings)
        while not self._stop.is_set():
            for service in self._services:  # first, because checks of readiness may take seconds
                self._restart(service)
            for service in self._services:
                self._advance(service)
            if self._all_ready():  # later, it would slow down the start of what is needed
                self._keep_spares()
            self._write()
            self._wakeup.wait(self._watched(), _IDLE if self._all_ready() else _TICK)

    def _watched(self) -> list[psutil.Process]:
        """Processes that are expected to run on."""
        lasting = (service.name for service in self._services if not service.once)
        return [self._running[name] for name in lasting if self._status[name]["state"] in ("starting", "ready")]

    def _restart(self, service: Service) -> None:
        """Start a service again that ended after it was ready, or whose pause is over."""
        state = self._status[service.name]["state"]
        if state == "ready" and not service.once and not _alive(self._running[service.name]):
            self._mark_failed(service, "it ended")
        status = self._status[service.name]
        if status["state"] == "failed" and time.monotonic() >= status["again_at"]:
            self._start(service)

    def _advance(self, service: Service) -> None:
        state = self._status[service.name]["state"]
        if state == "waiting" and all(self._status[name]["state"] == "ready" for name in service.needs):
            self._start(service)
        elif state == "starting":
            self._check_start(service)

    def _keep_spares(self) -> None:
        for service in self._services:
            spare = self._spares.get(service.name)
            if service.spare and (spare is None or not _alive(spare)):
                name = f"{service.name}-spare"
                self._spares[service.name] = processes.start(
                    name, service.command, self._settings, service.environment, log=service.name
                )

    def _spare_of(self, service: Service) -> psutil.Process | None:
        """The spare, which serves from now on; None if there is none."""
        spare = self._spares.pop(service.name, None)
        if spare is None or not _alive(spare):
            return None
        processes.record(service.name, spare, self._settings)
        processes.forget(f"{service.name}-spare", self._settings)
        return spare

    def _start(self, service: Service) -> None:
        process = self._spare_of(service) or processes.start(
            service.name, service.command, self._settings, service.environment
        )
        self._running[service.name] = process
        self._began[service.name] = time.monotonic()
        self._status[service.name] = {"title": service.title, "state": "starting", "pid": process.pid}

    def _check_start(self, service: Service) -> None:
        process, took = self._running[service.name], time.monotonic() - self._began[service.name]
        alive = _alive(process)
        if (not service.once or not alive) and service.ready():
            ready = {"state": "ready", "seconds": round(took, 1)}
            self._status[service.name] |= ready
            self._failed_starts.pop(service.name, None)
        elif not alive:
            self._mark_failed(service, "it ended before it was ready")
        elif took > service.seconds:
            processes.end([process, *process.children(recursive=True)])
            self._mark_failed(service, f"it was not ready within {service.seconds:.0f} s")

    def _mark_failed(self, service: Service, why: str) -> None:
        count = self._restarts.get(service.name, 0) + 1
        failed_starts = self._failed_starts.get(service.name, 0)
        if self._status[service.name]["state"] != "ready":
            failed_starts += 1
        self._restarts[service.name], self._failed_starts[service.name] = count, failed_starts
        now = time.monotonic()
        self._status[service.name] = {
            "title": service.title,
            "state": "failed",
            "why": why,
            "restarts": count,
            "failed_starts": failed_starts,
            "again_at": now + pause_before(failed_starts, now - self._began[service.name]),
            "log": processes.tail(self._settings, service.name),
        }
        for other in self._services:
            if service.name in other.repeated_after:
                self._status[other.name] = {"title": other.title, "state": "waiting"}

    def _all_ready(self) -> bool:
        return all(status["state"] == "ready" for status in self._status.values())

    def _write(self) -> None:
        draft = status_file(self._settings).with_suffix(".new")
        view = {"ready": self._all_ready(), "services": self._status}
        draft.write_bytes(orjson.dumps(view))
        draft.replace(status_file(self._settings))


def _alive(process: psutil.Process) -> bool:
    """Whether a child runs. One that ended is waited for here: it would stay a zombie."""
    try:
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return True
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
    except psutil.NoSuchProcess:
        pass
    return False


def main() -> None:
    """Supervise until SIGTERM. Every service inherits the mask of file modes."""
    close_to_others()
    stop, wakeup = threading.Event(), Wakeup()

    def end(*_: object) -> None:
        stop.set()
        wakeup.wake()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    Supervisor(Settings(), stop, wakeup).run()
    sys.exit(0)


if __name__ == "__main__":
    main()
