"""A ledger service in this process with a realistic history."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.testclient import TestClient

from lineage.service.app import create_app
from lineage.settings import Settings
from plimsoll.ledger import Ledger
from tests.support.console_history import history_writer, open_accounts, write_history
from tests.support.ports import free_port

SignIn = Callable[[str], TestClient]


@dataclass
class Home:
    """A running ledger: settings, the four people's passwords, and the controller's client."""

    settings: Settings
    passwords: dict[str, str]
    ledger: Ledger

    def head(self) -> int:
        """The number of the newest record."""
        return int(self.ledger.records(limit=1)["head"])


@contextmanager
def running(folder: Path) -> Iterator[Home]:
    """Record the history with a manual clock, then serve it with the real clock."""
    settings = Settings(home=folder / "var", ledger_port=free_port(), console_port=free_port())
    passwords = open_accounts(settings)
    with history_writer(settings, passwords) as at:
        write_history(at)
    config = uvicorn.Config(
        create_app(settings), host=settings.host, port=settings.ledger_port, log_level="warning", lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ledger = Ledger(settings.ledger_url, settings.token("controller"))
    _until(lambda: server.started)
    yield Home(settings, passwords, ledger)
    ledger.close()
    server.should_exit = True
    thread.join(10)


def _until(ready: Callable[[], bool], tries: int = 600) -> None:
    tick = threading.Event()
    for _ in range(tries):
        if ready():
            return
        tick.wait(0.05)
    raise AssertionError("it did not become ready")


def ids(value: Any) -> list[Any]:
    """Every component id in a serialised layout."""
    if isinstance(value, dict):
        own = [value["props"]["id"]] if "id" in value.get("props", {}) else []
        return own + [one for child in value.values() for one in ids(child)]
    return [one for child in value for one in ids(child)] if isinstance(value, list) else []


def text(value: Any) -> str:
    """The words of a serialised or live layout, in order."""
    if hasattr(value, "to_plotly_json"):
        value = value.to_plotly_json()
    if isinstance(value, dict):
        return text(value.get("props", value).get("children"))
    if isinstance(value, (list, tuple)):
        return "".join(text(one) for one in value)
    return "" if value is None else str(value)
