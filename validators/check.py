"""The port of checks: what a check is given and what it returns.

A check is one file in `checks/`, or an entry point in the group `plimsoll.checks`: a class with `code`, `title`,
`limits` and one method `examine`. It returns findings; its status follows from them (`validators.check_runner`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from validators.evidence import Evidence  # polars, which a serving replica does without

HEADINGS = ("Purpose", "Test mechanism", "Signs of high risk", "Strengths", "Limitations")

Relation = Literal[">=", "<=", "=="]
Edges = Annotated[tuple[float, ...], Field(min_length=1, max_length=50, strict=False)]


class Limits(BaseModel):
    """The limits of one check, as its table in the policy; each check extends it with its own keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class NotEvaluated(Exception):
    """The evidence a check needs is missing or too thin. The message names what is missing and how much is needed."""


@dataclass(frozen=True)
class Finding:
    """One measurement of a check: whether `observed relation limit` holds is `ok`.

    `interval` is the confidence interval of `observed`, `n` the number of rows behind it.
    """

    name: str
    observed: float | None
    limit: float | None
    relation: Relation
    ok: bool
    n: int
    detail: str
    interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The form that facts carry."""
        return asdict(self) | {"interval": None if self.interval is None else list(self.interval)}


class Check(Protocol):
    """One question about a candidate. Its docstring has the five headings an auditor reads."""

    code: ClassVar[str]
    title: ClassVar[str]
    limits: ClassVar[type[Limits]]

    def examine(self, evidence: Evidence, limits: Any) -> list[Finding]:
        """What was found, judged against `limits` (an instance of the check's own `limits`).

        Raises:
            NotEvaluated: the evidence needed is missing or too thin.
        """
