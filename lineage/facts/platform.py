"""Facts about how the platform itself is run."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from lineage.facts.base import PlatformFact

#: What was bypassed, as an identifier, for example `plain_http`.
Bypass = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,59}$")]


class UnsafeUsed(PlatformFact):
    """A protection was bypassed on purpose, by a setting or a command whose name says Unsafe."""

    introduced: ClassVar[int] = 3

    what: Bypass
    detail: str = Field(min_length=1, max_length=500)
