"""`plimsoll up`, `down` and `status`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from console.terminal import processes
from console.terminal.preflight import require_startable
from console.terminal.services import services
from console.terminal.supervisor import status_file
from lineage.accounts.credentials import Credentials
from lineage.errors import UnavailableError
from lineage.private_folders import make_private, tighten
from lineage.settings import Settings
from serve.cluster.desired import forget_desired

Report = Callable[[str], None]
OnNewAccounts = Callable[[dict[str, str]], None]


@dataclass(frozen=True)
class Started:
    """Result of `up`: seconds until all services were ready, and their states.

    Attributes:
        already: they were ready before; nothing was started.
    """

    seconds: float
    services: dict[str, dict[str, Any]]
    already: bool = False


def status(settings: Settings) -> dict[str, Any]:
    """State of this home's platform: `{"ready", "services", "supervised"}`."""
    supervised = "supervisor" in processes.recorded(settings)
    path = status_file(settings)
    view: dict[str, Any] = {"ready": False, "services": {}}
    if path.is_file() and supervised:
        view = orjson.loads(path.read_bytes())
    return view | {"supervised": supervised}


def up(
    settings: Settings,
    report: Report,
    *,
    on_new_accounts: OnNewAccounts = lambda _: None,
    patience: float = 240.0,
) -> Started:
    """Start all services and wait until their readiness checks pass.

    When they do not, the processes that this call started are stopped again; a supervisor that an earlier call
    started goes on.

    Args:
        report: called with a line for each service that is ready.
        on_new_accounts: called with the passwords by name, before any process starts; they are stored nowhere.
        patience: seconds until it gives up.

    Raises:
        UnavailableError: the settings cannot work here (see `require_startable`), a service does not come up, or
            `patience` seconds have passed.
    """
    began = time.monotonic()
    before = status(settings)
    if before["ready"]:
        return Started(0.0, before["services"], already=True)
    if not before["supervised"]:
        processes.wait_until_gone(settings)  # left over from a crash
        processes.remove_records(settings)
        require_startable(settings)
        _close_folders(settings, report)
        status_file(settings).unlink(missing_ok=True)
        forget_desired(settings)
    passwords = Credentials(settings).first_start()
    if passwords:
        on_new_accounts(passwords)
    if before["supervised"]:
        final = _wait_ready(settings, report, began + patience)
    else:
        final = _start_and_wait(settings, report, began + patience)
    return Started(time.monotonic() - began, final["services"])


def _close_folders(settings: Settings, report: Report) -> None:
    """Make the folders of this platform, and close those that an earlier version left open to other accounts."""
    settings.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in (settings.root, settings.witness_home.expanduser().resolve()):
        if count := tighten(folder):
            report(f"{folder} was open to other accounts of this machine; {count} files and folders are closed now")
    aside = make_private(settings.ray_tmp.expanduser(), "ray_tmp")
    if aside is not None:
        report(f"{settings.ray_tmp} was open to other accounts; it is set aside as {aside}, which you may delete")


def _start_and_wait(settings: Settings, report: Report, deadline: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "console.terminal.supervisor"]
    try:
        processes.start("supervisor", command, settings, settings.environment())
        return _wait_ready(settings, report, deadline)
    except (UnavailableError, KeyboardInterrupt):
        down(settings)
        raise


def down(settings: Settings) -> int:
    """Stop all processes of this home, also those that a crash left running; return how many ended.

    Raises:
        UnavailableError: a process cannot be ended.
    """
    supervisor = processes.recorded(settings).get("supervisor")
    if supervisor is not None:
        processes.end([supervisor])  # first, because it restarts what ends
    count = len(processes.of_platform(settings))
    left = processes.wait_until_gone(settings)
    if left:
        names = ", ".join(f"{process.pid}" for process in left)
        raise UnavailableError(f"these processes could not be ended: {names}; end them yourself")
    processes.remove_records(settings)
    status_file(settings).unlink(missing_ok=True)
    return count + (supervisor is not None)


def show(console: Console, view: dict[str, Any]) -> None:
    """Print the services as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("Service", "State", "Ready after", "Process"):
        table.add_column(heading)
    for service in view["services"].values():
        seconds = f"{service['seconds']} s" if "seconds" in service else ""
        state = service["state"] + (f": {service['why']}" if "why" in service else "")
        table.add_row(service["title"], state, seconds, str(service.get("pid", "")))
    console.print(table)


def _wait_ready(settings: Settings, report: Report, deadline: float) -> dict[str, Any]:
    """Report services as they become ready; return the status when all are.

    Raises:
        UnavailableError: the supervisor ended, a service failed three times, or the deadline passed.
    """
    reported: set[str] = set()
    names = [service.name for service in services(settings)]
    while True:
        view = status(settings)
        if not view["supervised"]:
            raise UnavailableError(f"the supervisor ended:\n{processes.tail(settings, 'supervisor')}")
        for name in names:
            service = view["services"].get(name, {})
            if service.get("state") == "ready" and name not in reported:
                reported.add(name)
                report(f"{service['title']} ready after {service['seconds']} s")
            if service.get("failed_starts", 0) >= 3:
                raise UnavailableError(f"{service['title']} does not come up: {service['why']}\n{service['log']}")
        if view["ready"]:
            return view
        if time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    waiting = [s["title"] for s in view["services"].values() if s["state"] != "ready"] or ["the supervisor"]
    raise UnavailableError(f"not ready in time: {', '.join(waiting)}. See {settings.logs} or `plimsoll doctor`")
