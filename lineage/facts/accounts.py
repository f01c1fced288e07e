"""Facts about accounts: who they are, which roles they have, and who granted them.

Giving takes two admins: one requests, another confirms, and the fact that gives names the request. Taking away takes
one. Passwords, codes and tokens are never part of a fact.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lineage.facts.base import PlatformFact

AccountId = Annotated[str, Field(pattern=r"^[A-Za-z0-9:_.-]{1,100}$")]
AccountName = Annotated[str, Field(min_length=1, max_length=100)]
Roles = Annotated[list[str], Field(min_length=1, max_length=8)]
AccountKind = Literal["person", "machine"]
#: Record of the request that a fact confirms; None for what the platform makes at its first start.
Requested = Annotated[int, Field(ge=1)] | None
#: Issuer and subject of a person who signs in by OpenID Connect, as `ISSUER#SUBJECT`.
Identity = Annotated[str, Field(pattern=r"^https?://[^\x00-\x20#]+#[^\x00-\x1f]{1,255}$")] | None


class AccountRequested(PlatformFact):
    """An admin requested an account, other roles, a new start for a lost password, or the return of an account."""

    introduced = 3
    change: Literal["add", "roles", "reset", "enable"]
    account: AccountId
    name: AccountName
    kind: AccountKind = "person"
    roles: Roles
    identity: Identity = None


class AccountRequestWithdrawn(PlatformFact):
    """A request about an account was withdrawn; it can no longer be confirmed."""

    introduced = 3
    requested: int = Field(ge=1)


class AccountAdded(PlatformFact):
    """An account was made."""

    account: AccountId
    name: AccountName
    kind: AccountKind = "person"
    roles: Roles
    identity: Identity = None
    bootstrap: bool = False  # made at the first start, by no admin
    requested: Requested = None


class RolesChanged(PlatformFact):
    """An account has other roles."""

    introduced = 3
    account: AccountId
    roles: Roles
    requested: Requested = None


class AccountDisabled(PlatformFact):
    """An account can no longer act; its sessions and tokens end."""

    introduced = 3
    account: AccountId


class AccountEnabled(PlatformFact):
    """A disabled account can act again."""

    introduced = 3
    account: AccountId
    requested: int = Field(ge=1)


class AccountRecertified(PlatformFact):
    """An admin confirmed that an account still needs these roles."""

    introduced = 3
    account: AccountId
    roles: Roles


class AccountRecovered(PlatformFact):
    """An admin account was made usable on the machine by one person, because fewer than two admins were active."""

    introduced = 3
    account: AccountId
    name: AccountName


class RecoveryConfirmed(PlatformFact):
    """A second admin confirmed an account that was recovered on the machine."""

    introduced = 3
    recovered: int = Field(ge=1)


class PasswordReset(PlatformFact):
    """An account got a new one-time code; its password and its sessions ended."""

    account: AccountId
    requested: Requested = None


class PasswordChosen(PlatformFact):
    """A person chose a password."""

    introduced = 3
    account: AccountId


class SignedIn(PlatformFact):
    """A person signed in."""

    account: AccountId
    method: Literal["password", "oidc"] = "password"


class SignInsFailed(PlatformFact):
    """Sign-ins failed: how many in this time, by address, and by account where there is one of that name."""

    introduced = 3
    since: str
    until: str
    failed: int = Field(ge=0)
    turned_away: int = Field(ge=0)  # unheard, because too many had failed or were waiting
    sources: dict[str, int]
    accounts: dict[str, int]
