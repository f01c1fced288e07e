"""A well-formed example of every fact, and a way to bring a release to any state. All values are invented."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from lineage.facts.registry import shape_of
from lineage.ledger import Draft, Ledger, Record
from lineage.lifecycle import State
from lineage.rules.proposal import Actor
from tests.support.accounts import in_era

Json = dict[str, Any]
MODEL = "credit-default"
CONTROLLER = Actor("controller", "service")
#: The controller since era 3.
MACHINE = Actor("controller", "controller", "m-controller")
TRAINER = Actor("trainer", "service")
AUTHOR = Actor("scientist", "scientist")
VALIDATOR = Actor("validator", "validator")
OPERATOR = Actor("operator", "operator")
POLICY: Json = {
    "validation": {"checks": ["beats_baseline", "group_fairness"]},
    "canary": {"steps": [0.1, 0.25]},
    "review": {"required": True, "sla_hours": 24},
    "rollout": {"steps": [0.5, 1.0]},
}
AT = "2026-11-23T10:00:00.000000Z"


class ManualClock:
    """A clock that changes only by `later`."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def later(self, **by: float) -> None:
        self.time += timedelta(**by)


def digest(*parts: object) -> str:
    """A digest derived from the parts."""
    return "sha256:" + hashlib.sha256(repr(parts).encode()).hexdigest()


def judgement(verdict: str = "ADVANCE", share: float = 0.25) -> Json:
    return {"verdict": verdict, "reasons": ["enough was seen"], "share": share, "at": AT, "seconds": 12.5}


