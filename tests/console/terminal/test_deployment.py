"""`plimsoll scale` and `redeploy` where they must fail; their success is an acceptance test."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from console.terminal import deployment, up
from console.terminal.app import app
from lineage.errors import UnavailableError
from lineage.settings import Settings

PROGRAMS: dict[str, tuple[str, list[str], str]] = {
    "refused": ("import sys; print('one', 'two: no', sep='\\n', file=sys.stderr); sys.exit(1)", ["one"], "two: no"),
    "silent": ("import sys; sys.exit(3)", [], "the deployment ended with exit status 3"),
}


@pytest.fixture
def supervised(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings.root.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(up, "status", lambda _: {"supervised": True})
    return settings


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has the deployment run another program, in a real process."""
    real = subprocess.Popen

    def instead(program: str) -> None:
        monkeypatch.setattr(subprocess, "Popen", lambda _, **more: real([sys.executable, "-c", program], **more))

    return instead


@pytest.mark.parametrize("words", [["scale", "2"], ["redeploy"]], ids="-".join)
def test_where_nothing_runs_it_says_so(words: list[str], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLIMSOLL_HOME", str(settings.root))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "nothing is running; `plimsoll up` starts it" in result.output


@pytest.mark.parametrize("replicas", ["0", "65", "-1", "two", ""])
def test_a_number_of_replicas_that_cannot_be_is_refused(replicas: str) -> None:
    result = CliRunner().invoke(app, ["scale", "--", replicas])
    assert result.exit_code == 2
    assert "Invalid value for 'replicas'" in result.output


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_deployment_that_fails_says_why_once(kind: str, supervised: Settings, programs: Any) -> None:
    program, progress, why = PROGRAMS[kind]
    programs(program)
    said: list[str] = []
    with pytest.raises(UnavailableError, match=why):
        deployment.change(supervised, said.append)
    assert said == progress


def test_progress_is_told_line_by_line_and_the_result_comes_back(supervised: Settings, programs: Any) -> None:
    result = '{"replicas": 3, "seconds": 1.5}'
    programs(f"import sys; print('one', 'two', sep='\\n', file=sys.stderr); print({result!r})")
    said: list[str] = []
    assert deployment.change(supervised, said.append) == {"replicas": 3, "seconds": 1.5}
    assert said == ["one", "two"]
