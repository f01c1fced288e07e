"""Routes of accounts, for admins: one requests, another confirms; taking away takes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from lineage.clock import instant
from lineage.errors import RefusedError
from lineage.rules import account_actions as acts
from lineage.rules.draft import Draft, Record, check_right
from lineage.rules.roles import check_role
from lineage.service.bodies import AccountRoles, NewAccount, RecoverAccount, WithReason
from lineage.service.reads import PROBLEMS, Caller, context_of
from lineage.service.writes import Key, checked_key, limit_fact_size
from lineage.state.fold import LedgerState

router = APIRouter(dependencies=[Depends(limit_fact_size)], responses=PROBLEMS)
#: After this time without a confirmation of its roles an account is due for recertification.
RECERTIFY_AFTER = timedelta(days=180)
_READERS = frozenset({"admin", "auditor"})
_NO_STORE = {"Cache-Control": "no-store"}


@router.get("/v1/accounts")
def accounts(request: Request, who: Caller) -> Response:
    """All accounts, and the requests that wait for a second admin. For admins and auditors."""
    check_role(who, _READERS, "list accounts")
    context = context_of(request)
    people = context.ledger.read(lambda state: state.people)
    due = context.clock() - RECERTIFY_AFTER
    listed = [
        asdict(one) | {"recertify": one.active and instant(one.certified_at) < due} for one in people.accounts.values()
    ]
    requests = [asdict(one) for one in people.requests.values()]
    found = {"accounts": listed, "requests": requests, "admins": len(people.admins())}
    return Response(orjson.dumps(found), headers=_NO_STORE, media_type="application/json")


@router.post("/v1/accounts", status_code=201)
def request_account(request: Request, body: NewAccount, who: Caller, key: Key = None) -> Response:
    """Request a new account; `code` is the first half of its one-time code."""
    given = (body.reason, body.name, body.kind, body.roles, body.identity)
    return _request(request, who, key, lambda _: acts.request_account(who, *given))


@router.post("/v1/accounts/{account}/roles", status_code=201)
def roles(request: Request, account: str, body: AccountRoles, who: Caller, key: Key = None) -> Response:
    """Take roles away, or request roles."""
    return _request(request, who, key, lambda state: acts.change_roles(state, who, body.reason, account, body.roles))


@router.post("/v1/accounts/{account}/reset", status_code=201)
def reset(request: Request, account: str, body: WithReason, who: Caller, key: Key = None) -> Response:
    """Request a new one-time code for a person; `code` is its first half."""
    return _request(request, who, key, lambda state: acts.request_change(state, who, body.reason, account, "reset"))


@router.post("/v1/accounts/{account}/enable", status_code=201)
def enable(request: Request, account: str, body: WithReason, who: Caller, key: Key = None) -> Response:
    """Request the return of a disabled account."""
    return _request(request, who, key, lambda state: acts.request_change(state, who, body.reason, account, "enable"))


@router.post("/v1/accounts/{account}/disable", status_code=201)
def disable(request: Request, account: str, body: WithReason, who: Caller, key: Key = None) -> Response:
    """Disable an account at once: its sessions and tokens end."""
    record = _record(
        request, who, key, lambda state: acts.disable(state, who, body.reason, account), frozenset({"AccountDisabled"})
    )
    context_of(request).credentials.end_sessions(record["data"]["account"])
    return _answer(request, record)


@router.post("/v1/accounts/{account}/recertify", status_code=201)
def recertify(request: Request, account: str, body: AccountRoles, who: Caller, key: Key = None) -> Response:
    """Confirm that an account still needs its roles."""
    record = _record(
        request,
        who,
        key,
        lambda state: acts.recertify(state, who, body.reason, account, body.roles),
        frozenset({"AccountRecertified"}),
    )
    return _answer(request, record)


@router.post("/v1/account-requests/{requested}/confirm", status_code=201)
def confirm(request: Request, requested: int, body: WithReason, who: Caller, key: Key = None) -> Response:
    """Confirm another admin's request; `code` is the second half of a one-time code, `token` that of a machine."""
    asked = context_of(request).ledger.read(lambda state: state.people.requests.get(requested))
    record = _record(
        request,
        who,
        key,
        lambda state: acts.confirm_request(state, who, body.reason, requested),
        frozenset(acts.CONFIRMED_BY.values()),
    )
    credentials, shown = context_of(request).credentials, {}
    if asked is not None and asked.kind == "machine" and asked.change in ("add", "enable"):
        shown = {"token": credentials.add_machine(asked.account)}
    elif asked is not None and asked.change in ("add", "reset") and asked.identity is None:
        shown = {"code": credentials.second_half(str(requested), asked.account, asked.name)}
    return _answer(request, record, shown)


