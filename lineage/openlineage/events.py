"""OpenLineage events made from facts: training data, training, validation, and use of each release.

Pure: the same records always give the same bytes. Invariants:
- the events of a record depend on that record and those before it only;
- a run id is a UUIDv5 of the ledger (its first record), the namespace, the job and the subject of the run, so that a
  record sent twice is the same run to the receiver;
- `eventTime` is the `at` of a fact; nothing is measured here;
- events hold no reasons and no names of people, except the author of a model as the owner of its training.

Source: the specification 2-0-2 of OpenLineage, its naming rules, and the facets of its Python client 1.54.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from lineage.digest import canonical, digest_of
from lineage.log.index import Records
from lineage.openlineage.facets import (
    PRODUCER,
    Event,
    Json,
    add_assertions,
    check_assertions,
    dataset_name,
    drift_assertions,
    error_facet,
    event_of,
    facet,
    fairness_assertions,
    golden_assertions,
    owner_facet,
    tags_facet,
    without_none,
)

Record = dict[str, Any]
NAMESPACE = "plimsoll"
#: The jobs of a model, each named `<model>.<job>`, and what they do.
JOBS = {
    "retrain": "Answer a request for a new candidate: train, validate, register.",
    "train": "Pin the data, search, fit and bundle a candidate.",
    "validate": "Run every check the policy names on a candidate.",
    "rollout": "Give a release live traffic, from the first share of a canary to all of it.",
    "rollback": "Take the champion out of live traffic at once.",
    "reinstate": "Show that the former champion answers again as it did.",
    "serve": "Answer requests; a run is a sealed segment of decisions.",
    "monitor": "Compare live decisions with what was promised.",
}
_VERDICTS = ("CandidateValidated", "CandidateRejected")
_ENDS = {"succeeded": "COMPLETE", "failed": "FAIL", "stopped": "ABORT"}
_ROOT = uuid.uuid5(uuid.NAMESPACE_URL, PRODUCER)


def encode(event: Event) -> bytes:
    """The event as it is sent: UTF-8 JSON with sorted keys."""
    return canonical(event)


class Translator:
    """Translates the records of one ledger into events.

    Args:
        records: all records of the ledger: events refer to earlier records.
        namespace: namespace of the jobs, and of data sets whose location is not a URI.
    """

    def __init__(self, records: Records, namespace: str = NAMESPACE) -> None:
        self._records, self.namespace = records, namespace
        self._ledger: uuid.UUID | None = None

    def events(self, record: Record) -> list[Event]:
        """The events of a record in the order to send them; often none."""
        make = _EVENTS_BY_KIND.get(record["kind"])
        return list(make(self, record, record["data"])) if make else []

    def run_id(self, model: str, job: str, about: object) -> str:
        """The id of the run of a model's job about a request, a release or a record."""
        if self._ledger is None:
            self._ledger = uuid.uuid5(_ROOT, digest_of(self._records[0]))
        return str(uuid.uuid5(self._ledger, f"{self.namespace} {model}.{job} {about}"))

    def _pinned(self, record: Record, data: Json) -> Iterable[Event]:
        yield event_of("DatasetEvent", record["at"], dataset=self._data(data, data))

    def _job_started(self, record: Record, data: Json) -> Iterable[Event]:
        request = self._before(record, ["RetrainRequested"], after=data["request"] - 1, upto=data["request"])
        owner = owner_facet(request["data"]["author"]) if request else None
        requested_at = facet("1-0-1/NominalTimeRunFacet", nominalStartTime=request["at"]) if request else None
        about = ("retrain", data["request"], {"job_id": data["job_id"]})
        yield self._run("START", record, *about, run={"nominalTime": requested_at}, job={"ownership": owner})

    def _job_finished(self, record: Record, data: Json) -> Iterable[Event]:
        state = _ENDS[data["status"]]
        error = None if state == "COMPLETE" else error_facet(data["message"])
        trained = self._before(record, ["ModelTrained"], model=record["model"], after=data["request"])
        if error and trained and trained["data"].get("request") == data["request"]:
            newest = self._before(record, ["CheckCompleted", *_VERDICTS], release=trained["release"])
            if newest and newest["kind"] not in _VERDICTS:  # the job ended before validation did
                yield self._validation(state, record, trained["release"], error)
        about = ("retrain", data["request"], {"job_id": data["job_id"]})
        yield self._run(state, record, *about, run={"errorMessage": error})

    def _trained(self, record: Record, data: Json) -> Iterable[Event]:
        pin = self._before(record, ["DatasetPinned"], model=record["model"])
        if pin and any(pin["data"][name] != data["dataset"].get(name) for name in ("uri", "version", "digest")):
            pin = None  # of a concurrent run of the same model
        source = self._data(data["dataset"], pin["data"] if pin else None)
        if pin:
            rows = facet("1-0-0/InputStatisticsInputDatasetFacet", rowCount=pin["data"]["rows"])
            source["inputFacets"] = {"inputStatistics": rows}
        made = self._model(record, record["release"], digest=data["digest"])
        settings = {**data["params"], "family": data["family"], "seed": data["seed"], "threshold": data["threshold"]}
        listed = [{"key": key, "value": str(value)} for key, value in sorted(settings.items())]
        given = facet("1-0-0/ExecutionParametersRunFacet", parameters=listed)
        engine = facet("1-1-1/ProcessingEngineRunFacet", name="Plimsoll", version=data["environment_digest"])
        run = {"parent": self._parent(record, data), "processing_engine": engine, "executionParameters": given}
        code = data["code_digest"]
        code = facet("1-1-0/SourceCodeLocationJobFacet", type="digest", url=f"urn:{code}", version=code)
        job = {"ownership": owner_facet(data["author"]), "sourceCodeLocation": code}
        tags = {"mlflow_run_id": data["run_id"], "fingerprint": data["fingerprint"]}
        tags |= {f"metric.{name}": value for name, value in data["metrics"].items()}
        about = (record, "train", record["release"], tags)
        for state, at in (("START", (pin or record)["at"]), ("COMPLETE", record["at"])):
            yield self._run(state, *about, at=at, run=run, job=job, inputs=[source], outputs=[made])

    def _checked(self, record: Record, _: Json) -> Iterable[Event]:
        first = not self._checks(record["release"], record["seq"] - 1)
        yield self._validation("START" if first else "RUNNING", record, record["release"], None)

    def _judged(self, record: Record, data: Json) -> Iterable[Event]:
        release, failed = record["release"], data.get("failed", [])
        if not self._checks(release, record["seq"]):
            yield self._validation("START", record, release, None)
        error = error_facet(f"did not pass: {', '.join(failed)}") if failed else None
        report = self._set(f"{record['model']}.report", "FILE", release, digest=data["report_digest"])
        yield self._validation("FAIL" if failed else "COMPLETE", record, release, error, report)

    def _registered(self, record: Record, data: Json) -> Iterable[Event]:
        tags = {name: data[name] for name in ("digest", "fingerprint", "mlflow_version")}
        yield event_of("DatasetEvent", record["at"], dataset=self._model(record, record["release"], **tags))

    def _rolled_out(self, record: Record, data: Json) -> Iterable[Event]:
        kind, why = record["kind"], data.get("why")
        if kind == "ReviewDecided":
            if data["decision"] == "approve":
                return
            kind, why = "CanaryAborted", "rejected in review"
        state = {"CanaryStarted": "START", "CanaryAborted": "ABORT", "ReleasePromoted": "COMPLETE"}.get(kind, "RUNNING")
        release = self._model(record, record["release"], digest=data.get("digest"))
        add_assertions(release, golden_assertions(data))
        route = self._set(f"{record['model']}.route", "SERVICE", record["release"] if state == "COMPLETE" else None)
        tags = {name: data.get(name) for name in ("share", "control", "replaced")}
        about = (record, "rollout", record["release"], tags)
        run = {"errorMessage": error_facet(why) if state == "ABORT" else None}
        yield self._run(state, *about, run=run, inputs=[release], outputs=[route])

    def _rolled_back(self, record: Record, data: Json) -> Iterable[Event]:
        state = "START" if record["kind"] == "RollbackOrdered" else "COMPLETE"
        route = self._set(f"{record['model']}.route", "SERVICE", data["to"])
        about = ("rollback", record["release"], {"from": record["release"], "to": data["to"]})
        yield self._run(state, record, *about, inputs=[self._model(record, data["to"])], outputs=[route])

    def _reinstated(self, record: Record, data: Json) -> Iterable[Event]:
        release = self._model(record, record["release"])
        add_assertions(release, golden_assertions(data))
        route = self._set(f"{record['model']}.route", "SERVICE", record["release"])
        yield from self._one_fact_run(record, "reinstate", {}, inputs=[release], outputs=[route])

    def _sealed(self, record: Record, data: Json) -> Iterable[Event]:
        model, releases = record["model"], sorted(data["releases"].items())
        segment = self._set(f"{model}.decisions", "FILE", data["segment"], digest=data["digest"], uri=data["uri"])
        rows = data["rows"] + data["outcomes"]  # a segment holds both
        written = facet("1-0-2/OutputStatisticsOutputDatasetFacet", rowCount=rows, fileCount=1)
        segment["outputFacets"] = {"outputStatistics": written}
        answered = self._model(record, releases[0][0] if len(releases) == 1 else None)
        inputs = [*([answered] if releases else []), self._set(f"{model}.route", "SERVICE")]
        span = facet("1-0-1/NominalTimeRunFacet", nominalStartTime=data["from"], nominalEndTime=data["to"])
        tags = {"decisions": data["rows"], "outcomes": data["outcomes"]}
        tags |= {f"answered.{release}": count for release, count in releases}
        yield from self._one_fact_run(
            record, "serve", tags, run={"nominalTime": span}, inputs=inputs, outputs=[segment]
        )

    def _measured(self, record: Record, data: Json) -> Iterable[Event]:
        if data.get("stage") == "validation":  # it is among the checks
            return
        decisions = self._set(f"{record['model']}.decisions", "FILE")
        lines = drift_assertions(data) if record["kind"] == "DriftMeasured" else fairness_assertions(data)
        add_assertions(decisions, lines)
        inputs = [decisions, self._model(record, data["release"])]
        yield from self._one_fact_run(record, "monitor", {"verdict": data["verdict"]}, inputs=inputs)

    def _validation(self, state: str, record: Record, release: str, error: Json | None, *outputs: Json) -> Event:
        """An event of a validation run: a finished run lists all its checks, a running one the newest check."""
        trained = self._before(record, ["ModelTrained"], release=release)
        candidate = self._model(record, release, digest=trained["data"]["digest"] if trained else None)
        ended = state not in ("START", "RUNNING")
        checks = self._checks(release, record["seq"], since=0 if ended else record["seq"] - 1)
        add_assertions(candidate, [line for check in checks for line in check_assertions(check["data"])])
        run = {"parent": self._parent(record, trained["data"] if trained else {}), "errorMessage": error}
        return self._run(state, record, "validate", release, {}, run=run, inputs=[candidate], outputs=outputs)

    def _checks(self, release: str, upto: int, since: int = 0) -> list[Record]:
        return self._records.find(kinds=["CheckCompleted"], release=release, after=since, upto=upto).records

    def _before(self, record: Record, kinds: Sequence[str], **where: Any) -> Record | None:
        """The newest record of these kinds up to this one."""
        found = self._records.find(kinds=kinds, newest_first=True, limit=1, **{"upto": record["seq"]} | where)
        return found.records[0] if found.records else None

    def _one_fact_run(self, record: Record, job: str, tags: Json, **about: Any) -> Iterable[Event]:
        """Start and end of a run that one fact describes completely."""
        for state in ("START", "COMPLETE"):
            yield self._run(state, record, job, record["seq"], tags, **about)

    def _run(self, state: str, record: Record, name: str, about: object, tags: Json, **more: Any) -> Event:
        """An event of a run; `more`: facets in `run` and `job`, `inputs`, `outputs`, and `at` if not the record's."""
        kind = facet("2-0-4/JobTypeJobFacet", processingType="BATCH", integration="PLIMSOLL", jobType=name.upper())
        text = facet("1-1-0/DocumentationJobFacet", description=JOBS[name])
        job = without_none({"jobType": kind, "documentation": text} | more.get("job", {}))
        where = {"seq": record["seq"], "fact": record["kind"]}
        run = without_none({"tags": tags_facet("1-0-0/TagsRunFacet", where | tags)} | more.get("run", {}))
        sets = {side: list(more.get(side, ())) for side in ("inputs", "outputs")}
        event = event_of("RunEvent", str(more.get("at", record["at"])), eventType=state, **sets)
        event["run"] = {"runId": self.run_id(record["model"], name, about), "facets": run}
        return event | {"job": {"namespace": self.namespace, "name": f"{record['model']}.{name}", "facets": job}}

    def _parent(self, record: Record, trained: Json) -> Json | None:
        """The facet of the retraining run that a model was trained in; None without a training request."""
        if trained.get("request") is None:
            return None
        run = {"runId": self.run_id(record["model"], "retrain", trained["request"])}
        parent = {"run": run, "job": {"namespace": self.namespace, "name": f"{record['model']}.retrain"}}
        return facet("1-2-0/ParentRunFacet", **parent, root=parent)

    def _set(self, name: str, kind: str, version: str | None = None, **tags: Any) -> Json:
        facets = {
            "datasetType": facet("1-0-1/DatasetTypeDatasetFacet", datasetType=kind),
            "version": facet("1-0-1/DatasetVersionDatasetFacet", datasetVersion=version) if version else None,
            "tags": tags_facet("1-0-0/TagsDatasetFacet", tags),
        }
        return {"namespace": self.namespace, "name": name, "facets": without_none(facets)}

    def _model(self, record: Record, release: str | None, **tags: Any) -> Json:
        """The bytes of a model; a version is a release, or the baseline that stands in for one."""
        return self._set(f"{record['model']}.model", "MODEL", release, **tags)

    def _data(self, place: Json, pin: Json | None) -> Json:
        """A version of a training table, named by its location (OpenLineage's naming rules), with our name as alias."""
        namespace, name = dataset_name(place["uri"], self.namespace)
        table = self._set(name, "TABLE", str(place["version"]), digest=place["digest"]) | {"namespace": namespace}
        stored = facet("1-0-1/StorageDatasetFacet", storageLayer="delta", fileFormat="parquet")
        facets = table["facets"] | {"storage": stored}
        uri = place["uri"] if urlsplit(place["uri"]).scheme else None
        if pin:
            fields = [{"name": column} for column in pin["columns"]]
            alias = {"namespace": self.namespace, "name": pin["dataset"], "type": "TABLE"}
            facets["schema"] = facet("1-2-0/SchemaDatasetFacet", fields=fields)
            facets["symlinks"] = facet("1-0-1/SymlinksDatasetFacet", identifiers=[alias])
        facets["dataSource"] = facet("1-0-1/DatasourceDatasetFacet", name=pin["dataset"] if pin else namespace, uri=uri)
        return table | {"facets": facets}


_EVENTS_BY_KIND: Mapping[str, Callable[[Translator, Record, Json], Iterable[Event]]] = {
    "DatasetPinned": Translator._pinned,
    "JobStarted": Translator._job_started,
    "JobFinished": Translator._job_finished,
    "ModelTrained": Translator._trained,
    "CheckCompleted": Translator._checked,
    "CandidateValidated": Translator._judged,
    "CandidateRejected": Translator._judged,
    "ReleaseRegistered": Translator._registered,
    "DecisionsSealed": Translator._sealed,
    "DriftMeasured": Translator._measured,
    "FairnessMeasured": Translator._measured,
    "RollbackOrdered": Translator._rolled_back,
    "ReleaseRolledBack": Translator._rolled_back,
    "ChampionReinstated": Translator._reinstated,
} | dict.fromkeys(
    ("CanaryStarted", "CanaryStepped", "CanaryAborted", "ReviewDecided", "RolloutStepped", "ReleasePromoted"),
    Translator._rolled_out,
)
