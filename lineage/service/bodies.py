"""Request bodies of the ledger service; unknown fields are refused."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lineage.rules.draft import REASON_CHARACTERS


class Body(BaseModel):
    """Base of all request bodies."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SignIn(Body):
    """Open a session; `device` is what an earlier sign-in on this device returned."""

    name: str = Field(min_length=1, max_length=200)
    password: str = Field(min_length=1, max_length=1_024)
    device: str | None = Field(default=None, max_length=200)


class ChoosePassword(Body):
    """A new password, with a one-time code or with the old password."""

    name: str = Field(min_length=1, max_length=200)
    new: str = Field(min_length=1, max_length=1_024)
    code: str | None = Field(default=None, max_length=100)
    old: str | None = Field(default=None, max_length=1_024)


class Statement(Body):
    """A fact stated by a service of the platform."""

    kind: str
    data: dict[str, Any]
    model: str | None = None
    release: str | None = None
    reason: str | None = None


class WithReason(Body):
    """An action that takes only a reason."""

    reason: str = Field(min_length=1, max_length=REASON_CHARACTERS)


class ReviewDecision(WithReason):
    """A review decision."""

    decision: Literal["approve", "reject"]


class Rollback(WithReason):
    """A rollback; without `to`, to the previous champion."""

    to: str | None = None


class Kill(WithReason):
    """Stop a model, or all of them; without `answer` the baseline answers meanwhile."""

    answer: Literal["baseline", "nothing"] = "baseline"


class Retrain(WithReason):
    """A training run on a model folder."""

    folder: str = Field(min_length=1, max_length=500)
    options: dict[str, str | int | float | bool | None] = Field(default_factory=dict)


class NewAccount(WithReason):
    """A request for a new account of a person, or of a machine outside the platform."""

    name: str = Field(min_length=1, max_length=200)
    kind: Literal["person", "machine"] = "person"
    roles: list[str] = Field(min_length=1, max_length=8)
    identity: str | None = Field(default=None, max_length=500)


class AccountRoles(WithReason):
    """Roles of an account: to be granted, taken away or confirmed."""

    roles: list[str] = Field(min_length=1, max_length=8)


class RecoverAccount(WithReason):
    """An admin account to be made usable on the machine."""

    name: str = Field(min_length=1, max_length=200)
