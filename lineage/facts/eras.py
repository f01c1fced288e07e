"""Eras of the record, and the shapes that facts had in earlier ones.

A log begins in era 1; a `RulesActivated` fact begins the next. A record is parsed and judged by the rules of its own
era, is read in its present shape through an upcaster, and is never rewritten. Whoever changes the shape of a kind,
or a rule, adds an era: the old shape moves here, the old rules to `lineage.rules.eras`.

| era | since version | what is new |
|---|---|---|
| 1 | 0.1.0 | |
| 2 | 0.2.0 | `AlertRaised.release`, `AlertClosed`, `EnvironmentReproduced`; the whole policy has to be readable |
| 3 | 0.3.0 | accounts are people on record, privileges by role of a machine, policies are approved |
|   |       | reads of personal data are facts; answers are numbered; a segment has a new name and its own place |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from lineage.facts.base import Fact, Json, ModelFact, PlatformFact, Uri

LATEST = 3


@dataclass(frozen=True)
class Earlier:
    """The shape that a kind had up to and including era `until`, and its data in the shape that followed."""

    until: int
    shape: type[Fact]
    upcast: Callable[[Json], Json]


class AlertRaised1(ModelFact):
    """`AlertRaised` of era 1: without the release that it concerns."""

    alert: str
    about: str | None = None
    severity: Literal["page", "ticket"]
    summary: str
    evidence: int | None = None


class DecisionsSealed2(ModelFact):
    """`DecisionsSealed` up to era 2: without the numbers of the answers."""

    segment: str
    uri: Uri
    digest: str
    rows: int = Field(ge=0)
    outcomes: int = Field(ge=0)
    from_: str = Field(alias="from")
    to: str
    releases: dict[str, int]


class AccountAdded2(PlatformFact):
    """`AccountAdded` up to era 2: a name with one role, made at the first start."""

    account: str
    role: str


class PasswordReset2(PlatformFact):
    """`PasswordReset` up to era 2."""

    account: str


class SignedIn2(PlatformFact):
    """`SignedIn` up to era 2."""

    account: str


def _account(data: Json) -> Json:
    """An account of an earlier era: its name is its id."""
    known = {"account": data["account"], "name": data["account"], "roles": [data["role"]]}
    return known | {"kind": "person", "identity": None, "bootstrap": True, "requested": None}


#: Earlier shapes by kind, oldest first.
EARLIER: dict[str, tuple[Earlier, ...]] = {
    "AccountAdded": (Earlier(2, AccountAdded2, _account),),
    "PasswordReset": (Earlier(2, PasswordReset2, lambda data: data | {"requested": None}),),
    "SignedIn": (Earlier(2, SignedIn2, lambda data: data | {"method": "password"}),),
    "AlertRaised": (Earlier(1, AlertRaised1, lambda data: data | {"release": None}),),
    "DecisionsSealed": (Earlier(2, DecisionsSealed2, lambda data: data | {"answers": None}),),
}


def upcast(kind: str, data: Json, era: int) -> Json:
    """The data of a fact of an earlier era in the present shape of its kind."""
    for earlier in EARLIER.get(kind, ()):
        if era <= earlier.until:
            data = earlier.upcast(data)
    return data
