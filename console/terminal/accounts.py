"""`plimsoll accounts`: who may sign in and with which roles. One admin requests, another confirms."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from console.terminal.output import errors_reported, out, plain, print_json, print_rows
from console.terminal.session import admin
from lineage.settings import Settings
from plimsoll import Admin

app = typer.Typer(no_args_is_help=True, help="Accounts of people and machines: one admin requests, another confirms.")
Name = Annotated[str, typer.Argument(help="The account's name.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, in a sentence; it goes on record.")]
Roles = Annotated[
    list[str],
    typer.Option("--role", help="scientist, validator, operator, auditor or admin; of a machine client, outcomes."),
]
Request = Annotated[int, typer.Argument(help="Number of the request's record.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_accounts(json: Json = False) -> None:
    """Accounts with their roles, and the requests that wait for a second admin."""
    with errors_reported():
        found = admin(Settings()).accounts()
        if json:
            print_json(found)
            return
        columns = {"name": "Name", "roles": "Roles", "state": "State", "certified_at": "Confirmed", "note": "Note"}
        print_rows([_account_row(one) for one in found["accounts"]], columns, empty="No accounts yet.")
        for one in found["requests"]:
            what = f"{one['change']} {one['name']} ({', '.join(one['roles'])})"
            out.print(plain(f"Request {one['seq']}: {what}, by {one['by']}: {one['reason']}"), soft_wrap=True)
        if found["admins"] < 2:
            out.print("Fewer than two admins are active: `plimsoll accounts recover NAME` on the machine.")


@app.command()
def add(
    name: Name,
    role: Roles,
    reason: Reason,
    machine: Annotated[bool, typer.Option("--machine", help="A caller outside the platform, with a token.")] = False,
    identity: Annotated[str | None, typer.Option(help="ISSUER#SUBJECT of a person who signs in by OIDC.")] = None,
    json: Json = False,
) -> None:
    """Request an account for a person or a machine."""
    kind = "machine" if machine else "person"
    with errors_reported():
        record = admin(Settings()).add(name, role, reason, kind=kind, identity=identity)
        _show_request(record, json)


@app.command()
def roles(name: Name, role: Roles, reason: Reason, json: Json = False) -> None:
    """Set the roles of an account: fewer at once, others when a second admin confirms."""
    with errors_reported():
        record = admin(Settings()).roles(name, role, reason)
        if record["kind"] == "AccountRequested":
            _show_request(record, json)
        else:
            _show(record, f"{name} has role {', '.join(role)} now.", json)


@app.command()
def reset(name: Name, reason: Reason, json: Json = False) -> None:
    """Request a new one-time code for a person who lost the password."""
    with errors_reported():
        _show_request(admin(Settings()).reset(name, reason), json)


@app.command()
def disable(name: Name, reason: Reason, json: Json = False) -> None:
    """Disable an account at once: its sessions and tokens end everywhere."""
    with errors_reported():
        _show(admin(Settings()).disable(name, reason), f"{name} is disabled.", json)


@app.command()
def enable(name: Name, reason: Reason, json: Json = False) -> None:
    """Request the return of a disabled account."""
    with errors_reported():
        _show_request(admin(Settings()).enable(name, reason), json)


@app.command()
def recertify(name: Name, role: Roles, reason: Reason, json: Json = False) -> None:
    """Confirm that an account still needs its roles; name all of them."""
    with errors_reported():
        _show(admin(Settings()).recertify(name, role, reason), f"The roles of {name} are confirmed.", json)


@app.command()
def confirm(request: Request, reason: Reason, json: Json = False) -> None:
    """Confirm another admin's request."""
    with errors_reported():
        record = admin(Settings()).confirm(request, reason)
        _show(record, f"Request {request} is carried out.", json)
        if json:
            return
        if "code" in record:
            out.print(plain(f"Second half of the one-time code, for the person only: {record['code']}"))
        if "token" in record:
            out.print(plain(f"The token, shown once: {record['token']}"), soft_wrap=True)


@app.command()
def withdraw(request: Request, reason: Reason, json: Json = False) -> None:
    """Withdraw an open request."""
    with errors_reported():
        _show(admin(Settings()).withdraw(request, reason), f"Request {request} is withdrawn.", json)


@app.command()
def password(
    name: Name,
    new: Annotated[str, typer.Option(prompt="New password", hide_input=True, confirmation_prompt=True)],
    code: Annotated[str | None, typer.Option(help="The one-time code: FIRST-SECOND.")] = None,
    json: Json = False,
) -> None:
    """Choose your own password, by a one-time code or by the old password; your other sessions end."""
    with errors_reported():
        old = None if code else typer.prompt("Old password", hide_input=True)
        done = Admin(ledger=Settings().ledger_url).choose_password(name, new, code=code, old=old)
        _show(done, f"The password of {name} is set.", json)


@app.command()
def recover(name: Name, reason: Reason, json: Json = False) -> None:
    """Make an admin usable again, on this machine, while fewer than two admins are active."""
    with errors_reported():
        settings = Settings()
        record = Admin(settings.token("recovery"), ledger=settings.ledger_url).recover(name, reason)
        code = f"One-time code, for `plimsoll accounts password {name} --code …`: {record['code']}"
        second = f"A second admin has to confirm it: `plimsoll accounts confirm-recovery {record['seq']}`."
        _show(record, f"{name} is an admin.", json, code, second)


@app.command("confirm-recovery")
def confirm_recovery(record: Request, reason: Reason, json: Json = False) -> None:
    """Confirm, as a second admin, an account that was recovered on the machine."""
    with errors_reported():
        _show(admin(Settings()).confirm_recovery(record, reason), f"Recovery {record} is confirmed.", json)


def _account_row(account: dict[str, Any]) -> dict[str, Any]:
    notes = {
        "first start": account["bootstrap"],
        "recovered": account["recovered"] is not None,
        "roles to be confirmed": account["recertify"],
        str(account["identity"]): account["identity"] is not None,
    }
    state = "active" if account["active"] else "disabled"
    note = ", ".join(text for text, holds in notes.items() if holds)
    shown = {"roles": ", ".join(account["roles"]), "state": state, "note": note}
    return account | shown | {"certified_at": account["certified_at"][:10]}


def _show_request(record: dict[str, Any], json: bool) -> None:
    confirm = f"Request {record['seq']}: another admin confirms it with `plimsoll accounts confirm {record['seq']}`."
    half = [f"First half of the one-time code, for the person only: {record['code']}"] if "code" in record else []
    _show(record, confirm, json, *half)


def _show(record: dict[str, Any], said: str, json: bool, *more: str) -> None:
    if json:
        print_json(record)
        return
    for line in (said, *more):
        out.print(plain(line), soft_wrap=True)
