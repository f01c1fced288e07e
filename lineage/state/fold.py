"""The fold: the state of every model and release, computed from all records in order.

Pure: the same records always give the same state.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lineage.errors import RefusedError
from lineage.facts.eras import LATEST, upcast
from lineage.facts.registry import subject_of
from lineage.lifecycle import BARRED, IN_FLIGHT, State, after
from lineage.state.alerts import closed_by, raised, still_open
from lineage.state.entities import Approval, CheckOutcome, Hold, Job, Model, Release, Review, Rollback, Step
from lineage.state.safety import Kill, broken, switched
from lineage.state.sealed import name_of
from lineage.state.undo import Undo

Record = dict[str, Any]
#: Facts that do not move a release: they leave the ETag as it is, so that a decision on the state before them is valid.
_KEEPS_POSITION = frozenset({"CanaryHeld", "CheckCompleted"})
#: Frequent facts that change nothing in lists of models and releases.
_NOT_LISTED = frozenset({"DecisionsSealed", "RouteApplied", "DatasetPinned"})
_MEASURED = frozenset({"DriftMeasured", "FairnessMeasured"})


@dataclass
class LedgerState:
    """The fold. `apply` takes records in order, exactly once each.

    `era` counts the `RulesActivated` facts; `kill` is the switch of all models, `etag` the newest record about it;
    `changed` is the newest record after which a list of models or releases looks different. `sealed` has the names of
    the segments on record (`lineage.state.sealed`).
    """

    seq: int = 0
    era: int = 1
    changed: int = 0
    etag: int = 0
    kill: Kill | None = None
    models: dict[str, Model] = field(default_factory=dict)
    releases: dict[str, Release] = field(default_factory=dict)
    barred: set[str] = field(default_factory=set)
    sealed: set[int] = field(default_factory=set)
    undo: Undo | None = None

    def begin(self) -> None:
        """Mark the present state; `roll_back` restores it until `settle` is called."""
        self.undo = Undo(self.seq, self.era, self.changed, self.etag, self.kill, set(self.barred))

    def settle(self) -> None:
        """Keep the records applied since `begin`."""
        self.undo = None

    def roll_back(self) -> None:
        """Undo every record applied since `begin`."""
        if self.undo is None:
            return
        self.seq, self.barred = self.undo.seq, self.undo.barred
        self.era, self.changed = self.undo.era, self.undo.changed
        self.etag, self.kill = self.undo.etag, self.undo.kill
        self.sealed -= self.undo.sealed
        self.undo.restore()
        self.undo = None

    def apply(self, record: Record) -> None:
        """Apply the next record.

        Raises:
            RefusedError: it begins an era of rules that this version does not have.
        """
        if self.era < LATEST:
            record = record | {"data": upcast(record["kind"], record["data"], self.era)}
        if self.undo is not None:
            self.undo.keep(self.models, record["model"])
            self.undo.keep(self.releases, record["release"])
        self.seq = record["seq"]
        name, kind = record["model"], record["kind"]
        subject = subject_of(kind)
        if kind == "RulesActivated":
            self._begin_era(record["data"]["era"])
        elif name is None and subject == "one_or_all":
            self.kill, self.etag = switched(self.kill, record), self.seq
            self.changed = self.seq
        elif name is not None and subject != "platform":
            model = self.models.setdefault(name, Model(name))
            model.last_seq = self.seq
            if kind == "DecisionsSealed":
                self._sealed(name_of(name, record["data"]["segment"]))
            if subject in ("release", "one_or_all") and kind not in _KEEPS_POSITION:
                model.etag = self.seq
            if kind == "ModelTrained":
                self._trained(model, record)
            elif subject == "release":
                self._moved(model, self.releases[record["release"]], record)
            elif handler := _MODEL_FACTS.get(kind):
                handler(model, record)
            before = model.alerts
            model.alerts = [alert for alert in before if not closed_by(alert, record)]
            if kind not in _NOT_LISTED and (kind not in _MEASURED or model.alerts != before):
                self.changed = self.seq

    def _sealed(self, name: int) -> None:
        if name not in self.sealed:
            self.sealed.add(name)
            if self.undo is not None:
                self.undo.sealed.add(name)

    def _begin_era(self, era: int) -> None:
        if era > LATEST:
            raise RefusedError(
                f"this ledger is under the rules of era {era}; this version of Plimsoll has them up to era {LATEST}. "
                "Run the version that wrote it, or a later one",
                code="newer_rules",
            )
        self.era = era

    def etag_of(self, model: str | None) -> int | None:
        """The newest record that moved the model, or the switch of all of them; None for a model that is not known."""
        if model is None:
            return self.etag
        known = self.models.get(model)
        return known.etag if known else None

    def next_release(self, model: str) -> str:
        """The name that the model's next trained candidate will get."""
        known = self.models.get(model)
        return f"{model}@{(known.releases if known else 0) + 1}"

    def _trained(self, model: Model, record: Record) -> None:
        model.releases += 1
        model.etag = record["seq"]
        names = Release.__dataclass_fields__.keys() & record["data"].keys()
        self.releases[record["release"]] = Release(
            release=record["release"],
            model=model.model,
            number=model.releases,
            state=State.TRAINED,
            trained_at=record["at"],
            steps=[_step(record)],
            **{name: record["data"][name] for name in names},
        )

    def _moved(self, model: Model, release: Release, record: Record) -> None:
        kind, data = record["kind"], record["data"]
        state = after(release.state, kind, data.get("decision"))
        if state is None:
            raise ValueError(f"record {record['seq']}: {kind} cannot follow in state {release.state}")
        release.state = state
        release.steps.append(_step(record))
        if data.get("judgement"):
            release.judgement = data["judgement"]
        if state in BARRED:
            self.barred.add(release.digest)
        _RELEASE_FACTS.get(kind, _no_change)(model, release, record)
        _settle(model, release, self)

    def to_dict(self) -> dict[str, Any]:
        """JSON form: `{"seq", "era", "etag", "kill", "models", "releases"}`."""
        return {
            "seq": self.seq,
            "era": self.era,
            "etag": self.etag,
            "kill": asdict(self.kill) if self.kill else None,
            "models": {name: asdict(model) for name, model in self.models.items()},
            "releases": {name: asdict(release) for name, release in self.releases.items()},
        }


