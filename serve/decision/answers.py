"""Data of a decision in its stages: request, pending decision, score, unrecorded decision, answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from pydantic import Field

from serve.judge.evidence import CHAMPION
from serve.routes import Digest, Route, Target
from validators.scoring.reasons import AdverseReason

Purpose = Literal["customer", "verification"]
Role = Literal["champion", "challenger", "baseline"]


class ChallengerPort(Protocol):
    """Pool of processes where challengers and shadows are scored."""

    def is_ready(self, target: Target) -> bool:
        """Whether the challenger can be sent requests; until then no customer is assigned to an arm."""

    async def __call__(self, target: Target, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Score rows of named features: of each row the fields of `Scored`, or `{"refused": why}`.

        Raises:
            UnavailableError: the pool failed.
        """


@dataclass(frozen=True)
class Scored:
    """Score, decision and reasons of one row. `row` is float64[f] in the model's order; scores are probabilities."""

    row: list[float]
    score: float
    threshold: float
    decision: str
    adverse: bool
    reasons: list[AdverseReason]


class LookedUpFeatures(NamedTuple):
    """Origin of features that were looked up instead of sent.

    service: the feature service; age: seconds since the oldest of them was observed.
    unusable: names of the features that are stale or missing and must not be used.
    """

    service: str
    age: float | None
    unusable: tuple[str, ...] = ()


class Request(NamedTuple):
    """One row to decide. `key` names the customer and fixes the arm; `row` is its number in a request of several."""

    features: Mapping[str, Any]
    key: str
    served: LookedUpFeatures | None = None
    row: int | None = None


@dataclass(slots=True)
class Pending:
    """A decision in progress."""

    route: Route
    request: Request
    purpose: Purpose
    position: float | None = None
    arm: str | None = None
    role: Role = CHAMPION
    target: Target | None = None
    fallback: str | None = None
    error: str | None = None
    cached: bool = False
    scored: Scored | None = None


class UnrecordedDecision(NamedTuple):
    """A decision that is neither recorded nor returned yet."""

    pending: Pending
    target: Target
    scored: Scored
    version: int
    latency_ms: float


@dataclass(frozen=True)
class Answer:
    """One decision as the caller gets it. The OpenAPI document of the gateway is generated from these types."""

    decision: Annotated[str, Field(min_length=1)]
    score: Annotated[float, Field(ge=0, le=1)]
    threshold: float
    decision_id: Annotated[str, Field(min_length=1)]
    release: Annotated[str, Field(min_length=1)]
    digest: Digest
    role: Role
    fallback: Annotated[str | None, Field(description="Why the champion did not answer; null where it did.")]
    reasons: list[AdverseReason]
    cached: Annotated[bool, Field(exclude=True)] = False

    def to_dict(self) -> dict[str, Any]:
        """JSON form, without `cached`, which only a header says. Its values are not copied."""
        return {name: getattr(self, name) for name in _IN_BODY}


_IN_BODY = tuple(name for name in Answer.__dataclass_fields__ if name != "cached")


def same_release(answers: Sequence[Answer]) -> bool:
    """Whether one release in one role gave every answer."""
    first = answers[0]
    return all((answer.digest, answer.role) == (first.digest, first.role) for answer in answers)
