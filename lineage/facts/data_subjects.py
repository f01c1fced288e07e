"""Facts about data subjects. They name nobody: a commitment stands for the person, whose salt only the vault holds."""

from __future__ import annotations

from typing import Annotated

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
    """Key and salt of a person were destroyed: what was sealed about the person can be read by nobody.

    Nothing here leads back to the person, since the salt of the commitment is gone too. `plain` counts decisions of
    segments from before there were keys, which stay readable; `datasets` counts pinned versions that hold the person.
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
