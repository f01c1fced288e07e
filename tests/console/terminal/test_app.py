"""Terminal commands: help, exit statuses, error lines, and one line for each kind of fact."""

from __future__ import annotations

import re
import stat
from typing import Any

import pytest
import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from typer.testing import CliRunner

from console.terminal import output, session
from console.terminal.app import app
from console.terminal.narrate import _DETAILS, _QUIET, narrate
from console.terminal.output import errors_reported, print_json, print_rows
from lineage.errors import InvalidError, PlimsollError, RefusedError, TamperedError, UnavailableError, UnknownError
from lineage.facts.registry import FACTS
from lineage.settings import Settings
from plimsoll import errors
from tests.support.sample_facts import record_of

COMMANDS = [
    *("up", "down", "scale", "redeploy", "status", "env", "doctor", "demo", "login", "logout", "version"),
    *("releases", "release", "actions", "train", "canary", "review", "promote", "abort", "rollback", "decide"),
    *("models", "kill", "kill-release", "shadow", "shadow start", "shadow stop"),
    *("audit", "audit verify", "audit tail", "audit query", "audit rebuild"),
    *("audit checkpoint", "audit prove", "audit verifier", "asof", "provenance", "dossier"),
    *("decision", "decision show", "decision replay", "decision history", "erase", "hold", "release-hold"),
    *("backup", "backup create", "backup restore", "backup drill"),
    *("features", "features materialize", "features status"),
    *("accounts", "accounts add", "accounts confirm", "accounts confirm-recovery", "accounts disable"),
    *("accounts enable", "accounts list", "accounts password", "accounts recertify", "accounts recover"),
    *("accounts reset", "accounts roles", "accounts withdraw", "keys", "keys list", "keys revoke", "keys rotate"),
]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PLIMSOLL_HOME", str(settings.root))
    monkeypatch.setenv("PLIMSOLL_LEDGER_PORT", "1025")
    return lambda *words, **options: CliRunner().invoke(app, list(words), **options)


def leaves(group: Any, before: str = "") -> list[str]:
    names = []
    for name, command in group.commands.items():
        names += [before + name, *(leaves(command, f"{name} ") if hasattr(command, "commands") else [])]
    return names


def test_every_command_is_in_this_table() -> None:
    assert sorted(leaves(typer.main.get_command(app))) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: str, run: Any) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0, result.output
    says = result.output.split("Usage:")[1].split("\n", 1)[1].strip().splitlines()[0]
    assert re.search(r"\w{3}", says)


@pytest.mark.parametrize("kind", sorted(FACTS))
def test_every_fact_is_told_in_a_line_or_not_at_all(kind: str) -> None:
    line = narrate(record_of(kind))
    if kind in _QUIET:
        assert line is None
    else:
        assert line is not None
        assert kind in line
        assert line.startswith("10:00:00 ")
        assert "\n" not in line


