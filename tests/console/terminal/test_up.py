"""`plimsoll up` that fails: passwords of new accounts are shown, and no process is left running."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from console.terminal import processes
from console.terminal.app import app
from console.terminal.preflight import ports_in_use
from console.terminal.supervisor import status_file
from console.terminal.up import up
from lineage.accounts.credentials import FIRST_PEOPLE, Credentials
from lineage.accounts.passwords import matches
from lineage.errors import UnavailableError
from lineage.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings with free ports; processes that a failed test left are ended."""
    free = (one for offset in range(2_000, 6_000, 100) if not ports_in_use(one := settings_at(tmp_path, offset)))
    settings = next(free)
    yield settings
    assert processes.wait_until_gone(settings) == []


def settings_at(folder: Path, offset: int) -> Settings:
    return Settings(home=folder / "var", port_offset=offset)


def test_up_that_gives_up_has_shown_the_passwords_and_stops_what_it_started(settings: Settings) -> None:
    shown: list[dict[str, str]] = []

    def running(passwords: dict[str, str]) -> None:
        assert processes.of_platform(settings) == [], "shown before anything starts"
        shown.append(passwords)

    with pytest.raises(UnavailableError, match="not ready in time"):
        up(settings, lambda _: None, on_new_accounts=running, patience=0.0)
    assert [sorted(passwords) for passwords in shown] == [sorted(FIRST_PEOPLE)]
    assert is_password_of(settings, "auditor", shown[0]["auditor"])
    assert processes.of_platform(settings) == []
    assert processes.recorded(settings) == {}
    assert not status_file(settings).exists()


def test_a_supervisor_of_an_earlier_up_goes_on(settings: Settings) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
    process = processes.start("supervisor", sleep, settings, {})
    with pytest.raises(UnavailableError, match="not ready in time"):
        up(settings, lambda _: None, patience=0.0)
    assert processes.recorded(settings) == {"supervisor": process}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_when_the_supervisor_ends_the_command_says_so_and_prints_the_passwords(
    options: list[str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    settings.ray_tmp.parent.mkdir(parents=True, exist_ok=True)
    blocked = settings.root / "secrets" / "ray.token"
    blocked.mkdir(parents=True)  # a folder where the supervisor writes a file
    result = CliRunner().invoke(app, ["up", *options])
    assert result.exit_code == 1
    passwords = passwords_in(result.stdout, options)
    assert sorted(passwords) == sorted(FIRST_PEOPLE)
    assert is_password_of(settings, "operator", passwords["operator"])
    assert processes.of_platform(settings) == []


def is_password_of(settings: Settings, name: str, password: str) -> bool:
    credentials = Credentials(settings)
    (account,) = [first.account for first in credentials.firsts() if first.name == name]
    return matches(password, credentials.password_of(account))


def passwords_in(text: str, options: list[str]) -> dict[str, Any]:
    if options:
        return dict(orjson.loads(text)["passwords"])
    return dict(line.split() for line in text.splitlines() if line.startswith("  "))
