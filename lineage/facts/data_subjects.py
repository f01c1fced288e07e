"""Facts about data subjects. A commitment replaces the person's name; its salt is in the vault only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lineage.facts.base import PlatformFact

#: An HMAC under the person's salt (`lineage.privacy.key_vault`).
Commitment = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class HoldPlaced(PlatformFact):
    """Nothing about this person may be erased."""

    commitment: Commitment
    by: str
    role: str


class HoldReleased(PlatformFact):
    """The hold in record `placed` no longer forbids the erasure."""

    commitment: Commitment
    placed: int = Field(ge=1)
    by: str
    role: str


class SubjectErased(PlatformFact):
    """Key and salt of a person were destroyed: data sealed about the person cannot be read any more.

    Nothing here leads back to the person, since the salt of the commitment is gone too. `plain` counts decisions in
    segments sealed before keys existed, which stay readable; `datasets` counts pinned versions that hold the person.
    """

    commitment: Commitment
    ground: str = Field(min_length=1)
    by: str
    role: str
    decisions: Count
    segments: Count
    plain: Count
    datasets: Count
    releases: Count


class PersonalDataRead(PlatformFact):
    """A person looked at decisions about customers; the record's reason says why.

    `commitment` is the person's whom the answer is about; None where it is about several, or about one without a key
    (erased, or never decided about). `decision_ids` are the first 100 of `count`. `fields` says whether the answer
    held the fields about the person.
    """

    introduced = 3
    what: Literal["decision", "history", "decisions", "outcomes", "presence"]
    commitment: Commitment | None
    decision_ids: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(max_length=100)
    count: Count
    fields: Literal["shown", "withheld"]
