"""A ledger that answers late while news never stop: the page still shows what happened."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api as playwright

from tests.support.console_browser import Seat, chromium, console_process
from tests.support.console_home import Home, running

pytestmark = pytest.mark.acceptance
NEWS_SECONDS = 0.1


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with running(tmp_path_factory.mktemp("late")) as made:
        yield made


@pytest.fixture(scope="module")
def delay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the seconds by which answers are late."""
    file = tmp_path_factory.mktemp("delay") / "seconds"
    file.write_text("0")
    return file


@pytest.fixture(scope="module")
def served(home: Home, delay: Path) -> Iterator[str]:
    with console_process(home.settings, "tests.support.slow_console", str(delay)) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@contextmanager
def news(home: Home, model: str) -> Iterator[list[int]]:
    """A fact about the model every tenth of a second; the list grows by each."""
    stop, said = threading.Event(), [0]

    def go_on() -> None:
        while not stop.wait(NEWS_SECONDS):
            data = {"alert": "slow", "about": f"fact {len(said)}", "severity": "ticket", "summary": "s"}
            record = home.ledger.append("AlertRaised", model=model, data=data | {"evidence": None})
            said.append(record["seq"])

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield said
    finally:
        stop.set()
        thread.join()


def quarantine(home: Home, release: str) -> None:
    data = {"why": "wrong decisions 6.2% (limit 4.0%)", "judgement": {"verdict": "ABORT", "reasons": ["too many"]}}
    home.ledger.append("CanaryAborted", model=release.partition("@")[0], release=release, data=data)


@pytest.mark.parametrize(("seconds", "release"), [("0.5", "credit-default@2"), ("2.5", "card-fraud@1")])
def test_a_quarantine_is_shown_while_news_go_on(
    seconds: str, release: str, browser: Any, served: str, home: Home, delay: Path
) -> None:
    delay.write_text("0")
    seat = Seat(browser, served, home, "operator")
    page = seat.open(f"/release/{release}")
    page.evaluate("window.notReloaded = true")
    delay.write_text(seconds)
    with news(home, release.partition("@")[0]) as said:
        quarantine(home, release)
        before = len(said)
        page.wait_for_selector("h1 .status >> text=Quarantined", timeout=30_000)
        assert len(said) > before, "news went on meanwhile"
        assert page.get_by_text("Quarantined").count() >= 1
    assert page.evaluate("window.notReloaded") is True
    seat.context.close()


def test_a_late_answer_is_called_slow_and_never_silent(browser: Any, served: str, home: Home, delay: Path) -> None:
    delay.write_text("0")
    seat = Seat(browser, served, home, "operator")
    page = seat.open("/release/fx-signal@1")
    chips: list[str] = []
    page.expose_function("heard", lambda text: chips.append(text))
    page.evaluate(
        "new MutationObserver(() => heard(document.getElementById('chip').innerText))"
        ".observe(document.getElementById('chip'), {childList: true, subtree: true, characterData: true})"
    )
    delay.write_text("4")
    quarantine(home, "fx-signal@1")
    playwright.expect(page.locator("#chip")).to_have_text("Slow", timeout=20_000)
    page.wait_for_selector("h1 .status >> text=Quarantined", timeout=30_000)
    delay.write_text("0")
    playwright.expect(page.locator("#chip")).to_have_text("Live", timeout=20_000)
    assert not [chip for chip in chips if chip.startswith(("Silent", "Reconnecting"))], chips
    seat.context.close()