@router.post("/v1/account-requests/{requested}/withdraw", status_code=201)
def withdraw(request: Request, requested: int, body: WithReason, who: Caller, key: Key = None) -> Response:
    """Withdraw an open request."""
    return _answer(
        request,
        _record(
            request,
            who,
            key,
            lambda s: acts.withdraw_request(s, who, body.reason, requested),
            frozenset({"AccountRequestWithdrawn"}),
        ),
    )


@router.post("/v1/accounts/recover", status_code=201)
def recover(request: Request, body: RecoverAccount, who: Caller, key: Key = None) -> Response:
    """Make an admin account usable on the machine while fewer than two admins are active; `code` is whole."""
    record = _record(
        request,
        who,
        key,
        lambda state: acts.recover(state, who, body.reason, body.name),
        frozenset({"AccountRecovered"}),
    )
    data = record["data"]
    return _answer(request, record, {"code": context_of(request).credentials.whole_code(data["account"], data["name"])})


@router.post("/v1/account-recoveries/{recovered}/confirm", status_code=201)
def confirm_recovery(request: Request, recovered: int, body: WithReason, who: Caller, key: Key = None) -> Response:
    """Confirm, as a second admin, an account that was recovered on the machine."""
    return _answer(
        request,
        _record(
            request,
            who,
            key,
            lambda _: acts.confirm_recovery(who, body.reason, recovered),
            frozenset({"RecoveryConfirmed"}),
        ),
    )


def _request(request: Request, who: Caller, key: str | None, make: Callable[[LedgerState], Draft]) -> Response:
    record = _record(request, who, key, make, frozenset({"AccountRequested", "RolesChanged"}))
    wants_code = record["kind"] == "AccountRequested" and record["data"]["change"] in ("add", "reset")
    if not wants_code or record["data"]["kind"] == "machine" or record["data"]["identity"] is not None:
        return _answer(request, record)
    return _answer(request, record, {"code": context_of(request).credentials.first_half(str(record["seq"]))})


def _record(
    request: Request, who: Caller, key: str | None, make: Callable[[LedgerState], Draft], kinds: frozenset[str]
) -> Record:
    """Record an act; a refusal is recorded too."""
    ledger, key, attempted = context_of(request).ledger, checked_key(key), Draft("AccountRequested", who, {})

    def authorised(state: LedgerState) -> Draft:
        nonlocal attempted
        check_role(who, frozenset({"admin", "recovery"}), "change accounts")  # before anything is said about accounts
        attempted = replace(make(state), key=key)
        check_right(attempted.kind, who, None, state)
        return attempted

    try:
        record, new = ledger.act(who, key, authorised)
        if not new and record["kind"] not in kinds:
            raise RefusedError(
                f"idempotency key {key!r} was used for another request (record {record['seq']}); use a new one",
                code="key_reused",
            )
        return record
    except RefusedError as refusal:
        ledger.refuse(attempted, refusal)
        raise


def _answer(request: Request, record: Record, shown: dict[str, Any] | None = None) -> Response:
    context_of(request).tokens_changed()
    return Response(orjson.dumps(record | (shown or {})), 201, _NO_STORE, "application/json")
