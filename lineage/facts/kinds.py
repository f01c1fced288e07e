"""Kinds of facts about models, releases and the platform: the fields that each has.

A fact is never edited. Constants that moved a verdict are part of the fact, so that it can be read on its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from lineage.facts.base import Dataset, Fact, Golden, Json, ModelFact, PlatformFact, Share, Uri


class DatasetPinned(ModelFact):
    """A training data set was fixed by version and content digest."""

    dataset: str
    uri: Uri
    version: int = Field(ge=0)
    digest: str
    rows: int = Field(ge=1)
    columns: list[str]


class ModelTrained(ModelFact):
    """A candidate was trained; the ledger gives it the model's next release number."""

    author: str = Field(min_length=1)
    request: int | None = None
    run_id: str
    family: str
    params: Json
    metrics: dict[str, float]
    dataset: Dataset
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    signature_key: str
    code_digest: str
    environment_digest: str
    seed: int
    policy: Json
    policy_digest: str
    features: list[str] = Field(min_length=1)
    threshold: float = Field(ge=0, le=1)
    seconds: float = Field(ge=0)
    fingerprint: str


class CheckCompleted(Fact):
    """A validator ran on the candidate, with this result and these findings."""

    check: str
    code: str
    title: str
    status: Literal["pass", "fail", "not_evaluated"]
    findings: list[Json]
    policy_digest: str
    seconds: float = Field(ge=0)


class CandidateValidated(Fact):
    """Every check the policy names has passed."""

    checks: list[str] = Field(min_length=1)
    report_digest: str


class CandidateRejected(Fact):
    """At least one check did not pass; the candidate goes no further."""

    failed: list[str] = Field(min_length=1)
    report_digest: str


class ReleaseRegistered(Fact):
    """The candidate is a release: its bytes, signature and fingerprint are fixed."""

    digest: str
    mlflow_version: str
    fingerprint: str


class CanaryStarted(Fact):
    """A share of live traffic goes to the release."""

    share: Share = Field(gt=0, le=1)
    salt: str = Field(min_length=8)
    control: str


class CanaryStepped(Fact):
    """The judge advanced the canary to its next, larger share."""

    share: Share = Field(gt=0, le=1)
    judgement: Json


class CanaryHeld(Fact):
    """The judge holds the canary at its share, with the reason."""

    why: str
    judgement: Json


class CanaryAborted(Fact):
    """All traffic is back with the champion; the release is quarantined."""

    why: str
    judgement: Json | None = None


class ReviewRequested(Fact):
    """The canary's evidence suffices; a second person has to decide."""

    judgement: Json
    due_at: str


class ReviewDecided(Fact):
    """A person approved or rejected the release."""

    decision: Literal["approve", "reject"]
    digest: str


class RolloutStepped(Fact):
    """The approved release takes a larger share of live traffic."""

    share: Share = Field(gt=0, le=1)
    judgement: Json | None = None


class ReleasePromoted(Fact):
    """The release is the champion and answers all ordinary traffic."""

    digest: str
    replaced: str | None
    golden: Golden
    judgement: Json | None = None


class ChampionRetired(Fact):
    """The former champion stands by as the target of a rollback."""

    replaced_by: str


class AnswerRange(BaseModel):
    """Answers `first` to `last` of a gateway replica's writer are in the segment, `count` of them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    writer: str = Field(min_length=1, max_length=200)
    first: int = Field(ge=1)
    last: int = Field(ge=1)
    count: int = Field(ge=1)


class DecisionsSealed(ModelFact):
    """Answered requests were written to a segment whose digest is hereby on record."""

    segment: str
    uri: Uri
    digest: str
    rows: int = Field(ge=0)
    outcomes: int = Field(ge=0)
    from_: str = Field(alias="from")
    to: str
    releases: dict[str, int]
    answers: list[AnswerRange] | None = None  # None: from before answers were numbered


class AnswersClosed(PlatformFact):
    """A gateway replica is gone: the number of the last answer that it had reported, by model."""

    introduced = 3
    writer: str = Field(min_length=1, max_length=200)
    answers: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)


class DriftMeasured(ModelFact):
    """Live inputs were compared with the release's reference."""

    release: str
    window: Json
    features: list[Json]
    share_drifted: float | None
    limit: float
    verdict: Literal["ok", "drift", "not_enough_data"]
    report_digest: str | None = None


class FairnessMeasured(ModelFact):
    """Favourable rates of groups were compared."""

    release: str
    stage: Literal["validation", "live"]
    attribute: str
    groups: list[Json]
    ratio: float | None
    ratio_interval: list[float] | None
    limit: float
    verdict: Literal["ok", "breach", "not_enough_data"]
    erased: int = Field(default=0, ge=0)  # decisions passed over because their person was erased


class AlertRaised(ModelFact):
    """A condition that a person should look at; `lineage.state.alerts` has what closes each kind of alert."""

    alert: str
    about: str | None = None  # a release or an attribute: the same alert about the same subject is raised once
    release: str | None = None  # the release that it concerns, where the subject is not a release
    severity: Literal["page", "ticket"]
    summary: str
    evidence: int | None = None


class AlertClosed(ModelFact):
    """The cause of an alert is gone; only for alerts that no measurement and no proof closes."""

    introduced = 2
    alert: str
    about: str | None = None


class RetrainRequested(ModelFact):
    """A training run was requested."""

    folder: str = Field(min_length=1)
    why: str
    author: str
    evidence: int | None = None
    options: Json = Field(default_factory=dict)


class RollbackOrdered(Fact):
    """The champion is taken out of traffic at once."""

    to: str


class ReleaseRolledBack(Fact):
    """No replica answers with the release any more."""

    to: str
    milliseconds: float = Field(ge=0)
    replicas: int = Field(ge=1)


class ChampionReinstated(Fact):
    """The previous champion answers on every replica, and its golden vectors came back."""

    golden: Golden
    milliseconds: float = Field(ge=0)


class EnvironmentReproduced(ModelFact):
    """Golden rows of a release were answered again in another environment than the one it was trained in."""

    introduced = 2
    release: str
    digest: str
    trained_in: str
    environment: str
    golden: Golden


class RulesActivated(PlatformFact):
    """The rules and kinds of facts of an era are in force from here on."""

    era: int = Field(ge=2)
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    software: str


class LedgerOpened(PlatformFact):
    """The ledger service began to write."""

    records: int = Field(ge=0)
    torn_bytes: int = Field(ge=0)
    signing_key: str


class ActionRefused(PlatformFact):
    """A control refused an action."""

    attempted: str
    code: str
    message: str


class ControllerStarted(PlatformFact):
    """A controller took over; its epoch is the sequence number of this fact."""

    replicas: int = Field(ge=0)


class JobStarted(ModelFact):
    """A requested training run was submitted to Ray."""

    request: int
    job_id: str


class JobFinished(ModelFact):
    """A training run ended."""

    request: int
    job_id: str
    status: Literal["succeeded", "failed", "stopped"]
    message: str


class RouteApplied(ModelFact):
    """Every gateway replica has acknowledged a route."""

    version: int = Field(ge=0)
    champion: str | None
    challenger: str | None
    share: Share = Field(ge=0, le=1)
    killed: Literal["", "baseline", "nothing"] = ""
    shadow: str | None = None
    replicas: int = Field(ge=0)
    milliseconds: float = Field(ge=0)
