"""The console as a process of its own, and people's tabs in a real browser in front of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from playwright import sync_api as playwright

from lineage.settings import Settings
from tests.support.console_home import Home

ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WIDE = {"width": 1440, "height": 900}


@contextmanager
def console_process(settings: Settings, module: str = "console.server", *arguments: str) -> Iterator[str]:
    """The console on the home of `settings`; its URL."""
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    process = subprocess.Popen(command, env=os.environ | settings.environment())
    try:
        _until_it_answers(f"{settings.console_url}/healthz", process)
        yield settings.console_url
    finally:
        process.terminate()
        process.wait(15)


def _until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the console ended"
        try:
            if httpx.get(url, timeout=1.0).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium without a window."""
    with playwright.sync_playwright() as runner:
        opened = runner.chromium.launch(executable_path="/usr/bin/chromium", args=ARGS)
        yield opened
        opened.close()


class Seat:
    """A signed-in person's tab that notes every request and every complaint of the browser.

    Args:
        cookies: of a session that the person has already; without, the person signs in.
        options: of the browser's context.
    """

    def __init__(self, browser: Any, base: str, home: Home, name: str, cookies: Any = None, **options: Any) -> None:
        self.base = base
        self.context = browser.new_context(**({"viewport": WIDE} | options))
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        if cookies:
            self.context.add_cookies(cookies)
        else:
            self._sign_in(name, home.passwords[name])

    def _sign_in(self, name: str, password: str) -> None:
        self.page.goto(f"{self.base}/sign-in")
        self.page.fill("#name", name)
        self.page.fill("#password", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_selector("#chip")

    def open(self, path: str) -> Any:
        self.page.goto(self.base + path)
        self.page.wait_for_selector("h1", timeout=20_000)
        playwright.expect(self.page.locator("#chip")).to_have_text("Live", timeout=20_000)
        return self.page
