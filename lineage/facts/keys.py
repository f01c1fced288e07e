"""Facts about the platform's keys and machine tokens, and about the witness of the log."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from lineage.facts.base import PlatformFact

#: `ledger` signs checkpoints, `bundle` signs releases, `witness` cosigns, `console` seals session cookies, `token` is
#: the bearer token of a machine account.
KeyName = Literal["ledger", "bundle", "witness", "console", "token"]
KeyId = Annotated[str, Field(pattern=r"^[0-9a-z:]{8,80}$")]
Seq = Annotated[int, Field(ge=1)]


class Key(BaseModel):
    """A key by its id, with its public half where it has one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    id: KeyId
    public: Annotated[str, Field(max_length=1_000)] | None


class KeyRotated(PlatformFact):
    """A key was replaced by another one, which counts from this record on.

    Attributes:
        name: the machine account whose token it is; None for keys.
        old: None where there was no key before.
        overlap_seconds: for how long the old one is accepted too; 0 for keys that sign.
    """

    introduced: ClassVar[int] = 3
    key: KeyName
    name: Annotated[str, Field(min_length=1, max_length=100)] | None
    old: Key | None
    new: Key
    overlap_seconds: Annotated[int, Field(ge=0, le=86_400)]


class KeyRevoked(PlatformFact):
    """What this key signs does not count for records from `from_record` on; from 1 on, nothing of it counts."""

    introduced: ClassVar[int] = 3
    key: KeyName
    name: Annotated[str, Field(min_length=1, max_length=100)] | None
    id: KeyId
    from_record: Seq


class WitnessAway(PlatformFact):
    """The witness does not answer: records after the first `cosigned` ones have the log's own signature only.

    `at_opening` says that the log was opened without comparing it with what the witness saw.
    """

    introduced: ClassVar[int] = 3
    since: str
    cosigned: Annotated[int, Field(ge=0)]
    at_opening: bool
    why: Annotated[str, Field(max_length=1_000)]


class WitnessBack(PlatformFact):
    """The witness cosigned the log again, which continues what it saw before it was away."""

    introduced: ClassVar[int] = 3
    since: str
    cosigned: Annotated[int, Field(ge=0)]
