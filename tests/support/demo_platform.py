"""One running platform for the whole run: `plimsoll demo` runs on it, then other tests use it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from console.terminal.preflight import ports_in_use
from lineage.settings import Settings
from plimsoll import Client
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]
STORY_SECONDS = 780  # the demo takes far less; a busy machine may take longer


@dataclass
class Platform:
    """A platform under a home of its own, on free ports."""

    settings: Settings
    environment: dict[str, str]
    log: Path
    demo: subprocess.Popen[bytes]
    summary: dict[str, Any]
    passwords: dict[str, str]

    def person(self, name: str) -> Client:
        """A client signed in as the person of that role."""
        addresses = {"gateway": self.settings.gateway_url, "ledger": self.settings.ledger_url}
        return Client.sign_in(name, self.passwords[name], **addresses)

    def machine(self, name: str) -> Client:
        """A client with a machine's token."""
        addresses: dict[str, Any] = {"gateway": self.settings.gateway_url, "ledger": self.settings.ledger_url}
        return Client(self.settings.token(name), **addresses)

    def command(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the `plimsoll` command as a user would."""
        command = [str(Path(sys.executable).with_name("plimsoll")), *words]
        environment = self.environment | more
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def environment_of(home: Path) -> dict[str, str]:
    """This process's environment with a home and ports of its own."""
    names = ("LEDGER_PORT", "WITNESS_PORT", "GATEWAY_PORT", "CONSOLE_PORT", "RAY_PORT", "RAY_DASHBOARD_PORT")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PLIMSOLL_", "RAY_"))}
    while True:  # RAY_PORT chooses further ports, which another platform may use
        ports = {f"PLIMSOLL_{name}": str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
        environment = clean | ports | {"PLIMSOLL_HOME": str(home)}
        if not ports_in_use(settings_of(environment)):
            return environment


def settings_of(environment: dict[str, str]) -> Settings:
    """The settings that a process with this environment has."""
    values = {
        name.removeprefix("PLIMSOLL_").lower(): value
        for name, value in environment.items()
        if name.startswith("PLIMSOLL_")
    }
    return Settings(**values)  # type: ignore[arg-type]


def run_demo(home: Path) -> Platform:
    """Start the demo and wait for its summary."""
    environment = environment_of(home)
    settings = settings_of(environment)
    log = home.parent / "demo.log"
    command = [str(Path(sys.executable).with_name("plimsoll")), "demo"]
    with log.open("wb") as output:
        demo = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    summary = _wait(home / "demo.json", demo, log)
    passwords = dict(re.findall(r"^ {4}(scientist|validator|operator|auditor) +(\S+)$", log.read_text(), re.MULTILINE))
    return Platform(settings, environment, log, demo, summary, passwords)


def end(platform: Platform) -> None:
    """End the demo by SIGINT, as Ctrl-C does."""
    if platform.demo.poll() is None:
        platform.demo.send_signal(signal.SIGINT)
        platform.demo.wait(timeout=90)


def _wait(path: Path, demo: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + STORY_SECONDS
    while time.monotonic() < deadline:
        if path.exists():
            summary: dict[str, Any] = orjson.loads(path.read_bytes())
            return summary
        if demo.poll() is not None:
            raise AssertionError(f"the demo ended with {demo.returncode}:\n{log.read_text()[-6000:]}")
        time.sleep(0.5)
    demo.send_signal(signal.SIGINT)
    raise AssertionError(f"no summary within {STORY_SECONDS} s:\n{log.read_text()[-6000:]}")


def values(rows: Sequence[dict[str, Any]], name: str) -> list[Any]:
    """One column of rows."""
    return [row[name] for row in rows]