def _step(record: Record) -> Step:
    return Step(record["kind"], record["seq"], record["at"], record["actor"]["name"], record["data"].get("share"))


def _no_change(model: Model, release: Release, record: Record) -> None:
    """Handler of facts that change nothing but the release's state."""


def _checked(model: Model, release: Release, record: Record) -> None:
    data = record["data"]
    release.checks[data["check"]] = CheckOutcome(data["status"], record["seq"], data["title"])


def _validated(model: Model, release: Release, record: Record) -> None:
    release.report_digest = record["data"]["report_digest"]


def _canary_started(model: Model, release: Release, record: Record) -> None:
    data = record["data"]
    release.share, release.salt, release.control = data["share"], data["salt"], data["control"]
    release.canary_started_at = release.stepped_at = record["at"]
    model.challenger, model.control = release.release, data["control"]
    model.share, model.salt = data["share"], data["salt"]


def _stepped(model: Model, release: Release, record: Record) -> None:
    release.share = model.share = record["data"]["share"]
    release.stepped_at, release.hold = record["at"], None


def _hold(model: Model, release: Release, record: Record) -> None:
    release.hold = Hold(record["data"]["why"], record["at"])


def _review_requested(model: Model, release: Release, record: Record) -> None:
    release.review = Review(record["at"], record["data"]["due_at"])
    release.hold = None


def _review_decided(model: Model, release: Release, record: Record) -> None:
    decision = record["data"]["decision"]
    release.approvals.append(Approval(record["actor"]["name"], decision, record["at"], record["reason"]))


def _shadowed(model: Model, release: Release, record: Record) -> None:
    model.shadow = release.release if record["kind"] == "ShadowStarted" else None


def _promoted(model: Model, release: Release, record: Record) -> None:
    model.champions.append(release.release)
    release.promoted_at, release.hold = record["at"], None


def _rollback_ordered(model: Model, release: Release, record: Record) -> None:
    model.champions.remove(release.release)
    model.rollback = Rollback(release.release, record["data"]["to"], record["at"], record["seq"])
    if record["data"]["to"] == "baseline":
        model.champions.clear()
    model.share = 0.0  # the challenger was judged against the champion that was rolled back


