"""`plimsoll kill`, `kill-release`, `shadow` and `models`, against a service with real records behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from console.terminal import stop
from lineage.settings import Settings
from plimsoll import Client
from plimsoll.errors import Unavailable
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import MODEL, ManualClock

FIRST, SECOND = f"{MODEL}@1", f"{MODEL}@2"
WHOSE = {"one": [MODEL], "all": ["--all"]}
each_scope = pytest.mark.parametrize("scope", sorted(WHOSE))


@pytest.fixture
def service(settings: Settings) -> Iterator[LedgerService]:
    with open_service(settings, ManualClock()) as opened:
        opened.writer.champion()
        opened.news()
        yield opened


@pytest.fixture
def run(service: LedgerService, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command as somebody who is signed in."""
    app = typer.Typer()
    stop.register(app)
    wide = Console(highlight=False, width=300)
    monkeypatch.setattr(stop, "out", wide)
    monkeypatch.setattr("console.terminal.output.out", wide)

    def as_(who: str, *words: str, typed: str | None = None) -> Any:
        known = Client(service.tokens[who], ledger="http://testserver", transport=service.http._transport)
        monkeypatch.setattr(stop, "client", lambda settings: known)
        return CliRunner().invoke(app, list(words), input=typed)

    return as_


def because(*words: str) -> list[str]:
    return [*words, "--reason", "scores look wrong"]


@each_scope
def test_one_person_kills_and_two_let_go(scope: str, service: LedgerService, run: Any) -> None:
    whose = WHOSE[scope]
    result = run("operator", *because("kill", *whose, "--yes"))
    assert result.exit_code == 0, result.output
    assert "the baseline answers" in result.output
    assert "a second person confirms" in result.output
    first = run("operator", *because("kill-release", *whose))
    assert (first.exit_code, "still killed" in first.output) == (0, True)
    assert f"plimsoll kill-release {whose[0]} --reason" in first.output
    alone = run("operator", *because("kill-release", *whose))
    assert alone.exit_code == 3
    assert "a second person has to confirm" in alone.stderr
    second = run("validator", *because("kill-release", *whose))
    assert (second.exit_code, "released" in second.output) == (0, True)
    kinds = [record["kind"] for record in service.news()]
    assert kinds == ["KillSwitchPulled", "KillReleaseRequested", "ActionRefused", "KillSwitchReleased"]


@each_scope
def test_whoever_kills_types_the_name(scope: str, service: LedgerService, run: Any) -> None:
    word = MODEL if scope == "one" else "ALL"
    for typed in ("yes\n", "all\n", f"{MODEL}@1\n"):
        result = run("operator", *because("kill", *WHOSE[scope]), typed=typed)
        assert result.exit_code == 2
        assert "nothing was stopped" in result.stderr
    assert run("operator", *because("kill", *WHOSE[scope]), typed="").exit_code == 1
    assert service.context.ledger.records[service.seen :] == []
    result = run("operator", *because("kill", *WHOSE[scope], "--answer", "nothing"), typed=f"{word}\n")
    assert result.exit_code == 0, result.output
    assert service.news()[0]["data"] == {"answer": "nothing"}


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["kill", "--yes"], 2, "name one model, or say --all"),
        (["kill", MODEL, "--all", "--yes"], 2, "name one model, or say --all"),
        (["kill", MODEL, "--answer", "champion", "--yes"], 2, "expected `baseline` or `nothing`"),
        (["kill", "credit-defualt", "--yes"], 2, "credit-defualt"),
        (["kill-release"], 2, "name one model"),
        (["kill-release", MODEL], 3, "nothing to release"),
        (["kill-release", "--all"], 3, "nothing to release"),
        (["shadow", "start", FIRST], 3, "champion"),
        (["shadow", "stop", FIRST], 3, "champion"),
    ],
)
def test_what_is_refused_is_said(words: list[str], status: int, says: str, service: LedgerService, run: Any) -> None:
    result = run("operator", *because(*words))
    assert result.exit_code == status, result.output
    assert says in result.stderr
    view = service.context.ledger.state
    assert (view.kill, view.models[MODEL].kill, view.models[MODEL].shadow) == (None, None, None)


def test_others_are_refused(run: Any) -> None:
    result = run("scientist", *because("kill", MODEL, "--yes"))
    assert result.exit_code == 3
    assert "role operator or validator may" in result.stderr


def test_programs_get_json(service: LedgerService, run: Any) -> None:
    kinds = []
    for who, words in (
        ("operator", ["kill", MODEL, "--yes"]),
        ("operator", ["kill-release", MODEL]),
        ("validator", ["kill-release", MODEL]),
        ("operator", ["shadow", "start", service.writer.register()]),
        ("operator", ["shadow", "stop", SECOND]),
    ):
        kinds.append(json.loads(run(who, *because(*words, "--json")).stdout)["kind"])
    assert kinds == ["KillSwitchPulled", "KillReleaseRequested", "KillSwitchReleased", "ShadowStarted", "ShadowStopped"]
    listed = json.loads(run("auditor", "models", "--json").stdout)
    assert (listed["kill"], listed["models"][MODEL]["champion"]) == (None, FIRST)


def test_the_listing_shows_what_is_stopped(service: LedgerService, run: Any) -> None:
    assert FIRST in run("auditor", "models").output
    service.writer.record("BreakerOpened")
    service.writer.record("BreakerOpened", replica="other")
    run("operator", *because("shadow", "start", service.writer.register()))
    said = run("auditor", "models").output
    assert f"{SECOND} in the shadow" in said
    assert "the baseline answers on 2\u00a0replicas: constant scores since" in said
    run("operator", *because("kill", MODEL, "--yes"))
    said = run("auditor", "models").output
    assert "the baseline, killed" in said
    assert "KILLED by operator since" in said
    run("validator", *because("kill", "--all", "--yes", "--answer", "nothing"))
    run("validator", *because("kill-release", "--all"))
    said = run("auditor", "models").output
    assert "all models: KILLED by validator since" in said
    assert "nobody, killed" in said
    assert "Release asked for by validator" in said


def test_status_tells_it_to_whoever_is_signed_in(service: LedgerService, run: Any, settings: Settings) -> None:
    run("operator", *because("kill", "--all", "--yes"))
    service.writer.record("BreakerOpened")
    run("auditor", "models")
    told = stop.known_stops(settings)
    assert told is not None
    assert [line.split(":")[0] for line in told] == ["all models", MODEL]


def test_status_says_so_where_it_cannot_know(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(_: Settings) -> Client:
        raise Unavailable("the ledger does not answer")

    monkeypatch.setattr(stop, "client", gone)
    assert stop.known_stops(settings) is None
    monkeypatch.setattr(stop, "out", Console(highlight=False, width=200))
    stop.show_stops(None)
    assert "plimsoll login" in capsys.readouterr().out