_GOLDEN: Json = {"count": 32, "matched": 32, "digest": digest("golden")}
_DATASET: Json = {"uri": "datasets/credit-default", "version": 3, "digest": digest("data")}
#: An example of each kind of fact.
SAMPLES: dict[str, Json] = {
    "DatasetPinned": {"dataset": "uci", "rows": 30_000, "columns": ["LIMIT_BAL", "default"], **_DATASET},
    "ModelTrained": {
        "author": "scientist",
        "request": None,
        "run_id": "4b1c",
        "family": "boosted_trees",
        "params": {"max_depth": 4},
        "metrics": {"auc": 0.78},
        "dataset": _DATASET,
        "digest": digest(MODEL, 1),
        "signature_key": digest("key"),
        "code_digest": digest("code"),
        "environment_digest": digest("environment"),
        "seed": 7,
        "policy": POLICY,
        "policy_digest": digest("policy"),
        "features": ["LIMIT_BAL"],
        "threshold": 0.31,
        "seconds": 12.5,
        "fingerprint": digest("fingerprint"),
    },
    "CheckCompleted": {
        "check": "beats_baseline",
        "code": "PLM-1",
        "title": "Beats the baseline",
        "status": "pass",
        "findings": [{"name": "difference of AUC", "observed": 0.02, "limit": 0.0, "relation": ">=", "ok": True}],
        "policy_digest": digest("policy"),
        "seconds": 0.5,
    },
    "CandidateValidated": {"checks": ["beats_baseline", "group_fairness"], "report_digest": digest("report")},
    "CandidateRejected": {"failed": ["group_fairness"], "report_digest": digest("report")},
    "ReleaseRegistered": {
        "digest": digest(MODEL, 1),
        "mlflow_version": "1",
        "fingerprint": digest("fingerprint"),
    },
    "CanaryStarted": {"share": 0.1, "salt": "0123456789abcdef", "control": "baseline"},
    "CanaryStepped": {"share": 0.25, "judgement": judgement()},
    "CanaryHeld": {"why": "too few subjects", "judgement": judgement("HOLD")},
    "CanaryAborted": {"why": "twice the wrong decisions", "judgement": judgement("ABORT")},
    "ReviewRequested": {"judgement": judgement(), "due_at": AT},
    "ReviewDecided": {"decision": "approve", "digest": digest(MODEL, 1)},
    "RolloutStepped": {"share": 0.5, "judgement": judgement()},
    "ReleasePromoted": {"digest": digest(MODEL, 1), "replaced": None, "golden": _GOLDEN, "judgement": None},
    "ChampionRetired": {"replaced_by": "credit-default@2"},
    "DecisionsSealed": {
        "segment": "20261123T100000-0001",
        "uri": "decisions/credit-default/20261123T100000-0001.parquet",
        "digest": digest("segment"),
        "rows": 100,
        "outcomes": 40,
        "from": AT,
        "to": AT,
        "releases": {"credit-default@1": 100},
        "answers": [{"writer": "a1b2c3~0a1b2c3d", "first": 1, "last": 100, "count": 100}],
    },
    "AnswersClosed": {"writer": "a1b2c3~0a1b2c3d", "answers": {"credit-default": 100}},
    "DriftMeasured": {
        "release": "credit-default@1",
        "window": {"rows": 600, "from": AT, "to": AT},
        "features": [{"feature": "PAY_0", "score": 0.4, "method": "PSI", "limit": 0.1, "drifted": True}],
        "share_drifted": 1.0,
        "limit": 0.3,
        "verdict": "drift",
        "report_digest": None,
    },
    "FairnessMeasured": {
        "release": "credit-default@1",
        "stage": "live",
        "attribute": "SEX",
        "groups": [{"group": "1", "n": 300, "favourable_rate": 0.7, "interval": [0.6, 0.8]}],
        "ratio": 0.9,
        "ratio_interval": [0.85, 0.95],
        "limit": 0.8,
        "verdict": "ok",
        "erased": 0,
    },
    "AlertClosed": {"alert": "mlflow_aliases", "about": None},
    "EnvironmentReproduced": {
        "release": "credit-default@1",
        "digest": digest(MODEL, 1),
        "trained_in": digest("environment"),
        "environment": digest("another environment"),
        "golden": _GOLDEN,
    },
    "RulesActivated": {"era": 2, "digest": digest("rules"), "software": "plimsoll 0.2.0"},
    "AlertRaised": {
        "release": None,
        "alert": "drift",
        "about": "credit-default@1",
        "severity": "ticket",
        "summary": "1 of 1 features drifted",
        "evidence": 12,
    },
    "RetrainRequested": {
        "folder": "examples/credit_default",
        "why": "drift",
        "author": "scientist",
        "evidence": None,
        "options": {"trials": 4},
    },
    "RollbackOrdered": {"to": "baseline"},
    "ReleaseRolledBack": {"to": "baseline", "milliseconds": 31.5, "replicas": 2},
    "ChampionReinstated": {"golden": _GOLDEN, "milliseconds": 80.0},
    "UnsafeUsed": {"what": "plain_http", "detail": "tokens pass in clear text"},
    "KeyRotated": {
        "key": "bundle",
        "name": None,
        "old": {"id": digest("key"), "public": "-----BEGIN PUBLIC KEY-----"},
        "new": {"id": digest("another key"), "public": "-----BEGIN PUBLIC KEY-----"},
        "overlap_seconds": 0,
    },
    "KeyRevoked": {"key": "bundle", "name": None, "id": digest("key"), "from_record": 1},
    "WitnessAway": {"since": AT, "cosigned": 40, "at_opening": False, "why": "no answer"},
    "WitnessBack": {"since": AT, "cosigned": 42},
    "LedgerOpened": {"records": 0, "torn_bytes": 0, "signing_key": digest("key")},
    "AccountRequested": {
        "change": "add",
        "account": "p-5f0c",
        "name": "r.okafor",
        "kind": "person",
        "roles": ["validator"],
        "identity": None,
    },
    "AccountRequestWithdrawn": {"requested": 12},
    "AccountAdded": {
        "account": "auditor",
        "role": "auditor",
        "name": "auditor",
        "kind": "person",
        "roles": ["auditor"],
        "identity": None,
        "bootstrap": True,
        "requested": None,
    },
    "RolesChanged": {"account": "auditor", "roles": ["auditor"], "requested": None},
    "AccountDisabled": {"account": "auditor"},
    "AccountEnabled": {"account": "auditor", "requested": 12},
    "AccountRecertified": {"account": "auditor", "roles": ["auditor"]},
    "AccountRecovered": {"account": "p-5f0c", "name": "r.okafor"},
    "RecoveryConfirmed": {"recovered": 12},
    "PasswordReset": {"account": "auditor", "requested": None},
    "PasswordChosen": {"account": "auditor"},
    "SignedIn": {"account": "auditor", "method": "password"},
    "SignInsFailed": {
        "since": AT,
        "until": AT,
        "failed": 3,
        "turned_away": 1,
        "sources": {"127.0.0.1": 4},
        "accounts": {"auditor": 3},
    },
    "ActionRefused": {"attempted": "ReviewDecided credit-default@1", "code": "four_eyes", "message": "no"},
    "ControllerStarted": {"replicas": 2},
    "JobStarted": {"request": 1, "job_id": "train-1"},
    "JobFinished": {"request": 1, "job_id": "train-1", "status": "failed", "message": "out of memory"},
    "RouteApplied": {
        "version": 4,
        "champion": "credit-default@1",
        "challenger": None,
        "share": 0.0,
        "killed": "",
        "shadow": None,
        "replicas": 2,
        "milliseconds": 17.0,
    },
    "KillSwitchPulled": {"answer": "baseline"},
    "KillReleaseRequested": {"pulled": 12},
    "KillSwitchReleased": {"pulled": 12, "requested": 13},
    "BreakerOpened": {
        "release": "credit-default@1",
        "replica": "a1b2c3",
        "cause": "constant_scores",
        "evidence": {"rows": 50, "score": 0.5},
        "since": AT,
        "times": 1,
    },
    "BreakerClosed": {
        "release": "credit-default@1",
        "replica": "a1b2c3",
        "cause": "trial passed",
        "seconds": 12.5,
        "answers": 340,
    },
    "ShadowStarted": {},
    "ShadowStopped": {"code": None},
    "HoldPlaced": {"commitment": "5f" * 32, "by": "auditor", "role": "auditor"},
    "HoldReleased": {"commitment": "5f" * 32, "placed": 12, "by": "auditor", "role": "auditor"},
    "SubjectErased": {
        "commitment": "5f" * 32,
        "ground": "GDPR Art. 17(1)",
        "by": "operator",
        "role": "operator",
        "decisions": 3,
        "segments": 2,
        "plain": 0,
        "datasets": 1,
        "releases": 2,
    },
    "PersonalDataRead": {
        "what": "decision",
        "commitment": "5f" * 32,
        "decision_ids": ["3f2a"],
        "count": 1,
        "fields": "shown",
    },
}


