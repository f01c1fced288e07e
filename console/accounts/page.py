"""The accounts page of admins: what there is, what waits for a second admin, and every act with a reason.

Rendered on the server and sent back by plain forms: an admin sees no page of models, and needs none of their scripts.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader

from console.forms import form_lists
from console.ledger_client import LedgerClient
from console.review import Call, reason_given
from console.session import Person, signed_in
from plimsoll.errors import Error

PATH = "/accounts"
ADMIN = "admin"
_OFFERED = {"person": ["scientist", "validator", "operator", "auditor", "admin"], "machine": ["client", "outcomes"]}
_WORDS = {"add": "add", "roles": "change the roles of", "reset": "reset the password of", "enable": "let return"}
_SECRETS = {
    "code": "Half of the one-time code, for the person only",
    "token": "Token of the machine",
}
_DONE = {
    "AccountRequested": "Requested; another admin confirms it",
    "AccountRequestWithdrawn": "Withdrawn",
    "AccountAdded": "The account is made",
    "RolesChanged": "The roles are changed",
    "AccountDisabled": "Disabled: sessions and tokens ended",
    "AccountEnabled": "The account is active again",
    "AccountRecertified": "The roles are confirmed",
    "PasswordReset": "Reset: the password and all sessions ended",
    "RecoveryConfirmed": "The recovery is confirmed",
}
templates = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


@dataclass(frozen=True)
class Outcome:
    """What an act of the admin gave: the words to show, secrets to pass on, or the ledger's refusal."""

    done: str = ""
    secrets: tuple[dict[str, str], ...] = ()
    problem: str = ""


def routes(client: LedgerClient) -> APIRouter:
    """`/accounts` and its forms."""
    router = APIRouter()

    @router.get(PATH)
    async def show() -> Response:
        return await _page(client, signed_in(), Outcome())

    @router.post(f"{PATH}/{{verb}}")
    async def act(verb: str, request: Request) -> Response:
        person, form = signed_in(), await form_lists(request)
        if not person.sent(_last(form, "csrf")):
            return RedirectResponse(PATH, 303)
        try:
            call = call_of(verb, form)
            record = await client.act(person.token, call.path, call.body, key=uuid.uuid4().hex, etag=None)
        except Error as error:
            return await _page(client, person, Outcome(problem=error.message), error.status or 503)
        except ValueError as error:
            return await _page(client, person, Outcome(problem=str(error)), 422)
        return await _page(client, person, outcome_of(record))

    return router


def call_of(verb: str, form: dict[str, list[str]]) -> Call:
    """The ledger call of a form.

    Raises:
        ValueError: the reason is too short, no role is chosen, or there is no such verb.
    """
    about, roles = _last(form, "account"), form.get("role", [])
    body: dict[str, Any] = {"reason": reason_given(_last(form, "reason"))}
    if verb in ("add", "roles", "recertify"):
        if not roles:
            raise ValueError("Choose at least one role.")
        body["roles"] = roles
    match verb:
        case "add":
            identity = _last(form, "identity").strip() or None
            body |= {"name": about, "kind": _last(form, "kind"), "identity": identity}
            return Call("/v1/accounts", body)
        case "confirm" | "withdraw":
            return Call(f"/v1/account-requests/{_number(about)}/{verb}", body)
        case "confirm-recovery":
            return Call(f"/v1/account-recoveries/{_number(about)}/confirm", body)
        case "roles" | "recertify" | "reset" | "disable" | "enable":
            return Call(f"/v1/accounts/{quote(about, safe='@')}/{verb}", body)
    raise ValueError(f"there is no act {verb!r:.40} on accounts")


def outcome_of(record: dict[str, Any]) -> Outcome:
    """What a recorded act is shown as; secrets are in the answer only, never on record."""
    secrets = tuple({"what": what, "value": record[name]} for name, what in _SECRETS.items() if name in record)
    return Outcome(f"{_DONE[record['kind']]} (record {record['seq']})", secrets)


async def _page(client: LedgerClient, person: Person, outcome: Outcome, status: int = 200) -> Response:
    try:
        found, _ = await client.read(person.token, "/v1/accounts")
    except Error as error:
        if error.status == 401:
            return RedirectResponse("/sign-in?again=1", 303)
        found = {"accounts": [], "requests": [], "admins": 2}
        outcome = Outcome(problem=error.message)
    mine = next((one["id"] for one in found["accounts"] if one["name"] == person.name), None)
    shown = {"title": "Accounts", "person": person, "csrf": person.csrf, "me": mine, "offered": _OFFERED}
    shown |= {"words": _WORDS, "done": outcome.done, "secrets": outcome.secrets, "problem": outcome.problem}
    return HTMLResponse(templates.get_template("accounts.html").render(**found, **shown), status)


def _last(form: dict[str, list[str]], name: str) -> str:
    return form.get(name, [""])[-1]


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r:.40} is no number of a record.")
    return int(text)
