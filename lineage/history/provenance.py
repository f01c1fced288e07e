"""Provenance of releases, data sets and models as a graph made from records. Pure.

dataset → run → artefact → release → rollout → segment      derivation
request → run    check, report, approval → release          request and evidence
rollout → rollback                                          end
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lineage.errors import InvalidError, UnknownError
from lineage.lifecycle import State, after

Record = dict[str, Any]
Node = dict[str, Any]
Edge = dict[str, str]
Graph = dict[str, list[Any]]
#: Kinds of facts that have a place in the graph.
GRAPH_KINDS = (
    *("DatasetPinned", "RetrainRequested", "ModelTrained", "CheckCompleted", "CandidateValidated", "CandidateRejected"),
    *("ReleaseRegistered", "CanaryStarted", "CanaryStepped", "CanaryAborted", "ReviewRequested", "ReviewDecided"),
    *("RolloutStepped", "ReleasePromoted", "ChampionRetired", "RollbackOrdered", "ReleaseRolledBack"),
    *("ChampionReinstated", "DecisionsSealed"),
)
_MOST_SEGMENTS = 100


def graph(
    records: Iterable[Record],
    *,
    release: str | None = None,
    dataset_digest: str | None = None,
    model: str | None = None,
    most_segments: int = _MOST_SEGMENTS,
) -> Graph:
    """The graph before and after a release, after a data set, or of a whole model.

    Args:
        records: in order; all, or at least those of kinds `GRAPH_KINDS` about the models concerned.
        release, dataset_digest, model: exactly one of them.
        most_segments: the newest segments of each rollout with a node each; earlier ones share one node with counts.

    Returns:
        `nodes`: `{"id", "kind", "label", "at", "seq", "model"}` and further fields of the kind (a digest, a state);
        `edges`: `{"from", "to", "kind"}`. Both in the order of the records.

    Raises:
        InvalidError: not exactly one of the three.
        UnknownError: nothing on record has that name or digest.
    """
    requested = {"release": release, "dataset": dataset_digest, "model": model}
    given = {name: value for name, value in requested.items() if value is not None}
    if len(given) != 1:
        raise InvalidError("name one release, one data set by its digest, or one model", field="release")
    ((name, value),) = given.items()
    whole = _WholeGraph(most_segments)
    for record in records:
        if record["kind"] in GRAPH_KINDS and (model is None or record["model"] == model):
            whole.add(record)
    whole.add_segments()
    if name == "model":
        chosen = set(whole.nodes)
    else:
        start = f"{name}:{value}"
        chosen = whole.descendants(start) | (whole.ancestors(start) if name == "release" else set())
        chosen |= whole.evidence(chosen)
        chosen &= whole.nodes.keys()
    if not chosen:
        raise UnknownError(f"nothing is on record about {name} {value!r:.120}", field=name)
    return whole.part(chosen)


@dataclass
class _WholeGraph:
    """The graph of all records added."""

    most_segments: int
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], str] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    rollouts: dict[str, str] = field(default_factory=dict)
    segments: dict[str, list[Record]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Add the next record."""
        kind = record["kind"]
        if kind == "ModelTrained":
            self._trained(record)
        elif kind == "DatasetPinned":
            self._dataset(record, record["data"])
        elif kind == "RetrainRequested":
            label = f"asked for by {record['actor']['name']}: {record['data']['why']}"
            self._node("request", str(record["seq"]), label, record)
        elif kind == "DecisionsSealed":
            for release in record["data"]["releases"]:
                source = self.rollouts.get(release, f"release:{release}")
                self.segments.setdefault(source, []).append(record)
        elif f"release:{record['release']}" in self.nodes:
            self._moved(record)

    def _trained(self, record: Record) -> None:
        data, release = record["data"], record["release"]
        dataset = self._dataset(record, data["dataset"])
        label = f"{data['family']}, run {data['run_id']}, by {data['author']}"
        run = self._node("run", str(record["seq"]), label, record, run_id=data["run_id"], author=data["author"])
        made = self._node("artefact", data["digest"], _short(data["digest"]), record, digest=data["digest"])
        named = self._node("release", release, release, record, digest=data["digest"], state=str(State.TRAINED))
        self.states[release] = State.TRAINED
        if data.get("request") is not None:
            self._edge(f"request:{data['request']}", run, "asked_for")
        self._edge(dataset, run, "trained")
        self._edge(run, made, "made")
        self._edge(made, named, "is")

    def _dataset(self, record: Record, data: dict[str, Any]) -> str:
        label = f"{data.get('dataset') or data['uri']}, version {data['version']}"
        detail = {name: data.get(name) for name in ("uri", "version", "digest", "rows")}
        return self._node("dataset", data["digest"], label, record, **detail)

    def _moved(self, record: Record) -> None:
        kind, data, release = record["kind"], record["data"], record["release"]
        named = f"release:{release}"
        state = after(self.states[release], kind, data.get("decision"))
        if state is not None:
            self.states[release] = state
            self.nodes[named]["state"] = str(state)
        if kind == "CheckCompleted":
            label = f"{data['title']}: {data['status']}"
            self._edge(self._node("check", str(record["seq"]), label, record, status=data["status"]), named, "checked")
        elif kind in ("CandidateValidated", "CandidateRejected"):
            digest = data["report_digest"]
            self._edge(self._node("report", digest, _short(digest), record, digest=digest), named, "reports_on")
        elif kind == "ReviewDecided":
            label = f"{data['decision']} by {record['actor']['name']}"
            detail = {"decision": data["decision"], "by": record["actor"]["name"], "reason": record["reason"]}
            self._edge(self._node("approval", str(record["seq"]), label, record, **detail), named, "decided_on")
        elif kind == "CanaryStarted":
            rollout = self._node("rollout", str(record["seq"]), f"canary at {data['share']:.0%}", record)
            self.rollouts[release] = rollout
            self._edge(named, rollout, "carried_by")
        else:
            self._carried(record)

    def _carried(self, record: Record) -> None:
        """Update the rollout node of a release by a fact about its live traffic."""
        kind, data, rollout = record["kind"], record["data"], self.rollouts.get(record["release"])
        if rollout is None:
            return
        if kind == "RollbackOrdered":
            label = f"rolled back to {data['to']} by {record['actor']['name']}"
            self._edge(rollout, self._node("rollback", str(record["seq"]), label, record, to=data["to"]), "ended_by")
        words = {
            "CanaryStepped": f"canary at {data.get('share', 0):.0%}",
            "RolloutStepped": f"rollout at {data.get('share', 0):.0%}",
            "CanaryAborted": f"aborted: {data.get('why')}",
            "ReleasePromoted": "promoted, all traffic",
            "ChampionReinstated": "reinstated, all traffic",
        }
        self.nodes[rollout]["label"] = words.get(kind, self.nodes[rollout]["label"])

    def add_segments(self) -> None:
        """Add the segments and their edges from the rollouts that answered in them."""
        for source, sealed in self.segments.items():
            shown = sealed[-self.most_segments :] if self.most_segments else []
            rest = sealed[: len(sealed) - len(shown)]
            if rest:
                rows = sum(record["data"]["rows"] for record in rest)
                label = f"{len(rest):,} earlier segments, {rows:,} decisions"
                more = self._node("segments", source, label, rest[-1], count=len(rest), rows=rows)
                self._edge(source, more, "answered_in")
            for record in shown:
                data = record["data"]
                detail = {"digest": data["digest"], "uri": data["uri"], "releases": data["releases"]}
                name, label = f"{record['model']}/{data['segment']}", f"{data['rows']:,} decisions"
                self._edge(source, self._node("segment", name, label, record, **detail), "answered_in")

    def descendants(self, start: str) -> set[str]:
        """`start` and all nodes derived from it."""
        return self._reach(start, [(origin, to) for origin, to in self.edges])

    def ancestors(self, start: str) -> set[str]:
        """`start` and all nodes that it is derived from."""
        return self._reach(start, [(to, origin) for origin, to in self.edges])

    def evidence(self, chosen: set[str]) -> set[str]:
        """Checks, reports, approvals and requests with an edge to a node in `chosen`."""
        kinds = ("check:", "report:", "approval:", "request:")
        return {origin for origin, to in self.edges if to in chosen and origin.startswith(kinds)}

    def part(self, chosen: set[str]) -> Graph:
        """The chosen nodes and the edges between them."""
        nodes = [node for name, node in self.nodes.items() if name in chosen]
        between = {(origin, to): kind for (origin, to), kind in self.edges.items() if {origin, to} <= chosen}
        edges = [{"from": origin, "to": to, "kind": kind} for (origin, to), kind in between.items()]
        return {"nodes": sorted(nodes, key=lambda node: int(node["seq"])), "edges": edges}

    def _reach(self, start: str, steps: list[tuple[str, str]]) -> set[str]:
        onward: dict[str, list[str]] = {}
        for origin, to in steps:
            onward.setdefault(origin, []).append(to)
        reached, waiting = set(), [start]
        while waiting:
            here = waiting.pop()
            if here not in reached:
                reached.add(here)
                waiting += onward.get(here, [])
        return reached

    def _node(self, kind: str, name: str, label: str, record: Record, **more: Any) -> str:
        """The id of a node, made if it is new; it keeps the record in which it first appeared."""
        detail = {"kind": kind, "label": label, "at": record["at"], "seq": record["seq"], "model": record["model"]}
        self.nodes.setdefault(f"{kind}:{name}", {"id": f"{kind}:{name}", **detail, **more})
        return f"{kind}:{name}"

    def _edge(self, origin: str, to: str, kind: str) -> None:
        if origin in self.nodes:
            self.edges.setdefault((origin, to), kind)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
