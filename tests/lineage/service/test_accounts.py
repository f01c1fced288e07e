"""Accounts over HTTP: from request to first sign-in, and how a leaver's tokens end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lineage.settings import Settings
from lineage.verify import verify_ledger
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import MODEL, ManualClock

WHY = {"reason": "as agreed in the meeting"}
CHOSEN = "a long password of my own"


@pytest.fixture
def service(settings: Settings, clock: ManualClock) -> Iterator[LedgerService]:
    with open_service(settings, clock) as service:
        yield service


def post(service: LedgerService, path: str, who: str = "admin", status: int = 201, **body: Any) -> Any:
    answer = service.http.post(f"/v1/{path}", json=WHY | body, headers=service.headers(who))
    assert answer.status_code == status, answer.text
    return answer.json()


def confirm(service: LedgerService, request: dict[str, Any], who: str = "second-admin", status: int = 201) -> Any:
    return post(service, f"account-requests/{request['seq']}/confirm", who, status)


def sign_in(service: LedgerService, name: str, password: str, **more: Any) -> Any:
    return service.http.post("/v1/session", json={"name": name, "password": password} | more)


def choose(service: LedgerService, name: str, status: int = 200, **given: Any) -> Any:
    answer = service.http.post("/v1/password", json={"name": name, "new": CHOSEN} | given)
    assert answer.status_code == status, answer.text
    return answer.json()


def new_person(service: LedgerService, name: str, *roles: str) -> str:
    """A person with a password, signed in; the token."""
    asked = post(service, "accounts", name=name, roles=list(roles))
    code = f"{asked['code']}-{confirm(service, asked)['code']}"
    choose(service, name, code=code)
    token: str = sign_in(service, name, CHOSEN).json()["token"]
    service.tokens[name] = token
    return token


def status_of(service: LedgerService, token: str) -> int:
    return int(service.http.get("/v1/whoami", headers={"Authorization": f"Bearer {token}"}).status_code)


def kinds(service: LedgerService) -> list[str]:
    return [record["kind"] for record in service.news()]


def test_from_request_to_first_sign_in(service: LedgerService) -> None:
    new_person(service, "r.okafor", "validator", "operator")
    who = service.get("whoami", who="r.okafor").json()
    assert (who["name"], who["roles"]) == ("r.okafor", ["validator", "operator"])
    assert who["id"].startswith("p-")
    assert kinds(service) == ["AccountRequested", "AccountAdded", "PasswordChosen", "SignedIn"]
    assert verify_ledger(service.settings).problems == []


def test_neither_admin_can_sign_in_as_the_person(service: LedgerService) -> None:
    asked = post(service, "accounts", name="r.okafor", roles=["validator"])
    confirmed = confirm(service, asked)
    first, second = asked["code"], confirmed["code"]
    for code in (first, second, f"{first}-{first}", f"{second}-{first}", f"{first}-"):
        choose(service, "r.okafor", 401, code=code)
    choose(service, "r.okafor", code=f"{first}-{second}")
    choose(service, "r.okafor", 401, code=f"{first}-{second}")


def test_the_same_admin_does_not_confirm_and_it_is_on_record(service: LedgerService) -> None:
    asked = post(service, "accounts", name="r.okafor", roles=["validator"])
    service.news()
    refused = confirm(service, asked, "admin", 403)
    assert refused["code"] == "four_eyes"
    assert kinds(service) == ["ActionRefused"]


def test_no_secret_is_on_record(service: LedgerService) -> None:
    asked = post(service, "accounts", name="r.okafor", roles=["validator"])
    confirmed = confirm(service, asked)
    choose(service, "r.okafor", code=f"{asked['code']}-{confirmed['code']}")
    token = sign_in(service, "r.okafor", CHOSEN).json()
    machine = post(service, "accounts", name="branch-12", kind="machine", roles=["client"])
    issued = confirm(service, machine)
    log = b"".join(path.read_bytes() for path in service.settings.log_folder.glob("*.jsonl")).decode()
    secrets = [asked["code"], confirmed["code"], CHOSEN, token["token"], token["device"], issued["token"]]
    assert not [secret for secret in secrets if secret in log]


def test_a_leavers_sessions_end_at_once_everywhere_here(service: LedgerService) -> None:
    token = new_person(service, "r.okafor", "validator", "operator")
    other = sign_in(service, "r.okafor", CHOSEN).json()["token"]
    assert [status_of(service, one) for one in (token, other)] == [200, 200]
    live = service.get("gateway-tokens", who="controller").json()
    assert "r.okafor" in {one["name"] for one in live.values()}
    post(service, "accounts/r.okafor/disable")
    assert [status_of(service, one) for one in (token, other)] == [401, 401]
    live = service.get("gateway-tokens", who="controller").json()
    assert "r.okafor" not in {one["name"] for one in live.values()}
    assert sign_in(service, "r.okafor", CHOSEN).status_code == 401


def test_a_disabled_account_is_refused_although_its_token_was_not_removed(service: LedgerService) -> None:
    token = new_person(service, "r.okafor", "validator")
    who = service.context.actor_of(service.tokens["admin"])
    from lineage.rules import account_actions

    draft = account_actions.disable(service.context.ledger.state, who, "left", "r.okafor")
    service.context.ledger.append(draft)  # as if the service had ended between record and credentials
    assert status_of(service, token) == 401
    assert "r.okafor" not in {one["name"] for one in service.context.live_tokens().values()}


def test_a_reset_ends_the_password_and_the_sessions(service: LedgerService) -> None:
    token = new_person(service, "r.okafor", "validator")
    asked = post(service, "accounts/r.okafor/reset")
    assert status_of(service, token) == 200, "a request alone ends nothing"
    confirmed = confirm(service, asked)
    assert status_of(service, token) == 401
    assert sign_in(service, "r.okafor", CHOSEN).status_code == 401
    choose(service, "r.okafor", code=f"{asked['code']}-{confirmed['code']}")
    assert sign_in(service, "r.okafor", CHOSEN).status_code == 200


def test_a_person_changes_the_password_with_the_old_one(service: LedgerService) -> None:
    token = new_person(service, "r.okafor", "validator")
    other = "another password of mine"
    answer = service.http.post("/v1/password", json={"name": "r.okafor", "old": CHOSEN, "new": other})
    assert answer.status_code == 200
    assert status_of(service, token) == 401, "sessions from before end"
    assert sign_in(service, "r.okafor", other).status_code == 200
    assert sign_in(service, "r.okafor", CHOSEN).status_code == 401
    weak = service.http.post("/v1/password", json={"name": "r.okafor", "old": other, "new": "short"})
    assert (weak.status_code, weak.json()["field"]) == (422, "password")


def test_roles_taken_away_are_gone_for_the_session_that_is_open(service: LedgerService) -> None:
    new_person(service, "r.okafor", "operator", "validator")
    assert service.http.post("/v1/kill", json=WHY, headers=service.headers("r.okafor")).status_code == 201
    post(service, "accounts/r.okafor/roles", roles=["validator"])
    release = service.release_in("registered")
    assert service.act("canary", release, "r.okafor").status_code == 403


def test_a_machine_gets_a_token_that_is_shown_once(service: LedgerService) -> None:
    asked = post(service, "accounts", name="branch-12", kind="machine", roles=["client", "outcomes"])
    assert "code" not in asked
    token = confirm(service, asked)["token"]
    assert status_of(service, token) == 200
    live = service.get("gateway-tokens", who="controller").json()
    (mine,) = [one for one in live.values() if one["name"] == "branch-12"]
    assert (mine["role"], mine["roles"]) == ("client", ["client", "outcomes"])
    post(service, "accounts/branch-12/disable")
    assert status_of(service, token) == 401


def test_an_admin_sees_accounts_and_nothing_of_models(service: LedgerService) -> None:
    service.release_in("registered")
    found = service.get("accounts", who="admin").json()
    assert found["admins"] == 2
    assert {"admin", "second-admin", "validator", "controller"} <= {one["name"] for one in found["accounts"]}
    assert service.get("accounts", who="auditor").status_code == 200
    assert service.get("accounts", who="operator").status_code == 403
    for path in ("records", "models", "releases", f"models/{MODEL}", "inbox", "query/checks", "state", "verify"):
        assert service.get(path, who="admin").status_code == 403, path


@pytest.mark.parametrize("who", ["scientist", "validator", "operator", "auditor", "controller", "trainer", "client"])
def test_only_admins_change_accounts(who: str, service: LedgerService) -> None:
    service.news()
    refused = post(service, "accounts", who, 403, name="r.okafor", roles=["validator"])
    assert refused["code"] == "role"
    assert kinds(service) == ["ActionRefused"]
    post(service, "accounts/recover", who, 403, name="admin")


@pytest.mark.parametrize("name", ["Validator ", "vаlidator", "va1idator", "ledger", "controller", ""])
def test_a_bad_name_is_refused(name: str, service: LedgerService) -> None:
    answer = service.http.post(
        "/v1/accounts", json=WHY | {"name": name, "roles": ["validator"]}, headers=service.headers("admin")
    )
    assert answer.status_code in (409, 422)
    assert "name" in answer.json()["error"]


def test_recovery_on_the_machine(service: LedgerService) -> None:
    service.tokens["recovery"] = service.settings.token("recovery")
    post(service, "accounts/recover", "recovery", 409, name="admin")
    post(service, "accounts/second-admin/disable")
    recovered = post(service, "accounts/recover", "recovery", name="second-admin")
    choose(service, "second-admin", code=recovered["code"])
    service.tokens["second-admin"] = sign_in(service, "second-admin", CHOSEN).json()["token"]
    post(service, f"account-recoveries/{recovered['seq']}/confirm", "second-admin", 403)
    post(service, f"account-recoveries/{recovered['seq']}/confirm", "admin")
    assert verify_ledger(service.settings).problems == []


def test_accounts_are_due_for_recertification_after_half_a_year(service: LedgerService, clock: ManualClock) -> None:
    def due() -> set[str]:
        listed = service.context.ledger.state.people.accounts.values()
        found = service.get("accounts", who="admin").json()["accounts"]
        assert len(found) == len(listed)
        return {one["name"] for one in found if one["recertify"] and one["kind"] == "person"}

    assert due() == set()
    clock.later(days=181)
    for name in ("admin", "second-admin"):
        service.tokens[name] = sign_in(service, name, service.passwords[name]).json()["token"]
    assert due() == {"scientist", "validator", "operator", "auditor", "admin", "second-admin"}
    post(service, "accounts/validator/recertify", roles=["validator"])
    assert "validator" not in due()


def test_lost_credentials_are_made_anew_and_that_is_on_record(service: LedgerService) -> None:
    people = {one.name: one.id for one in service.context.ledger.state.people.accounts.values()}
    service.settings.accounts_file.unlink()
    from lineage.accounts.credentials import Credentials

    fresh = Credentials(service.settings, clock=service.clock).first_start()
    service.reopen()
    now = {one.name: one.id for one in service.context.ledger.state.people.accounts.values()}
    assert now == people
    assert sign_in(service, "validator", fresh["validator"]).status_code == 200
    reset = [record for record in service.news() if record["kind"] == "PasswordReset"]
    assert {record["actor"]["role"] for record in reset} == {"platform"}
    assert len(reset) == 6
    assert verify_ledger(service.settings).problems == []