def test_what_is_told_is_about_facts() -> None:
    assert FACTS.keys() >= _DETAILS.keys() | _QUIET


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("DriftMeasured", {"share_drifted": None, "verdict": "not_enough_data", "features": []}),
        ("FairnessMeasured", {"ratio": None, "ratio_interval": None, "verdict": "not_enough_data"}),
        ("CanaryAborted", {"judgement": None}),
        ("RolloutStepped", {"judgement": None}),
        ("ModelTrained", {"metrics": {}}),
    ],
)
def test_facts_with_little_in_them_are_told_too(kind: str, changes: dict[str, Any]) -> None:
    assert narrate(record_of(kind, **changes))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidError("x"), 2),
        (UnknownError("x"), 2),
        (RefusedError("x"), 3),
        (UnavailableError("x"), 1),
        (TamperedError("x"), 1),
        (PlimsollError("x"), 1),
        (errors.Invalid("x"), 2),
        (errors.Unknown("x"), 2),
        (errors.Refused("x"), 3),
        (errors.Unavailable("x"), 1),
    ],
)
def test_a_script_can_tell_errors_apart(error: Exception, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, errors_reported():
        raise error
    assert caught.value.code == status
    assert capsys.readouterr().out == "", "errors go to standard error"


def test_our_own_bugs_are_not_told_as_if_they_were_errors_of_others() -> None:
    with pytest.raises(KeyError), errors_reported():
        raise KeyError("bug")


#: Commands with the arguments they need, one of each module of commands.
READING_SETTINGS = [
    *("up", "down", "scale 2", "redeploy", "status", "env", "doctor", "demo", "login ada --password x", "logout"),
    *("accounts list", "releases", "models", "audit verify", "asof m --seq 1", "dossier m@1", "backup drill"),
    *(
        "decision show d --reason because",
        "decision replay d --reason because",
        "features status",
        "kill m --reason because --yes",
        "audit rebuild",
    ),
]


@pytest.mark.parametrize("command", READING_SETTINGS)
def test_an_invalid_setting_is_named_with_its_value_and_what_was_expected(
    command: str, run: Any, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(output, "err", Console(stderr=True, highlight=False))
    monkeypatch.setenv("PLIMSOLL_GATEWAY_PORT", "eighty")
    monkeypatch.setenv("PLIMSOLL_RAY_CPUS", "0")
    result = run(*command.split())
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines() == [
        "error: PLIMSOLL_GATEWAY_PORT is 'eighty'; expected a valid integer, unable to parse string as an integer",
        "error: PLIMSOLL_RAY_CPUS is '0'; expected greater than or equal to 1",
    ]
    assert not settings.root.exists(), "nothing was started or written"


def test_an_invalid_model_of_our_own_is_a_bug_not_a_setting() -> None:
    class Other(BaseModel):
        port: int

    with pytest.raises(ValidationError), errors_reported():
        Other(port="eighty")  # type: ignore[arg-type]


def test_what_people_wrote_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"a": "x\x1b[2Jy [bold]z[/bold]", "b": 0.123456}, {"a": None}], {"a": "A", "b": "B"}, empty="none")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[bold]z[/bold]" in shown
    assert "0.1235" in shown
    print_rows([], {"a": "A"}, empty="No rows yet.")
    assert capsys.readouterr().out.strip() == "No rows yet."
    print_json({"a": 1})
    assert capsys.readouterr().out == '{\n  "a": 1\n}\n'


def test_a_session_is_kept_for_its_owner_and_forgotten(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedError, match="plimsoll login"):
        session.token(settings)
    session.save(settings, {"token": "kept", "name": "auditor", "device": "known"})
    assert (session.device(settings, "auditor"), session.device(settings, "operator")) == ("known", None)
    assert session.token(settings) == "kept"
    assert stat.S_IMODE((settings.secrets / "session.json").stat().st_mode) == 0o600
    monkeypatch.setenv("PLIMSOLL_TOKEN", "given")
    assert session.token(settings) == "given"
    monkeypatch.delenv("PLIMSOLL_TOKEN")
    session.delete(settings)
    session.delete(settings)
    with pytest.raises(RefusedError):
        session.token(settings)


def test_commands_without_a_platform_say_what_to_do(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "err", Console(stderr=True, highlight=False))
    result = run("releases")
    assert result.exit_code == 3
    assert "plimsoll login" in result.stderr
    result = run("releases", env={"PLIMSOLL_TOKEN": "x"})
    assert result.exit_code == 1
    assert "plimsoll doctor" in result.stderr
    assert run("audit", "verify").exit_code == 1
    assert run("status").exit_code == 1
    assert run("review", "m@1", "approve").exit_code == 2, "a reason is not left out"


def test_the_store_is_rebuilt_from_the_log(run: Any, settings: Settings) -> None:
    from lineage.ledger import Ledger
    from lineage.log.signing_key import signer_at
    from tests.support.sample_facts import FactWriter

    ledger = Ledger(settings.log_folder, signer=signer_at(settings.log_key))
    FactWriter(ledger).train()
    assert run("audit", "rebuild").exit_code == 3, "not while a service has it"
    ledger.close()
    result = run("audit", "rebuild", "--json")
    assert '"records": 1' in result.output
    assert '"ok": true' in run("audit", "verify", "--json").output
