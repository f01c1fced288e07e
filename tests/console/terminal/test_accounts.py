"""`plimsoll accounts` against a real ledger service: what two admins and a new person type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from console.terminal import accounts as commands
from lineage.settings import Settings
from plimsoll import Admin
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import ManualClock

WHY = ("--reason", "as agreed in the meeting")
CHOSEN = "a long password of my own"


@pytest.fixture
def service(settings: Settings) -> Iterator[LedgerService]:
    with open_service(settings, ManualClock()) as service:
        yield service


@pytest.fixture
def run(service: LedgerService, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PLIMSOLL_HOME", str(service.settings.home))
    there: dict[str, Any] = {"ledger": "http://testserver", "transport": service.http._transport}

    def run(*words: str, who: str = "admin", stdin: str | None = None, status: int = 0) -> str:
        monkeypatch.setattr(commands, "admin", lambda settings: Admin(service.tokens[who], **there))
        monkeypatch.setattr(commands, "Admin", lambda token=None, **_: Admin(token, **there))
        result = CliRunner().invoke(commands.app, list(words), input=stdin)
        assert result.exit_code == status, result.output + str(result.stderr)
        return str(result.output)

    return run


def number_in(text: str) -> str:
    found = re.search(r"Request (\d+)", text)
    assert found
    return found[1]


def test_an_account_from_request_to_password(run: Any, service: LedgerService) -> None:
    asked = run("add", "r.okafor", "--role", "validator", "--role", "operator", *WHY)
    request = number_in(asked)
    run("confirm", request, *WHY, status=3)
    confirmed = run("confirm", request, *WHY, who="second-admin")
    halves = [text.strip().rsplit(" ", 1)[-1] for text in (asked, confirmed)]
    run("password", "r.okafor", "--code", "-".join(halves), "--new", CHOSEN)
    session = service.http.post("/v1/session", json={"name": "r.okafor", "password": CHOSEN})
    assert session.json()["roles"] == ["validator", "operator"]
    run("password", "r.okafor", "--new", "another password of mine", stdin=f"{CHOSEN}\n")


def test_the_list_shows_state_and_what_waits(run: Any) -> None:
    request = number_in(run("add", "r.okafor", "--role", "validator", *WHY))
    shown = run("list")
    assert re.search(r"validator +validator +active +2026-11-23 +first start", shown)
    assert f"Request {request}: add r.okafor (validator), by admin: as agreed in the meeting" in shown
    found = orjson.loads(run("list", "--json"))
    assert found["admins"] == 2
    run("withdraw", request, *WHY)
    assert "Request" not in run("list")


def test_a_leaver_and_a_return(run: Any) -> None:
    run("disable", "operator", *WHY)
    assert re.search(r"operator +operator +disabled", run("list"))
    request = number_in(run("enable", "operator", *WHY))
    run("confirm", request, *WHY, who="second-admin")
    assert re.search(r"operator +operator +active", run("list"))


def test_roles_and_recertification(run: Any) -> None:
    request = number_in(run("roles", "auditor", "--role", "auditor", "--role", "validator", *WHY))
    run("confirm", request, *WHY, who="second-admin")
    run("recertify", "auditor", "--role", "auditor", *WHY, status=3)
    run("recertify", "auditor", "--role", "auditor", "--role", "validator", *WHY)
    assert "auditor has role auditor now." in run("roles", "auditor", "--role", "auditor", *WHY)


def test_a_machine_gets_its_token_once(run: Any, service: LedgerService) -> None:
    request = number_in(run("add", "branch-12", "--machine", "--role", "client", *WHY))
    token = run("confirm", request, *WHY, who="second-admin").strip().rsplit(" ", 1)[-1]
    answer = service.http.get("/v1/whoami", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["name"] == "branch-12"


def test_recovery_is_refused_while_two_admins_are_active_and_shown_where_it_is_needed(run: Any) -> None:
    run("recover", "admin", *WHY, status=3)
    run("disable", "second-admin", *WHY)
    assert "plimsoll accounts recover" in run("list")
    shown = run("recover", "second-admin", *WHY)
    assert re.search(r"--code …`: [A-Z0-9]{12}-[A-Z0-9]{12}", shown)
    record = re.search(r"confirm-recovery (\d+)", shown)
    assert record
    assert "recovered" in run("list")
    run("confirm-recovery", record[1], *WHY)


def test_other_people_are_refused(run: Any) -> None:
    run("list", who="operator", status=3)
    run("add", "r.okafor", "--role", "validator", *WHY, who="validator", status=3)
    run("add", "r okafor", "--role", "validator", *WHY, status=2)
    run("disable", "no-one", *WHY, status=2)
