"""What is acceptable: a model's policy file, parsed into frozen values or refused with the key that is wrong.

Every constant that can move a verdict stands here, with its default written out, and the whole policy is stored with
each release: two people reading the same release read the same limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_serializer, model_validator

from lineage.digest import digest_of
from validators.check import Limits
from validators.plugins import CHECKS, DRIFT_STATISTICS
from validators.toml_document import Part, parse_part, read_toml, refuse, unknown_key

Share = Annotated[float, Field(gt=0, le=1)]
Alpha = Annotated[float, Field(gt=0, le=0.5)]
Steps = Annotated[tuple[Share, ...], Field(min_length=1, max_length=20, strict=False)]


def _require_rising(name: str, steps: tuple[float, ...]) -> None:
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError(f"{name} must rise, each above the one before")


class Validation(Part):
    """The checks a candidate must pass, and the limits of each. An empty list of checks is not a pass."""

    checks: tuple[str, ...]
    limits: dict[str, Limits]

    @model_validator(mode="before")
    @classmethod
    def _limits_of_each_check(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        names = table.get("checks")
        if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
            raise refuse("policy", "validation.checks", names, "a list that names at least one check")
        if len(set(names)) != len(names):
            raise refuse("policy", "validation.checks", list(names), "each check once")
        found = {name: CHECKS.load(name) for name in names}
        for name in set(table) - {"checks", *names}:
            raise unknown_key(
                "policy", f"validation.{name}", ["checks", *names], " (a table is for a check that is named)"
            )
        limits = {
            name: parse_part(found[name].limits, table.get(name, {}), "policy", f"validation.{name}") for name in names
        }
        return {"checks": tuple(names), "limits": limits}

    @model_serializer
    def _as_table(self) -> dict[str, Any]:
        limits = {name: one.model_dump(mode="json") for name, one in self.limits.items()}
        return {"checks": list(self.checks), **limits}


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
    """How a challenger meets real traffic, and what makes the judge stop it."""

    steps: Steps = (0.25,)
    alpha: Alpha = 0.05
    minimum_subjects: int = Field(default=150, ge=1, le=10_000_000, description="Per arm, before ADVANCE.")
    deadline_minutes: float = Field(default=60, gt=0, le=60 * 24 * 90)
    stale_seconds: float = Field(default=15, gt=0, le=3600)
    sample_ratio_alpha: Alpha = 0.001
    prior_strength: float = Field(default=100, gt=0, le=1_000_000)
    errors: MetricLimit = MetricLimit(absolute_limit=0.03)
    slow: SlowLimit = SlowLimit(milliseconds=75, absolute_limit=0.10)
    wrong_decisions: MetricLimit = MetricLimit(ratio_limit=1.5)

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        _require_rising("steps", self.steps)
        if self.steps[-1] >= 1:
            raise ValueError("steps must stay below 1: a canary never carries all traffic")
        return self


class Review(Part):
    """Whether a second person decides, and how soon."""

    required: bool = True
    sla_hours: float = Field(default=24, gt=0, le=24 * 365)


class Rollout(Part):
    """The shares of traffic after approval; the last is 1."""

    steps: Steps = (0.5, 1.0)
    minimum_subjects: int = Field(default=50, ge=1, le=10_000_000)

    @model_validator(mode="after")
    def _steps_rise_to_one(self) -> Self:
        _require_rising("steps", self.steps)
        if self.steps[-1] != 1:
            raise ValueError("the last of steps must be 1.0")
        return self


class DriftLimits(Part):
    """When live traffic no longer looks like the traffic the release was judged on."""

    method: str = Field(default="psi", description="The name of an installed drift statistic.")
    window: int = Field(default=600, ge=50, le=1_000_000, description="Decisions in one window.")
    minimum_rows: int = Field(
        default=200, ge=50, le=1_000_000, description="Fewer in the window or reference: not enough."
    )
    feature_limit: float = Field(default=0.1, gt=0, le=10)
    limit_share: Share = 0.3
    every_seconds: float = Field(default=10, gt=0, le=86_400 * 31)
    retrain: bool = True

    @field_validator("method")
    @classmethod
    def _method_is_installed(cls, name: str) -> str:
        if name not in DRIFT_STATISTICS.names():
            raise ValueError(f"the name of a drift statistic; {DRIFT_STATISTICS.hint(name)}")
        return name

    @model_validator(mode="after")
    def _window_can_be_judged(self) -> Self:
        if self.minimum_rows > self.window:
            raise ValueError(f"minimum_rows {self.minimum_rows} is above window {self.window}: nothing could be judged")
        return self


class FairnessLimits(Part):
    """When approvals differ too much between groups in live traffic."""

    ratio_limit: Share = 0.8
    minimum_group: int = Field(default=100, ge=10, le=1_000_000)
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    every_seconds: float = Field(default=20, gt=0, le=86_400 * 31)


class Monitor(Part):
    """What is watched once a release serves."""

    seal_seconds: float = Field(default=5, gt=0, le=86_400)
    drift: DriftLimits = DriftLimits()
    fairness: FairnessLimits = FairnessLimits()


class Records(Part):
    """How long decisions about a person have to be kept before the person may be erased, and who says so."""

    retention_days: int = Field(default=762, ge=0, le=36_600, description="25 months by default.")
    retention_law: str = Field(default="12 CFR 1002.12(b) (Regulation B)", min_length=1, max_length=200)


class BreakerLimits(Part):
    """When a champion is taken not to be itself, so that the baseline answers, and how it comes back.

    Counts are of answers that one replica gave.
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

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.minimum > self.window:
            raise ValueError(f"minimum {self.minimum} is above window {self.window}: nothing could open it")
        low, high = self.favourable_low, self.favourable_high
        if low is not None and high is not None and low >= high:
            raise ValueError(f"favourable_low {low} is not below favourable_high {high}")
        return self


class Serving(Part):
    """How the release answers."""

    slow_milliseconds: float = Field(default=1000, gt=0, le=60_000, description="A score that takes longer has failed.")
    explain_milliseconds: float = Field(default=500, gt=0, le=60_000, description="As long as reasons may take.")
    cache: bool = Field(default=True, description="Whether a row that was scored before may be answered from memory.")
    breaker: BreakerLimits = BreakerLimits()


class Policy(Part):
    """The whole policy of one model."""

    validation: Validation
    canary: Canary = Canary()
    review: Review = Review()
    rollout: Rollout = Rollout()
    monitor: Monitor = Monitor()
    serving: Serving = Serving()
    records: Records = Records()

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str = "policy") -> Policy:
        """Parse a policy from plain values.

        Raises:
            InvalidError: names the key, its value and what was expected.
            UnknownError: a check that is not installed.
        """
        return parse_part(cls, dict(content), source)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every default written out; `from_dict` gives the same policy back."""
        return self.model_dump(mode="json")


def load_policy(path: Path) -> Policy:
    """Read and parse a policy file.

    Raises:
        UnavailableError: the file cannot be read.
        InvalidError: it is not TOML, or a key or value is wrong.
        UnknownError: a check that is not installed.
    """
    return Policy.from_dict(read_toml(path), source=path.name)


def policy_digest(policy: Policy) -> str:
    """The digest of the policy's canonical JSON."""
    return digest_of(policy.to_dict())
