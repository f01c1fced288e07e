"""The policy of a model: one type for the ledger, the validators, the controller and the console.

Every constant that can move a verdict is here with its default, and the whole policy is stored with each release.
This is the form on record: keys of later versions are ignored, and a policy without steps or checks is read as one that
has none, so that the rules refuse to move its release. What an author may write in `policy.toml`, and the defaults of
steps, are in `validators.policy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_serializer,
    model_validator,
)

from lineage.digest import digest_of
from lineage.errors import InvalidError

FORMAT = 1


class Part(BaseModel):
    """A table of a policy: frozen, without NaN, infinity or silent conversion."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


def _rising(steps: tuple[float, ...]) -> tuple[float, ...]:
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError("steps must rise, each above the one before")
    return steps


Share = Annotated[float, Field(gt=0, le=1)]
Alpha = Annotated[float, Field(gt=0, le=0.5)]
Steps = Annotated[tuple[Share, ...], Field(max_length=20, strict=False), AfterValidator(_rising)]


class Validation(Part):
    """Checks that have to pass, and the limits of each as its table. An empty list lets nothing pass."""

    checks: Annotated[tuple[str, ...], Field(strict=False)] = ()
    limits: dict[str, dict[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _a_table_for_each_check(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        return {"checks": table.get("checks", ()), "limits": {k: v for k, v in table.items() if k != "checks"}}

    @model_serializer
    def _as_table(self) -> dict[str, Any]:
        return {"checks": list(self.checks), **self.limits}


class MetricLimit(Part):
    """How much worse a challenger may be: in absolute rate, as a ratio to the champion, or both."""

    absolute_limit: Annotated[float, Field(gt=0, le=1)] | None = None
    ratio_limit: Annotated[float, Field(gt=1, le=100)] | None = None

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.absolute_limit is None and self.ratio_limit is None:
            raise ValueError("needs absolute_limit, ratio_limit or both")
        return self


class SlowLimit(MetricLimit):
    """As `MetricLimit`; a request is slow above this many milliseconds."""

    milliseconds: float = Field(gt=0, le=60_000)


class Canary(Part):
    """Traffic steps of a canary and the judge's limits."""

    steps: Steps = ()
    alpha: Alpha = 0.05
    minimum_subjects: int = Field(default=150, ge=1, le=10_000_000, description="Per arm, before ADVANCE.")
    deadline_minutes: float = Field(default=60, gt=0, le=60 * 24 * 90)
    stale_seconds: float = Field(default=15, gt=0, le=3600)
    sample_ratio_alpha: Alpha = 0.001
    prior_strength: float = Field(default=100, gt=0, le=1_000_000)
    errors: MetricLimit = MetricLimit(absolute_limit=0.03)
    slow: SlowLimit = SlowLimit(milliseconds=75, absolute_limit=0.10)
    wrong_decisions: MetricLimit = MetricLimit(ratio_limit=1.5)


class Review(Part):
    """Whether a second person has to approve, and by when."""

    required: bool = True
    sla_hours: float = Field(default=24, gt=0, le=24 * 365)


class Rollout(Part):
    """The shares of traffic after approval; the last is 1."""

    steps: Steps = ()
    minimum_subjects: int = Field(default=50, ge=1, le=10_000_000)


class DriftLimits(Part):
    """Limits of drift between live traffic and the release's reference."""

    method: str = "psi"
    window: int = Field(default=600, ge=50, le=1_000_000, description="Decisions in one window.")
    minimum_rows: int = Field(
        default=200, ge=50, le=1_000_000, description="Fewer in the window or reference: not enough."
    )
    feature_limit: float = Field(default=0.1, gt=0, le=10)
    limit_share: Share = 0.3
    every_seconds: float = Field(default=10, gt=0, le=86_400 * 31)
    retrain: bool = True


class FairnessLimits(Part):
    """Limits on the difference of approval rates between groups in live traffic."""

    ratio_limit: Share = 0.8
    minimum_group: int = Field(default=100, ge=10, le=1_000_000)
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    every_seconds: float = Field(default=20, gt=0, le=86_400 * 31)


class Monitor(Part):
    """Monitoring of a release in live traffic."""

    seal_seconds: float = Field(default=5, gt=0, le=86_400)
    drift: DriftLimits = DriftLimits()
    fairness: FairnessLimits = FairnessLimits()


class Records(Part):
    """Retention: how long decisions about a person have to be kept before an erasure, and the law that requires it."""

    retention_days: int = Field(default=762, ge=0, le=36_600, description="25 months by default.")
    retention_law: str = Field(default="12 CFR 1002.12(b) (Regulation B)", min_length=1, max_length=200)


class BreakerLimits(Part):
    """Conditions on which a replica's circuit breaker opens, so that the baseline answers, and on which it closes.

    Counts are of answers of one replica.
    """

    window: int = Field(default=200, ge=10, le=100_000, description="The last answers that are looked at.")
    minimum: int = Field(default=20, ge=1, le=100_000, description="Fewer: only `in_a_row` opens.")
    failure_share: Share = 0.5
    in_a_row: int = Field(default=5, ge=1, le=10_000, description="Failures one after the other.")
    same_scores: int = Field(default=50, ge=5, le=100_000, description="Different rows in a row with one score.")
    favourable_low: float | None = Field(default=None, ge=0, le=1, description="Share of favourable decisions.")
    favourable_high: float | None = Field(default=None, ge=0, le=1)
    rest_seconds: float = Field(default=5, gt=0, le=3600, description="Open for so long, twice as long each time.")
    rest_most_seconds: float = Field(default=300, gt=0, le=86_400)
    trial_share: Share = 0.1
    trials: int = Field(default=20, ge=1, le=10_000, description="Good answers in the trial that close it.")
    trial_seconds: float = Field(default=60, gt=0, le=3600, description="Then the trial draws other customers.")


class Serving(Part):
    """Options of a release's answers."""

    slow_milliseconds: float = Field(default=1000, gt=0, le=60_000, description="A score that takes longer has failed.")
    explain_milliseconds: float = Field(default=500, gt=0, le=60_000, description="As long as reasons may take.")
    cache: bool = Field(default=True, description="Whether a row that was scored before may be answered from memory.")
    breaker: BreakerLimits = BreakerLimits()


class Policy(Part):
    """The whole policy of one model."""

    validation: Validation = Validation()
    canary: Canary = Canary()
    review: Review = Review()
    rollout: Rollout = Rollout()
    monitor: Monitor = Monitor()
    serving: Serving = Serving()
    records: Records = Records()

    def steps(self, section: Literal["canary", "rollout"]) -> tuple[float, ...]:
        """The shares of live traffic of a section, rising."""
        return self.canary.steps if section == "canary" else self.rollout.steps

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every default written out; `parse_policy` gives the same policy back."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """The digest of its canonical JSON."""
        return digest_of(self.to_dict())


def parse_policy(content: Mapping[str, Any]) -> Policy:
    """Parse a policy on record; equal content is parsed once.

    Raises:
        InvalidError: names the key, its value and what was expected.
    """
    return _parsed(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


#: What the rules of release read: the first era accepted anything elsewhere in a policy.
_RULED = {"validation": ("checks",), "canary": ("steps",), "review": ("required",), "rollout": ("steps",)}


def parse_ruled(content: Mapping[str, Any]) -> Policy:
    """A policy on record, of which only checks, steps and the need for a review are read.

    Raises:
        InvalidError: one of these cannot be read.
    """
    return parse_policy({name: _part(content[name], keys) for name, keys in _RULED.items() if name in content})


def _part(table: Any, keys: tuple[str, ...]) -> Any:
    return {key: table[key] for key in keys if key in table} if isinstance(table, Mapping) else table


@lru_cache(maxsize=4096)  # many releases share a few policies
def _parsed(content: bytes) -> Policy:
    try:
        return Policy.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(["policy", *map(str, first["loc"])])
        raise InvalidError(f"{field}: {first['msg']}, got {first['input']!r:.120}", field=field) from error