#: Fields of the examples that a kind had in earlier eras only.
_FORMER = {"AccountAdded": {"role"}}


def sample(kind: str, /, **changes: Any) -> Json:
    """A copy of the example in its present shape, with some values changed."""
    known = {name: value for name, value in SAMPLES[kind].items() if name not in _FORMER.get(kind, ())}
    return deepcopy(known) | changes


def sample_of(era: int, kind: str, /, **changes: Any) -> Json:
    """As `sample`, in the shape that the kind had in that era."""
    fields = shape_of(kind, era).model_fields
    known = {field.alias or name for name, field in fields.items()}
    return {
        name: value for name, value in (deepcopy(SAMPLES[kind]) | changes).items() if name in known or name in changes
    }


def record_of(kind: str, **changes: Any) -> Record:
    """The example as a stored record."""
    about = {"model": MODEL, "release": f"{MODEL}@1", "reason": None, "key": None, "prev": "0" * 64}
    return {"seq": 1, "at": AT, "kind": kind, "actor": {"name": "controller", "role": "service"}, **about} | {
        "data": sample(kind, **changes)
    }


class FactWriter:
    """Appends facts as the platform does, to bring releases into any state."""

    def __init__(self, ledger: Ledger, model: str = MODEL, policy: Json = POLICY) -> None:
        self.ledger, self.model, self.policy = ledger, model, policy
        self.made = 0

    def record(
        self,
        kind: str,
        release: str | None = None,
        actor: Actor = CONTROLLER,
        reason: str | None = "because",
        /,
        **changes: Any,
    ) -> Record:
        if kind == "DecisionsSealed":
            changes = self._segment(**changes)
        data = sample_of(self.ledger.state.era, kind, **changes)
        draft = Draft(kind, in_era(self.ledger.state, kind, actor), data, self.model, release, reason)
        return self.ledger.append(draft)

    def _segment(self, **changes: Any) -> Json:
        """A name that no segment has, and where the file would be."""
        name = changes.setdefault("segment", f"s{len(self.ledger.records) + 1:06d}")
        return {"uri": f"decisions/{self.model}/{name}.parquet"} | changes

    def digest(self, release: str) -> str:
        return self.ledger.state.releases[release].digest

    def train(self, **changes: Any) -> str:
        self.made += 1
        given = {"digest": digest(self.model, self.made), "policy": self.policy} | changes
        return str(self.record("ModelTrained", **given)["release"])

    def check(self, release: str, status: str = "pass") -> None:
        for name in self.policy["validation"]["checks"]:
            self.record("CheckCompleted", release, check=name, status=status)

    def register(self) -> str:
        release = self.train()
        self.check(release)
        self.record("CandidateValidated", release)
        self.record("ReleaseRegistered", release, digest=self.digest(release))
        return release

    def canary(self, release: str) -> str:
        control = self.ledger.state.models[self.model].champion or "baseline"
        self.record("CanaryStarted", release, OPERATOR, control=control)
        return release

    def to_review(self, release: str) -> str:
        self.record("CanaryStepped", release)
        self.record("ReviewRequested", release)
        return release

    def approve(self, release: str) -> str:
        self.record("ReviewDecided", release, VALIDATOR, digest=self.digest(release))
        return release

    def rollout(self, release: str) -> str:
        self.record("RolloutStepped", release, OPERATOR)
        return release

    def promote(self, release: str) -> str:
        self.record("RolloutStepped", release, share=1.0)
        replaced = self.ledger.state.models[self.model].champion
        self.record("ReleasePromoted", release, digest=self.digest(release), replaced=replaced)
        if replaced:
            self.record("ChampionRetired", replaced, replaced_by=release)
        return release

    def champion(self) -> str:
        release = self.canary(self.register())
        return self.promote(self.rollout(self.approve(self.to_review(release))))

    def bring(self, state: State) -> str:
        """A release in this state, by the shortest way."""
        match state:
            case State.TRAINED:
                return self.train()
            case State.REJECTED:
                release = self.train()
                self.check(release, "fail")
                self.record("CandidateRejected", release)
                return release
            case State.VALIDATED:
                release = self.train()
                self.check(release)
                self.record("CandidateValidated", release)
                return release
            case State.REGISTERED:
                return self.register()
            case State.CANARY:
                return self.canary(self.register())
            case State.REVIEW:
                return self.to_review(self.canary(self.register()))
            case State.APPROVED:
                return self.approve(self.bring(State.REVIEW))
            case State.ROLLOUT:
                return self.rollout(self.bring(State.APPROVED))
            case State.CHAMPION:
                return self.champion()
            case State.RETIRED:
                release = self.champion()
                self.champion()
                return release
            case State.QUARANTINED:
                release = self.bring(State.CANARY)
                self.record("CanaryAborted", release)
                return release
            case State.ROLLING_BACK:
                release = self.champion()
                self.record("RollbackOrdered", release, OPERATOR)
                return release
            case State.ROLLED_BACK:
                release = self.bring(State.ROLLING_BACK)
                self.record("ReleaseRolledBack", release)
                return release
