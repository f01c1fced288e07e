"""Where one release and one model stand: the entries of the fold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from lineage.lifecycle import State
from lineage.state.safety import Breakers, Kill


@dataclass
class Release:
    """One release of a model."""

    release: str
    model: str
    number: int
    state: State
    author: str
    digest: str
    policy: dict[str, Any]
    policy_digest: str
    trained_at: str
    fingerprint: str
    threshold: float
    metrics: dict[str, float]
    family: str
    dataset: dict[str, Any]
    features: list[str]
    run_id: str
    signature_key: str
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    report_digest: str | None = None
    share: float = 0.0
    salt: str | None = None
    control: str | None = None
    canary_started_at: str | None = None
    stepped_at: str | None = None
    review: dict[str, Any] | None = None
    approvals: list[dict[str, Any]] = field(default_factory=list)
    hold: dict[str, Any] | None = None
    judgement: dict[str, Any] | None = None
    promoted_at: str | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)

    def copy(self) -> Release:
        """A release that goes its own way from here."""
        return replace(self, checks=dict(self.checks), approvals=list(self.approvals), steps=list(self.steps))


@dataclass
class Model:
    """One model: who answers, who is on trial, what is asked for."""

    model: str
    champions: list[str] = field(default_factory=list)
    champion: str | None = None
    previous: str | None = None
    challenger: str | None = None
    control: str | None = None
    share: float = 0.0
    salt: str | None = None
    mode: str = "baseline"
    baseline_from: str | None = None
    rollback: dict[str, Any] | None = None
    requests: list[int] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)
    kill: Kill | None = None  # see `switched`; replaced, never changed in place, as are the breakers
    breakers: Breakers = field(default_factory=dict)  # those open, by replica: release, cause, since, times, seq
    shadow: str | None = None
    releases: int = 0
    etag: int = 0
    last_seq: int = 0

    def copy(self) -> Model:
        """A model that goes its own way from here."""
        jobs = {name: dict(job) for name, job in self.jobs.items()}
        lists = (list(self.champions), list(self.requests), list(self.alerts))
        return replace(self, jobs=jobs, champions=lists[0], requests=lists[1], alerts=lists[2])
