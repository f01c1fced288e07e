"""The accounts page: admins see it and nothing else, others never do, and every form is one act at the ledger."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from console.accounts.page import call_of
from tests.support.console_home import Home, SignIn

WHY = "as agreed in the meeting"


def send(client: TestClient, verb: str, **fields: Any) -> Any:
    csrf = client.cookies["_csrf_token"]
    return client.post(f"/accounts/{verb}", data={"csrf": csrf, "reason": WHY} | fields)


def test_an_admin_lands_on_accounts_and_opens_nothing_else(sign_in: SignIn) -> None:
    client = sign_in("admin")
    shown = client.get("/accounts")
    assert shown.status_code == 200
    for name in ("scientist", "validator", "second-admin", "controller"):
        assert name in shown.text
    for path in ("/", "/releases", "/release/credit-default@1", "/audit", "/beat", "/places"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/accounts"), path
    assert client.post("/_dash-update-component", json={}).status_code == 403


@pytest.mark.parametrize("who", ["scientist", "validator", "operator", "auditor"])
def test_others_do_not_open_accounts(who: str, sign_in: SignIn) -> None:
    client = sign_in(who)
    answer = client.get("/accounts")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert send(client, "disable", account="auditor").status_code == 403


def test_two_admins_make_an_account(sign_in: SignIn, home: Home) -> None:
    client = sign_in("admin")
    asked = send(client, "add", account="r.okafor", kind="person", role=["validator", "operator"])
    assert asked.status_code == 200
    first = re.search(r"<code>([A-Z0-9]{12})</code>", asked.text)
    request = re.search(r"record (\d+)", asked.text)
    assert first
    assert request
    assert "Another admin confirms it." in client.get("/accounts").text
    refused = send(client, "confirm", account=request[1])
    assert (refused.status_code, "another admin has to confirm" in refused.text) == (403, True)
    confirmed = send(sign_in("second-admin"), "confirm", account=request[1])
    second = re.search(r"<code>([A-Z0-9]{12})</code>", confirmed.text)
    assert second
    assert "validator, operator" in confirmed.text

    console = sign_in("auditor")
    console.cookies.clear()
    console.get("/password")
    given = {"form": console.cookies["plimsoll_form"], "name": "r.okafor", "new": "a long password of my own"}
    wrong = console.post("/password", data=given | {"code": f"{first[1]}-{first[1]}"})
    assert (wrong.status_code, "wrong" in wrong.text) == (401, True)
    done = console.post("/password", data=given | {"code": f"{first[1]}-{second[1]}"})
    assert (done.status_code, done.headers["location"]) == (303, "/sign-in?again=1")
    home.passwords["r.okafor"] = given["new"]
    assert sign_in("r.okafor").get("/accounts").status_code == 303
    send(sign_in("admin"), "disable", account="r.okafor")


def test_a_form_without_its_sessions_token_does_nothing(sign_in: SignIn) -> None:
    client = sign_in("admin")
    answer = client.post("/accounts/disable", data={"csrf": "x", "reason": WHY, "account": "auditor"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/accounts")
    assert sign_in("auditor").get("/audit").status_code == 200


def test_what_people_typed_is_text_on_the_page(sign_in: SignIn) -> None:
    client = sign_in("admin")
    shown = send(client, "reset", account="scientist", reason="<script>alert(1)</script>")
    assert "<script>alert" not in shown.text
    assert "&lt;script&gt;alert(1)" in shown.text
    request = re.search(r"record (\d+)", shown.text)
    assert request
    send(client, "withdraw", account=request[1])


@pytest.mark.parametrize(
    ("verb", "form", "says"),
    [
        ("add", {"account": ["x"], "reason": ["short"]}, "at least 8"),
        ("add", {"account": ["x"], "reason": [WHY]}, "at least one role"),
        ("confirm", {"account": ["abc"], "reason": [WHY]}, "no number"),
        ("delete", {"account": ["x"], "reason": [WHY]}, "no act"),
        ("disable", {}, "at least 8"),
    ],
)
def test_a_form_that_says_nothing_is_refused_here(verb: str, form: dict[str, list[str]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call_of(verb, form)


def test_a_name_cannot_leave_its_path() -> None:
    call = call_of("disable", {"account": ["../kill?x=#"], "reason": [WHY]})
    assert call.path == "/v1/accounts/..%2Fkill%3Fx%3D%23/disable"
