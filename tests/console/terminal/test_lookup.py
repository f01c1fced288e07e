"""`plimsoll asof` and `plimsoll provenance`: their output against a service with real records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from console.terminal import lookup
from lineage.settings import Settings
from plimsoll import Client
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import MODEL, OPERATOR, ManualClock

FIRST, SECOND = f"{MODEL}@1", f"{MODEL}@2"


@pytest.fixture
def service(settings: Settings) -> Iterator[LedgerService]:
    with open_service(settings, ManualClock()) as opened:
        opened.clock.later(minutes=1)
        yield opened


@pytest.fixture
def run(service: LedgerService, monkeypatch: pytest.MonkeyPatch) -> Any:
    app = typer.Typer()
    lookup.register(app)
    known = Client(service.tokens["auditor"], ledger="http://testserver", transport=service.http._transport)
    monkeypatch.setattr(lookup, "client", lambda settings: known)
    monkeypatch.setattr(lookup, "out", Console(highlight=False, width=200))
    monkeypatch.setattr("console.terminal.output.out", Console(highlight=False, width=200))
    return lambda *words: CliRunner().invoke(app, list(words))


def test_it_says_who_answered_and_who_put_it_there(service: LedgerService, run: Any) -> None:
    service.writer.champion()
    promoted = service.context.ledger.records[-1]
    service.writer.record("RouteApplied", version=promoted["seq"])
    result = run("asof", MODEL, "--at", "2026-11-23T10:01Z")
    assert result.exit_code == 0, result.output
    assert f"{FIRST} answered for {MODEL} at 2026-11-23 10:01:00 UTC, with threshold 0.31." in result.output
    assert f"Decided by record {promoted['seq']}, ReleasePromoted by controller (controller)" in result.output
    assert "Every replica had acknowledged that" in result.output
    assert [word in result.output for word in ("approved", "validator", "rollout started", "operator")] == [True] * 4


def test_it_says_who_was_on_trial_and_what_not_all_knew_yet(service: LedgerService, run: Any) -> None:
    service.writer.champion()
    service.writer.record("RouteApplied")
    service.writer.canary(service.writer.register())
    said = run("asof", MODEL, "--seq", str(len(service.context.ledger.records))).output
    assert f"{SECOND} (canary) was on trial with 10% of live traffic, threshold 0.31" in said
    assert "Its share was decided by record" in said
    assert f"Not every replica had acknowledged that yet: the last route they all ran was {FIRST} (" in said
    service.writer.record("RollbackOrdered", FIRST, OPERATOR, "harm [bold]seen[/bold]\x1b[2J", to="baseline")
    said = run("asof", MODEL, "--seq", str(len(service.context.ledger.records))).output
    assert f"The baseline of {SECOND} answered for {MODEL} after record" in said
    assert "with no traffic any more" in said
    assert "harm [bold]seen[/bold]�[2J" in said


def test_it_says_so_when_nobody_could_answer(service: LedgerService, run: Any) -> None:
    service.writer.train()
    said = run("asof", MODEL, "--seq", str(len(service.context.ledger.records))).output
    assert f"Nobody answered for {MODEL}" in said
    assert "No replica had acknowledged any route yet." in said


def test_it_says_who_had_stopped_it_and_where_a_breaker_was_open(service: LedgerService, run: Any) -> None:
    service.writer.champion()
    service.writer.record("BreakerOpened")
    service.writer.record("RouteApplied", killed="baseline")

    def said() -> str:
        return str(run("asof", MODEL, "--seq", str(len(service.context.ledger.records))).output)

    where = f"On replica a1b2c3 the baseline answered in place of {FIRST}: its breaker was open"
    assert where in said()
    assert "the last route they all ran was the baseline (killed)" in said()
    path, headers = "/v1/kill", service.headers("validator")
    service.http.post(path, json={"reason": "scores [bold]look[/bold] wrong"}, headers=headers)
    assert f"The baseline of {FIRST} answered for {MODEL}" in said()
    assert "Kill switch of all models: pulled by validator" in said()
    assert "scores [bold]look[/bold] wrong" in said()
    service.http.post(path, json={"reason": "still", "answer": "nothing"}, headers=headers)
    assert f"Nothing was answered for {MODEL}" in said()


def test_a_release_is_a_tree_from_its_data_to_its_decisions(service: LedgerService, run: Any) -> None:
    service.writer.champion()
    service.writer.record("DecisionsSealed")
    result = run("provenance", FIRST)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if line.strip()]
    kinds = [line.strip("│├└─ ").split("  ")[0] for line in lines]
    assert kinds == [
        *("release", "comes from", "artefact", "run", "dataset"),
        *("what spoke for or against it", "check", "check", "report", "approval"),
        *("leads to", "rollout", "segment"),
    ]
    assert "(champion)" in lines[0]
    assert "100 decisions" in lines[-1]


def test_a_data_set_is_a_tree_to_its_releases(service: LedgerService, run: Any) -> None:
    service.writer.champion()
    digest = service.context.ledger.state.releases[FIRST].dataset["digest"]
    result = run("provenance", "--dataset", digest)
    assert result.exit_code == 0, result.output
    assert FIRST in result.output
    assert "Beats the baseline: pass" in result.output


def test_programs_get_json(service: LedgerService, run: Any) -> None:
    service.writer.champion()
    answer = json.loads(run("asof", MODEL, "--at", "2026-11-23T10:01Z", "--json").stdout)
    assert answer["decided"]["release"] == FIRST
    graph = json.loads(run("provenance", FIRST, "--json").stdout)
    assert {node["kind"] for node in graph["nodes"]} >= {"dataset", "run", "artefact", "release", "rollout"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["asof", MODEL], "either --at or --seq"),
        (["asof", MODEL, "--at", "2026-11-23T10:01Z", "--seq", "1"], "either --at or --seq"),
        (["asof", MODEL, "--at", "2026-11-23T10:01"], "without a zone"),
        (["asof", MODEL, "--at", "2027-11-23T10:01Z"], "future"),
        (["asof", "nobody", "--at", "2026-11-23T10:01Z"], "'nobody'"),
        (["provenance"], "name either a release"),
        (["provenance", f"{MODEL}@9"], f"{MODEL}@9"),
    ],
)
def test_what_cannot_be_told_is_an_error_of_the_caller(
    words: list[str], says: str, service: LedgerService, run: Any
) -> None:
    service.writer.train()
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
