"""`Admin`: look after accounts from Python. One admin requests, another confirms; taking away takes one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import httpx

from plimsoll.wire import Wire, part

Json = dict[str, Any]


class Admin:
    """Client of the ledger service for accounts; the token is an admin's, for `recover` the machine's own.

    Args:
        token: a bearer token; `Admin.sign_in` makes one from name and password.
        ledger: base URL of the ledger service.
        timeout: seconds that one call may take.

    Raises (every method):
        plimsoll.Invalid, plimsoll.Refused, plimsoll.Unavailable: as for `Client`.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        ledger: str = "http://127.0.0.1:7411",
        timeout: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._ledger = Wire(ledger, token, timeout=timeout, transport=transport)

    @classmethod
    def sign_in(cls, name: str, password: str, **options: Any) -> Admin:
        """A client with a fresh session of an admin; `options` as for `Admin`."""
        guest = cls(**options)
        try:
            session = guest._ledger.ask("POST", "/v1/session", json={"name": name, "password": password})
        finally:
            guest.close()
        return cls(session["token"], **options)

    def __enter__(self) -> Admin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._ledger.close()

    def accounts(self) -> Json:
        """`accounts` with their roles, `requests` that wait for a second admin, and how many `admins` are active."""
        found: Json = self._ledger.get("/v1/accounts")
        return found

    def add(
        self, name: str, roles: Sequence[str], reason: str, *, kind: str = "person", identity: str | None = None
    ) -> Json:
        """Request an account; another admin confirms the record's `seq`.

        Args:
            roles: of a person `scientist`, `validator`, `operator`, `auditor` or `admin`; of a machine `client`,
                `outcomes`.
            identity: `ISSUER#SUBJECT` where the person signs in by OpenID Connect.

        Returns:
            The record; `code` is the first half of the person's one-time code.
        """
        body = {"name": name, "kind": kind, "roles": list(roles), "identity": identity, "reason": reason}
        return self._act("/v1/accounts", body)

    def roles(self, account: str, roles: Sequence[str], reason: str) -> Json:
        """Take roles away at once, or request roles that another admin confirms."""
        return self._act(f"/v1/accounts/{part(account)}/roles", {"roles": list(roles), "reason": reason})

    def reset(self, account: str, reason: str) -> Json:
        """Request a new one-time code for a person; `code` is its first half."""
        return self._act(f"/v1/accounts/{part(account)}/reset", {"reason": reason})

    def disable(self, account: str, reason: str) -> Json:
        """Disable an account at once: its sessions and tokens end."""
        return self._act(f"/v1/accounts/{part(account)}/disable", {"reason": reason})

    def enable(self, account: str, reason: str) -> Json:
        """Request the return of a disabled account."""
        return self._act(f"/v1/accounts/{part(account)}/enable", {"reason": reason})

    def recertify(self, account: str, roles: Sequence[str], reason: str) -> Json:
        """Confirm that an account still needs the roles that it has."""
        return self._act(f"/v1/accounts/{part(account)}/recertify", {"roles": list(roles), "reason": reason})

    def confirm(self, requested: int, reason: str) -> Json:
        """Confirm another admin's request; `code` is the second half of a one-time code, `token` that of a machine."""
        return self._act(f"/v1/account-requests/{requested}/confirm", {"reason": reason})

    def withdraw(self, requested: int, reason: str) -> Json:
        """Withdraw an open request."""
        return self._act(f"/v1/account-requests/{requested}/withdraw", {"reason": reason})

    def recover(self, name: str, reason: str) -> Json:
        """Make an admin account usable while fewer than two admins are active; `code` is its one-time code."""
        return self._act("/v1/accounts/recover", {"name": name, "reason": reason})

    def confirm_recovery(self, recovered: int, reason: str) -> Json:
        """Confirm, as a second admin, an account that was recovered on the machine."""
        return self._act(f"/v1/account-recoveries/{recovered}/confirm", {"reason": reason})

    def choose_password(self, name: str, new: str, *, code: str | None = None, old: str | None = None) -> Json:
        """Set one's own password by a one-time code or by the old password; other sessions end."""
        body = {"name": name, "new": new, "code": code, "old": old}
        done: Json = self._ledger.ask("POST", "/v1/password", json=body)
        return done

    def _act(self, path: str, body: Json) -> Json:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        record: Json = self._ledger.ask("POST", path, json=body, headers=headers)
        return record
