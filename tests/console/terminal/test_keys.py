"""`plimsoll keys`, in the order of the how-to for a stolen key, against a service with real keys behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from console.terminal import keys
from lineage.settings import Settings
from lineage.signing import key_name
from plimsoll import Client
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import MODEL, ManualClock


@pytest.fixture
def service(settings: Settings) -> Iterator[LedgerService]:
    clock = ManualClock()
    with open_service(settings, clock) as opened:
        yield opened


@pytest.fixture
def run(service: LedgerService, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command as somebody who is signed in."""
    wide = Console(highlight=False, width=300)
    monkeypatch.setattr(keys, "out", wide)
    monkeypatch.setattr("console.terminal.output.out", wide)

    def as_(who: str, *words: str) -> Any:
        known = Client(service.tokens[who], ledger="http://testserver", transport=service.http._transport)
        monkeypatch.setattr(keys, "client", lambda _: known)
        return CliRunner().invoke(keys.app, list(words))

    return as_


def because(*words: str) -> list[str]:
    return [*words, "--reason", "laptop with a backup stolen"]


def test_keys_are_listed_rotated_and_revoked_as_the_how_to_says(service: LedgerService, run: Any) -> None:
    first = key_name(service.settings)
    release = service.writer.train(signature_key=first)
    service.writer.check(release)
    service.writer.record("CandidateValidated", release)
    service.writer.record("ReleaseRegistered", release, digest=service.writer.digest(release))
    steps = (service.writer.canary, service.writer.to_review, service.writer.approve, service.writer.rollout)
    for step in (*steps, service.writer.promote):
        step(release)
    shown = run("auditor", "list")
    assert (shown.exit_code, shown.output.count("in force")) == (0, 2)
    ledger_key = service.context.ledger.verifier.key_id.hex()
    for key in ("ledger", "bundle"):
        rotated = run("admin", *because("rotate", key))
        assert rotated.exit_code == 0, rotated.output
        assert f"plimsoll keys revoke {key}" in rotated.output
    again = run("admin", *because("rotate", "ledger"))
    assert f"Give examiners the new key: {service.context.ledger.verifier.vkey}" in again.output
    revoked = run("admin", *because("revoke", "bundle", first, "--distrust"))
    assert revoked.exit_code == 0, revoked.output
    assert f"plimsoll rollback {MODEL}" in revoked.output
    assert run("admin", *because("revoke", "ledger", ledger_key, "--from-record", "4")).exit_code == 0
    listed = json.loads(run("auditor", "list", "--json").output)
    assert {(one["key"], one["id"], one["revoked_from"]) for one in listed} >= {
        ("bundle", first, 1),
        ("ledger", ledger_key, 4),
    }


def test_others_are_refused_in_words(run: Any) -> None:
    refused = run("operator", *because("rotate", "ledger"))
    assert refused.exit_code == 3
    assert "role admin may" in refused.stderr
    unknown = run("admin", *because("revoke", "bundle", "sha256:0000"))
    assert unknown.exit_code != 0
    assert "there is no bundle key" in unknown.stderr
    assert run("admin", *because("rotate", "console")).exit_code != 0
