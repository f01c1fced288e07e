"""The fold: the state of every model and release, computed from all records in order.

Pure: the same records always give the same state.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lineage.errors import RefusedError
from lineage.facts.eras import LATEST, upcast
from lineage.facts.registry import subject_of
from lineage.lifecycle import BARRED, IN_FLIGHT, State, after
from lineage.state.alerts import closed_by, raised, still_open
from lineage.state.entities import Job, Model, Release
from lineage.state.jobs import job_finished, job_started
from lineage.state.keys import Away, KeyRing, witness_after
from lineage.state.people import People, after_fact, person_of
from lineage.state.release_moves import move_release, step_of
from lineage.state.safety import Kill, broken, switched
from lineage.state.sealed import name_of
from lineage.state.undo import Undo

Record = dict[str, Any]
#: Facts that do not move a release: they leave the ETag as it is, so that a decision on the state before them is valid.
_KEEPS_POSITION = frozenset({"CanaryHeld", "CheckCompleted"})
#: Frequent facts that change nothing in lists of models and releases.
_NOT_LISTED = frozenset({"DecisionsSealed", "RouteApplied", "DatasetPinned"})
_KEY_FACTS = frozenset({"KeyRotated", "KeyRevoked"})
_WITNESS_FACTS = frozenset({"WitnessAway", "WitnessBack"})
#: From this era on a fact about one release bars no bytes that another one carries traffic with.
_BARS_ONE_RELEASE = 3
_MEASURED = frozenset({"DriftMeasured", "FairnessMeasured"})


@dataclass
class LedgerState:
    """The fold. `apply` takes records in order, exactly once each.

    `era` counts the `RulesActivated` facts; `kill` is the switch of all models, `etag` the newest record about it;
    `people` are the accounts, `keys` the eras of keys; `away` says that the witness does not answer; `digests` are the
    releases with each digest, oldest first: one since era 3, earlier ones may share it; `sealed` the names of the
    segments on record; `changed` is the newest record after which a list of models or releases looks different.
    """

    seq: int = 0
    era: int = 1
    changed: int = 0
    etag: int = 0
    kill: Kill | None = None
    people: People = field(default_factory=People)
    models: dict[str, Model] = field(default_factory=dict)
    releases: dict[str, Release] = field(default_factory=dict)
    barred: set[str] = field(default_factory=set)
    keys: KeyRing = field(default_factory=KeyRing)
    away: Away | None = None
    digests: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sealed: set[int] = field(default_factory=set)
    undo: Undo | None = None

    def begin(self) -> None:
        """Mark the present state; `roll_back` restores it until `settle` is called."""
        self.undo = Undo(self.seq, self.era, self.changed, self.etag, self.kill, self.people, set(self.barred))
        self.undo.keys, self.undo.away = self.keys, self.away

    def settle(self) -> None:
        """Keep the records applied since `begin`."""
        self.undo = None

    def roll_back(self) -> None:
        """Undo every record applied since `begin`."""
        if self.undo is None:
            return
        self.seq, self.barred = self.undo.seq, self.undo.barred
        self.era, self.changed = self.undo.era, self.undo.changed
        self.etag, self.kill, self.people = self.undo.etag, self.undo.kill, self.undo.people
        self.keys, self.away = self.undo.keys, self.undo.away
        self.sealed -= self.undo.sealed
        self.undo.restore()
        for digest, names in self.undo.digests.items():
            self.digests[digest] = names
            if not names:
                del self.digests[digest]
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
        elif kind in _KEY_FACTS:
            self.keys = self.keys.after(record)
        elif kind in _WITNESS_FACTS:
            self.away, self.changed = witness_after(record), self.seq
        elif name is None and subject == "one_or_all":
            self.kill, self.etag = switched(self.kill, record), self.seq
            self.changed = self.seq
        elif subject == "platform":
            self.people = after_fact(self.people, record)
        elif name is not None:
            model = self.models.setdefault(name, Model(name))
            model.last_seq = self.seq
            if kind == "DecisionsSealed":
                self._sealed(name_of(name, record["data"]["segment"]))
            if subject in ("release", "one_or_all") and kind not in _KEEPS_POSITION:
                model.etag = self.seq
            if kind == "ModelTrained":
                self._trained(model, record)
            elif kind == "RetrainRequested":
                self._requested(model, record)
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
        digest = record["data"]["digest"]
        known = self.digests.get(digest, ())
        if self.undo is not None:
            self.undo.digests.setdefault(digest, known)
        self.digests[digest] = (*known, record["release"])
        names = Release.__dataclass_fields__.keys() & record["data"].keys()
        self.releases[record["release"]] = Release(
            release=record["release"],
            model=model.model,
            number=model.releases,
            state=State.TRAINED,
            trained_at=record["at"],
            author_id=self._author_of(model, record["data"]),
            steps=[step_of(record)],
            **{name: record["data"][name] for name in names},
        )

    def _author_of(self, model: Model, data: dict[str, Any]) -> str:
        job = model.jobs.get(str(data["request"]))
        return job.author_id if job is not None else self._id_of(data["author"])

    def _requested(self, model: Model, record: Record) -> None:
        author = record["data"]["author"]
        own = author == record["actor"]["name"]  # a service requests in the name of a release's author
        author_id = person_of(record) if own else self._id_of(author)
        model.requests.append(record["seq"])
        job = Job(record["seq"], "requested", record["at"], author_id=author_id, **record["data"])
        model.jobs[str(record["seq"])] = model.last_job = job

    def _id_of(self, name: str) -> str:
        known = self.people.named(name)
        return known.id if known is not None else name

    def _moved(self, model: Model, release: Release, record: Record) -> None:
        kind, data = record["kind"], record["data"]
        state = after(release.state, kind, data.get("decision"))
        if state is None:
            raise ValueError(f"record {record['seq']}: {kind} cannot follow in state {release.state}")
        release.state = state
        release.steps.append(step_of(record))
        if data.get("judgement"):
            release.judgement = data["judgement"]
        if state in BARRED:
            self.bar(release.digest, release.release)
        move_release(model, release, record)
        _settle(model, release, self)

    def bar(self, digest: str, release: str) -> None:
        """Bar the bytes of a release that was rejected, quarantined or rolled back.

        Since era 3 this takes no other release out of traffic: where one of an earlier era has the same bytes and
        answers or stands by, only `release` itself ends.
        """
        others = (name for name in self.digests.get(digest, ()) if name != release)
        if self.era < _BARS_ONE_RELEASE or not any(self._answers_or_stands_by(name) for name in others):
            self.barred.add(digest)

    def _answers_or_stands_by(self, name: str) -> bool:
        model = self.models[self.releases[name].model]
        return name in (*model.champions, model.challenger, model.shadow)

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
    "JobStarted": job_started,
    "JobFinished": job_finished,
    "AlertRaised": _alerted,
    "BreakerOpened": _broken,
    "BreakerClosed": _broken,
} | dict.fromkeys(("KillSwitchPulled", "KillReleaseRequested", "KillSwitchReleased"), _switched)
