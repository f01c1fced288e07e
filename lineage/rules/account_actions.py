"""Acts of admins as drafts of facts. Ids of new accounts are random, so that a name never identifies."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from lineage.rules.account_names import account_name
from lineage.rules.accounts import account_named, check_roles, open_request
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.state.fold import LedgerState
from lineage.state.people import Account

#: The fact that confirms a request, by what was requested.
CONFIRMED_BY = {"add": "AccountAdded", "roles": "RolesChanged", "reset": "PasswordReset", "enable": "AccountEnabled"}


def request_account(
    actor: Actor, reason: str, name: str, kind: str, roles: Sequence[str], identity: str | None
) -> Draft:
    """Request a new account.

    Raises:
        InvalidError: the name or a role is none.
    """
    check_roles(roles, kind)
    account = f"{kind[0]}-{secrets.token_hex(8)}"
    data = {"change": "add", "account": account, "name": account_name(name), "kind": kind, "identity": identity}
    return Draft("AccountRequested", actor, data | {"roles": list(roles)}, reason=reason)


def request_change(state: LedgerState, actor: Actor, reason: str, account: str, change: str) -> Draft:
    """Request a reset or the return of an account."""
    known = account_named(state, account)
    return Draft("AccountRequested", actor, _about(known, change, known.roles), reason=reason)


def change_roles(state: LedgerState, actor: Actor, reason: str, account: str, roles: Sequence[str]) -> Draft:
    """Take roles away at once, or request others where the account would get one that it does not have.

    Raises:
        InvalidError: a role is none.
    """
    known = account_named(state, account)
    check_roles(roles, known.kind)
    if set(roles) <= set(known.roles):
        data: dict[str, Any] = {"account": known.id, "roles": list(roles), "requested": None}
        return Draft("RolesChanged", actor, data, reason=reason)
    return Draft("AccountRequested", actor, _about(known, "roles", roles), reason=reason)


def confirm_request(state: LedgerState, actor: Actor, reason: str, requested: int) -> Draft:
    """Confirm another admin's request: the draft repeats it word for word."""
    request = open_request(state, requested)
    data: dict[str, Any] = {"account": request.account, "requested": requested}
    if request.change == "add":
        data |= {"name": request.name, "kind": request.kind, "identity": request.identity, "bootstrap": False}
    if request.change in ("add", "roles"):
        data["roles"] = list(request.roles)
    return Draft(CONFIRMED_BY[request.change], actor, data, reason=reason)


def withdraw_request(state: LedgerState, actor: Actor, reason: str, requested: int) -> Draft:
    """Withdraw an open request, one's own or another admin's."""
    open_request(state, requested)
    return Draft("AccountRequestWithdrawn", actor, {"requested": requested}, reason=reason)


def disable(state: LedgerState, actor: Actor, reason: str, account: str) -> Draft:
    """Disable an account at once."""
    return Draft("AccountDisabled", actor, {"account": account_named(state, account).id}, reason=reason)


def recertify(state: LedgerState, actor: Actor, reason: str, account: str, roles: Sequence[str]) -> Draft:
    """Confirm that an account still needs the roles that it has."""
    data = {"account": account_named(state, account).id, "roles": list(roles)}
    return Draft("AccountRecertified", actor, data, reason=reason)


def recover(state: LedgerState, actor: Actor, reason: str, name: str) -> Draft:
    """Make an admin account usable: the one of that name, or a new one."""
    known = state.people.named(name)
    account = known.id if known else f"p-{secrets.token_hex(8)}"
    data = {"account": account, "name": known.name if known else account_name(name)}
    return Draft("AccountRecovered", actor, data, reason=reason)


def confirm_recovery(actor: Actor, reason: str, recovered: int) -> Draft:
    """Confirm, as a second admin, an account that was recovered on the machine."""
    return Draft("RecoveryConfirmed", actor, {"recovered": recovered}, reason=reason)


def _about(account: Account, change: str, roles: Sequence[str]) -> dict[str, Any]:
    about = {"change": change, "account": account.id, "name": account.name, "kind": account.kind}
    return about | {"roles": list(roles), "identity": account.identity}
