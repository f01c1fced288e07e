"""The entries of the fold: one release, one model, and the values that they hold.

Everything below `Release` and `Model` is frozen: an entry is changed by replacing its values, never inside them, so
that a copy of the entry is a copy of its containers only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lineage.bundle_facts import Statement, statement_of
from lineage.lifecycle import State
from lineage.policy import Policy, parse_policy, parse_ruled
from lineage.state.alerts import Alert
from lineage.state.safety import Breaker, Kill, stricter

Json = dict[str, Any]


@dataclass(frozen=True)
class CheckOutcome:
    """How the latest run of a check ended: pass, fail or not_evaluated."""

    status: str
    seq: int
    title: str


@dataclass(frozen=True)
class Step:
    """One fact that moved a release; `share` where it changed the traffic."""

    kind: str
    seq: int
    at: str
    actor: str
    share: float | None = None


@dataclass(frozen=True)
class Review:
    """A review that was requested, and when it is due."""

    requested_at: str
    due_at: str


@dataclass(frozen=True)
class Approval:
    """A decision of a person about a release in review: approve or reject."""

    by: str
    decision: str
    at: str
    reason: str | None
    by_id: str = ""  # what identifies the person


@dataclass(frozen=True)
class Hold:
    """Why a release in flight waits, and since when."""

    why: str
    at: str


@dataclass(kw_only=True)
class ReleaseSummary:
    """What a list of releases shows of one."""

    release: str
    model: str
    number: int
    state: State
    author: str
    author_id: str = ""  # what identifies the person
    digest: str
    policy_digest: str
    trained_at: str
    threshold: float
    family: str
    checks: dict[str, CheckOutcome] = field(default_factory=dict)
    report_digest: str | None = None
    share: float = 0.0
    salt: str | None = None
    control: str | None = None
    canary_started_at: str | None = None
    stepped_at: str | None = None
    review: Review | None = None
    approvals: list[Approval] = field(default_factory=list)
    hold: Hold | None = None
    promoted_at: str | None = None
    steps: list[Step] = field(default_factory=list)


@dataclass(kw_only=True)
class Release(ReleaseSummary):
    """One release of a model."""

    policy: Json
    fingerprint: str
    metrics: dict[str, float]
    dataset: Json
    features: list[str]
    run_id: str
    signature_key: str
    environment_digest: str
    judgement: Json | None = None

    def copy(self) -> Release:
        """A copy that later facts do not change."""
        return replace(self, checks=dict(self.checks), approvals=list(self.approvals), steps=list(self.steps))

    @property
    def statement(self) -> Statement:
        """What its bundle has to say about it."""
        return statement_of(
            model=self.model,
            family=self.family,
            threshold=self.threshold,
            policy_digest=self.policy_digest,
            features=self.features,
        )

    @property
    def terms(self) -> Policy:
        """The policy that the release was trained under.

        Raises:
            InvalidError: it cannot be read.
        """
        return parse_policy(self.policy)

    @property
    def ruled(self) -> Policy:
        """The checks, steps and need for a review in that policy, whatever else it holds.

        Raises:
            InvalidError: one of these cannot be read.
        """
        return parse_ruled(self.policy)

    def next_share(self, section: Literal["canary", "rollout"]) -> float | None:
        """The next step of `canary` or `rollout` in its policy; None after the last one."""
        steps = self.ruled.steps(section)
        return next((step for step in steps if step > self.share), None)


@dataclass(frozen=True)
class Rollback:
    """A rollback under way: `release` steps down for `to`, a release or `baseline`."""

    release: str
    to: str
    at: str
    seq: int


@dataclass(frozen=True)
class Job:
    """A training run that was requested: requested, running, succeeded, failed or stopped."""

    request: int
    status: str
    at: str
    folder: str
    why: str
    author: str
    author_id: str = ""  # what identifies the person
    evidence: int | None = None
    options: Json = field(default_factory=dict)
    job_id: str | None = None
    started_at: str | None = None
    message: str | None = None
    finished_at: str | None = None


@dataclass
class ModelSummary:
    """What a list of models shows of one: which release answers, which is on trial, what is stopped."""

    model: str
    champion: str | None = None
    previous: str | None = None
    challenger: str | None = None
    control: str | None = None
    share: float = 0.0
    salt: str | None = None
    mode: str = "baseline"
    baseline_from: str | None = None
    rollback: Rollback | None = None
    alerts: list[Alert] = field(default_factory=list)
    kill: Kill | None = None
    breakers: dict[str, Breaker] = field(default_factory=dict)  # those open, by replica
    shadow: str | None = None
    releases: int = 0
    etag: int = 0
    last_job: Job | None = None

    def stopped(self, kill_of_all: Kill | None) -> str:
        """What is left to answer: `baseline` or `nothing`; empty where no kill switch is pulled."""
        return stricter([kill_of_all, self.kill])


@dataclass
class Model(ModelSummary):
    """One model."""

    champions: list[str] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)  # of training, that are open
    jobs: dict[str, Job] = field(default_factory=dict)  # by the record of the request
    #: Environments, other than the one of training, in which all golden rows of a release matched.
    reproduced: dict[str, tuple[str, ...]] = field(default_factory=dict)
    last_seq: int = 0

    def copy(self) -> Model:
        """A copy that later facts do not change."""
        return replace(
            self,
            champions=list(self.champions),
            requests=list(self.requests),
            alerts=list(self.alerts),
            jobs=dict(self.jobs),
            breakers=dict(self.breakers),
            reproduced=dict(self.reproduced),
        )

    def alert(self, alert: str, about: str | None) -> Alert | None:
        """The open alert of this kind about this subject."""
        return next((one for one in self.alerts if (one.alert, one.about) == (alert, about)), None)

    def names(self) -> list[str]:
        """The names of its releases, oldest first."""
        return [f"{self.model}@{number}" for number in range(1, self.releases + 1)]
