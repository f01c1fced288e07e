"""Facts about the kill switch, circuit breakers and the shadow.

Only people use the kill switch: one pulls it, two different people release it; no service and no timer does either.
Only machines use a breaker: a gateway replica opens and closes it by itself and reports that here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lineage.facts.base import Fact, Json, ModelFact, SwitchFact

Seq = Annotated[int, Field(ge=1)]
Replica = Annotated[str, Field(min_length=1, max_length=200)]
#: Cause of a breaker's opening, as an identifier; the gateway has the list.
Cause = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,59}$")]


class KillSwitchPulled(SwitchFact):
    """A person stopped a model, or all of them: its baseline answers, or nothing does."""

    answer: Literal["baseline", "nothing"]


class KillReleaseRequested(SwitchFact):
    """A person requested the release of the switch pulled in record `pulled`; a second person has to confirm."""

    pulled: Seq


class KillSwitchReleased(SwitchFact):
    """A second person confirmed the request in record `requested`: the champion answers again."""

    pulled: Seq
    requested: Seq


class BreakerOpened(ModelFact):
    """One gateway replica stopped asking the champion; the baseline answers there."""

    release: str
    replica: Replica
    cause: Cause
    evidence: Json
    since: str
    times: int = Field(ge=1)


class BreakerClosed(ModelFact):
    """The champion answers again on that replica, or the breaker has nothing left to guard."""

    release: str
    replica: Replica
    cause: Literal["trial passed", "replica gone", "champion changed"]
    seconds: float = Field(ge=0)
    answers: int = Field(ge=0)  # what the baseline gave meanwhile


class ShadowStarted(Fact):
    """The release scores copies of live requests; nothing of it is used."""


class ShadowStopped(Fact):
    """The release scores no copies any more."""

    code: str | None = Field(default=None, pattern=r"^[a-z][a-z_]{0,59}$")  # a service's reason, as a word
