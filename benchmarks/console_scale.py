"""The console over 500 models and 10,000 releases: first paint of every page, change to screen, 20 open tabs.

Needs Chromium, as the tests of the console do.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import million
from lineage.accounts.credentials import Credentials
from lineage.settings import Settings
from plimsoll.ledger import Ledger

RELEASES, RECORDS, QUICK = 20, 1_000_000, 300_000
TABS, CHANGES, SECONDS = 20, 5, 20.0
PAGES = {
    "overview": "/",
    "releases": "/releases",
    "releases, page 50": "/releases?page=50",
    "releases of a model": "/releases?model=model-250",
    "release": "/release/model-250@20",
    "reviews": "/reviews",
    "drift": "/drift",
    "fairness": "/fairness",
    "audit": "/audit",
}
_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_READY = ".panel"


def run() -> Iterator[str]:
    """Each figure, with the load of the machine while it was measured."""
    records = QUICK if os.environ.get("PLIMSOLL_BENCH") == "quick" else RECORDS
    with tempfile.TemporaryDirectory(dir=".") as place:
        settings = Settings(home=Path(place) / "var", ledger_port=_free_port(), console_port=_free_port())
        million.build(settings, records, RELEASES)
        passwords = Credentials(settings).first_start()
        releases = million.MODELS * RELEASES
        yield f"{records:,} records of {million.MODELS} models and {releases:,} releases"
        ledger_, console_ = ("lineage.service", settings.ledger_url), ("console.server", settings.console_url)
        with _process(settings, *ledger_) as ledger, _process(settings, *console_) as console:
            yield f"{_memory(ledger)} of the ledger, {_memory(console)} of the console; {_load()}"
            yield from _in_browser(settings, passwords["operator"], ledger, console)


def _in_browser(settings: Settings, password: str, ledger: psutil.Process, console: psutil.Process) -> Iterator[str]:
    from playwright.sync_api import sync_playwright

    facts = Ledger(settings.ledger_url, settings.token("controller"), timeout=60.0)
    with sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path="/usr/bin/chromium", args=_ARGS)
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        _sign_in(page, settings.console_url, password)
        for name, path in PAGES.items():
            yield _first_paint(page, name, settings.console_url + path)
        page.goto(settings.console_url)
        page.wait_for_selector(_READY)
        yield f"{_changes(facts, page, 'one tab')}; {_load()}"
        tabs = [context.new_page() for _ in range(TABS - 1)]
        for tab, path in zip(tabs, list(PAGES.values()) * TABS, strict=False):
            tab.goto(settings.console_url + path, timeout=180_000)
            tab.wait_for_selector(_READY, state="attached", timeout=180_000)
        page.bring_to_front()
        yield _busy(facts, page, ledger, console)
        browser.close()
    facts.close()


def _sign_in(page: Any, url: str, password: str) -> None:
    page.goto(f"{url}/sign-in")
    page.fill("#name", "operator")
    page.fill("#password", password)
    page.click("button[type=submit]")
    page.wait_for_selector(_READY, timeout=60_000)


def _first_paint(page: Any, name: str, url: str) -> str:
    """Seconds from the address to the first panel with what the ledger said, three times."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        page.goto(url)
        page.wait_for_selector(_READY, timeout=60_000)
        if name == "audit":
            page.wait_for_selector(".ag-row", timeout=60_000)
        took.append(time.perf_counter() - began)
    return f"{name}: {min(took):.2f} to {max(took):.2f} s; {_load()}"


def _changes(facts: Ledger, page: Any, name: str) -> str:
    """Seconds from the ledger's acknowledgement of an alert to its row on the overview."""
    took = []
    for number in range(CHANGES):
        text = f"{name}, change {number}"
        data = {"alert": "slow", "about": text, "severity": "page", "summary": text, "evidence": None}
        facts.append("AlertRaised", model="model-007", data=data)
        began = time.perf_counter()
        page.wait_for_selector(f".need >> text={text}", timeout=60_000)
        took.append(time.perf_counter() - began)
    return f"change to screen, {name}: median {statistics.median(took):.2f}, at most {max(took):.2f} s"


def _busy(facts: Ledger, page: Any, ledger: psutil.Process, console: psutil.Process) -> str:
    """What 20 tabs cost while a fact comes every second, and how soon a change is seen then."""
    before = [_cpu(process) for process in (ledger, console)]
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        facts.append("ControllerStarted", data={"replicas": 2})
        time.sleep(1.0)  # the rate of facts is part of the measurement
    passed = time.perf_counter() - began
    shares = [(_cpu(process) - was) / passed for process, was in zip((ledger, console), before, strict=True)]
    seen = _changes(facts, page, f"{TABS} tabs")
    used = f"ledger {shares[0]:.0%} of a core and {_memory(ledger)}, console {shares[1]:.0%} and {_memory(console)}"
    return f"{TABS} tabs, a fact a second: {used}; {seen}; {_load()}"


@contextmanager
def _process(settings: Settings, module: str, url: str) -> Iterator[psutil.Process]:
    environment = os.environ | settings.environment()
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-m", module], env=environment)
    try:
        while not _answers(url):
            if process.poll() is not None:
                raise RuntimeError(f"{module} ended with {process.returncode}")
            time.sleep(0.2)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _memory(process: psutil.Process) -> str:
    return f"{process.memory_info().rss / 2**20:,.0f} MiB"


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
