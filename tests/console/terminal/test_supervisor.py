"""Restarts by the supervisor: at once after a service was ready, later and later while it does not come up."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from console.terminal import processes, supervisor
from console.terminal.services import Service, services
from console.terminal.supervisor import Supervisor, Wakeup, pause_before
from lineage.settings import Settings

_LONG = 60.0


@pytest.mark.parametrize(
    ("failed_starts", "since_start", "seconds"),
    [(0, 100.0, 0.0), (0, 0.2, 0.8), (1, 3.0, 1.0), (2, 3.0, 2.0), (5, 90.0, 30.0), (99, 90.0, 30.0)],
)
def test_pauses_grow_only_while_a_service_does_not_become_ready(
    failed_starts: int, since_start: float, seconds: float
) -> None:
    assert pause_before(failed_starts, since_start) == pytest.approx(seconds)


def test_the_end_of_a_process_ends_the_wait() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    woken = threading.Event()
    process = psutil.Process(child.pid)

    def wait() -> None:
        Wakeup().wait([process], _LONG)
        woken.set()

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    child.kill()
    assert woken.wait(_LONG / 2)
    child.wait()
    Wakeup().wait([process], _LONG)  # it is gone: no wait at all


def test_a_signal_ends_the_wait() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    wakeup.wait([], _LONG)


class Platform:
    """A supervisor, driven step by step, of one service with a spare; `ready` is what its check says."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.ready = settings, True
        sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]
        service = Service("ledger", "Ledger", 1, sleeps, {}, lambda: self.ready, spare=True)
        monkeypatch.setattr(supervisor, "services", lambda _: [service])
        monkeypatch.setattr(supervisor, "prepare", lambda _: None)
        monkeypatch.setattr(Wakeup, "wait", lambda *_: self._stepped())
        self._check: Callable[[dict[str, Any]], bool] = lambda _: True
        self._stop = threading.Event()
        self.supervisor = Supervisor(settings, self._stop, Wakeup())

    def _stepped(self) -> None:
        if self._check(self.supervisor._status["ledger"]):
            self._stop.set()

    def until(self, check: Callable[[dict[str, Any]], bool]) -> dict[str, psutil.Process]:
        """Let it work until the status passes the check; the recorded processes by name."""
        self._check = check
        self._stop.clear()
        self.supervisor.run()
        return processes.recorded(self.settings)


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    settings = Settings(home=tmp_path / "var")
    settings.root.mkdir()
    platform = Platform(settings, monkeypatch)
    yield platform
    processes.end(processes.recorded(settings).values())


def test_a_spare_takes_the_place_of_a_service_that_ends(platform: Platform) -> None:
    first = platform.until(lambda status: status["state"] == "ready")
    assert sorted(first) == ["ledger", "ledger-spare"]
    first["ledger"].kill()
    first["ledger"].wait(_LONG)
    then = platform.until(lambda status: status["state"] == "ready" and status["pid"] != first["ledger"].pid)
    assert then["ledger"] == first["ledger-spare"]
    assert then["ledger-spare"] not in first.values(), "a new spare"


def test_a_spare_that_ends_is_replaced(platform: Platform) -> None:
    first = platform.until(lambda status: status["state"] == "ready")
    first["ledger-spare"].kill()
    first["ledger-spare"].wait(_LONG)
    then = platform.until(lambda _: True)
    assert then["ledger"] == first["ledger"]
    assert then["ledger-spare"] != first["ledger-spare"]


def test_without_a_spare_a_new_process_is_started(platform: Platform) -> None:
    platform.until(lambda status: status["state"] == "ready")
    for process in processes.recorded(platform.settings).values():
        process.kill()
        process.wait(_LONG)
    then = platform.until(lambda status: status["state"] == "ready")
    assert sorted(then) == ["ledger", "ledger-spare"]


def test_the_end_of_the_ledger_repeats_no_deployment(tmp_path: Path) -> None:
    repeated = {one.name: one.repeated_after for one in services(Settings(home=tmp_path)) if one.once}
    assert repeated == {"deploy": ("ray",)}, "gateway and controller live in Ray and survive the ledger's end"