def _rolled_back(model: Model, release: Release, record: Record) -> None:
    here = model.rollback
    if here is not None and here.release == release.release and here.to == "baseline":
        model.rollback = None


def _reinstated(model: Model, release: Release, record: Record) -> None:
    model.rollback = None


def _settle(model: Model, release: Release, state: LedgerState) -> None:
    if release.state not in IN_FLIGHT and model.challenger == release.release:
        model.challenger = model.control = model.salt = None
        model.share = release.share = 0.0
    if model.shadow and (model.shadow == model.challenger or state.releases[model.shadow].digest in state.barred):
        model.shadow = None
    standing = [name for name in model.champions if state.releases[name].digest not in state.barred]
    model.champion = standing[-1] if standing else None
    model.previous = standing[-2] if len(standing) > 1 else None
    model.mode = "normal" if model.champion else "baseline"
    model.baseline_from = model.champion or model.challenger or _standing_by(model, state)
    model.alerts = still_open(model.alerts, model.champion)


def _standing_by(model: Model, state: LedgerState) -> str | None:
    """The release whose baseline answers while there is no champion: the newest registered one that is not barred.

    When all are barred the newest one's baseline answers: it is another model than the one that failed.
    """
    ready = (State.REGISTERED, State.RETIRED)
    names = (name for name in reversed(model.names()) if state.releases[name].state in ready)
    return next(names, model.baseline_from)


def _requested(model: Model, record: Record) -> None:
    model.requests.append(record["seq"])
    job = Job(record["seq"], "requested", record["at"], **record["data"])
    model.jobs[str(record["seq"])] = model.last_job = job


def _job_started(model: Model, record: Record) -> None:
    request, job_id = str(record["data"]["request"]), record["data"]["job_id"]
    _move_job(model, request, status="running", job_id=job_id, started_at=record["at"])


def _move_job(model: Model, request: str, **changes: Any) -> None:
    model.jobs[request] = job = replace(model.jobs[request], **changes)
    if model.last_job is not None and model.last_job.request == job.request:
        model.last_job = job


def _job_finished(model: Model, record: Record) -> None:
    data = record["data"]
    ended = {"status": data["status"], "message": data["message"], "finished_at": record["at"]}
    _move_job(model, str(data["request"]), **ended)
    if data["request"] in model.requests:
        model.requests.remove(data["request"])


def _switched(model: Model, record: Record) -> None:
    model.kill = switched(model.kill, record)


def _broken(model: Model, record: Record) -> None:
    model.breakers = broken(model.breakers, record)


def _alerted(model: Model, record: Record) -> None:
    """List an alert; the same alert about the same subject is listed once, as first raised."""
    alert = raised(record, model.champion)
    if model.alert(alert.alert, alert.about) is None:
        model.alerts.append(alert)


def _reproduced(model: Model, record: Record) -> None:
    data, golden = record["data"], record["data"]["golden"]
    if golden["count"] and golden["matched"] == golden["count"]:
        known = model.reproduced.get(data["release"], ())
        model.reproduced[data["release"]] = tuple(dict.fromkeys((*known, data["environment"])))


_MODEL_FACTS = {
    "EnvironmentReproduced": _reproduced,
    "RetrainRequested": _requested,
    "JobStarted": _job_started,
    "JobFinished": _job_finished,
    "AlertRaised": _alerted,
    "BreakerOpened": _broken,
    "BreakerClosed": _broken,
} | dict.fromkeys(("KillSwitchPulled", "KillReleaseRequested", "KillSwitchReleased"), _switched)
_RELEASE_FACTS = {
    "CheckCompleted": _checked,
    "CandidateValidated": _validated,
    "CandidateRejected": _validated,
    "ShadowStarted": _shadowed,
    "ShadowStopped": _shadowed,
    "CanaryStarted": _canary_started,
    "CanaryStepped": _stepped,
    "CanaryHeld": _hold,
    "ReviewRequested": _review_requested,
    "ReviewDecided": _review_decided,
    "RolloutStepped": _stepped,
    "ReleasePromoted": _promoted,
    "RollbackOrdered": _rollback_ordered,
    "ReleaseRolledBack": _rolled_back,
    "ChampionReinstated": _reinstated,
}
