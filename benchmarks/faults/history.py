"""Check every recorded decision against the ledger's fold at the route version that its replica used.

A pure function of facts and decisions. Violations by name:

- `unknown_version`: the replica used a route table that is no fold of the ledger in which this model is served;
- `release`: in that fold this release with this digest was not in that role;
- `arm`: the customer's key, or the share or salt on record, belongs to the other arm;
- `order`: the replica had answered by a newer table before this request was sent;
- `stale`: by RouteApplied every replica ran a newer table before this request was sent;
- `received`: the client received another release, digest or role than is on record;
- `missing`: the client received a decision that is not on record; `twice`: it is on record more than once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import polars as pl

from lineage.clock import instant
from lineage.state.fold import LedgerState
from serve.decision.traffic_split import falls_on_challenger, position_of
from serve.judge.evidence import CHALLENGER, CHAMPION
from serve.ledger_view import LedgerView
from serve.routes import BASELINE, Route, Target, routes_from

Fact = dict[str, Any]
#: Columns of a decision on record, in the order of `Decided`.
RECORDED = ("decision_id", "model", "release", "digest", "role", "arm", "share", "rollout", "route_version", "replica")
#: Columns of a decision as a client received it; times are seconds since the epoch, by the ledger's clock.
RECEIVED = {
    "decision_id": pl.String,
    "key": pl.String,
    "asked_at": pl.Float64,
    "answered_at": pl.Float64,
    "release": pl.String,
    "digest": pl.String,
    "role": pl.String,
}
_SHOWN = 5


class Decided(NamedTuple):
    """One decision on record, and the customer's key where a client has it."""

    decision_id: str
    model: str
    release: str
    digest: str
    role: str
    arm: str | None
    share: float
    rollout: str | None
    route_version: int
    replica: str
    key: str | None


@dataclass
class Verdict:
    """Number of decisions judged, and the violations."""

    judged: int = 0
    challengers: int = 0
    versions: int = 0
    unheard: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """Number of all violations."""
        return self.wrong.total()

    def note(self, what: str, detail: str) -> None:
        """One violation."""
        self.wrong[what] += 1
        if self.wrong[what] <= _SHOWN:
            self.examples.append(f"{what}: {detail}")


def check(facts: Sequence[Fact], decisions: pl.DataFrame, received: pl.DataFrame) -> Verdict:
    """Judge every customer's decision.

    Args:
        facts: every record of the ledger, in order.
        decisions: columns of `RECORDED`, one row a decision on record.
        received: columns of `RECEIVED`, one row a decision that a client was given.
    """
    verdict = Verdict(judged=decisions.height)
    _compare(decisions, received, verdict)
    decisions = decisions.unique("decision_id", keep="first", maintain_order=True)
    both = decisions.join(received.drop("release", "digest", "role"), on="decision_id", how="left")
    verdict.unheard = both["asked_at"].null_count()
    rows = both.sort("route_version").select(*RECORDED, "key").iter_rows()
    _judge(facts, (Decided(*row) for row in rows), verdict)
    _in_order(both.drop_nulls("asked_at"), facts, verdict)
    return verdict


def _compare(decisions: pl.DataFrame, received: pl.DataFrame, verdict: Verdict) -> None:
    for name in decisions.filter(decisions["decision_id"].is_duplicated())["decision_id"].unique():
        verdict.note("twice", name)
    for name in received.join(decisions, on="decision_id", how="anti")["decision_id"]:
        verdict.note("missing", name)
    both = received.join(decisions.unique("decision_id"), on="decision_id", suffix="_recorded")
    for column in ("release", "digest", "role"):
        for row in both.filter(pl.col(column) != pl.col(f"{column}_recorded")).iter_rows(named=True):
            verdict.note("received", f"{row['decision_id']} {row[column]}, on record {row[column + '_recorded']}")


def _judge(facts: Sequence[Fact], decided: Iterator[Decided], verdict: Verdict) -> None:
    """Judge decisions, which come in the order of their versions, by the fold at each version."""
    fold, at, version = LedgerState(), 0, -1
    routes: dict[str, Route] = {}
    positions: dict[tuple[str, str], float] = {}
    for one in decided:
        if one.route_version != version:
            version = one.route_version
            verdict.versions += 1
            while at < len(facts) and facts[at]["seq"] <= version:
                fold.apply(facts[at])
                at += 1
            routes = dict(routes_from(LedgerView.of(fold), {}, 0, version).routes) if fold.seq == version else {}
        verdict.challengers += one.role == CHALLENGER
        route = routes.get(one.model)
        if route is None:
            verdict.note("unknown_version", f"{one.decision_id} of {one.model} by version {version}")
        elif not is_allowed(route, one):
            verdict.note("release", f"{one.decision_id} {one.role} {one.release} by version {version}")
        elif not _on_its_arm(route, one, positions):
            verdict.note("arm", f"{one.decision_id} {one.role} {one.release}, arm {one.arm}, version {version}")


def is_allowed(route: Route, one: Decided) -> bool:
    """Whether this release with this digest may answer in this role by this route.

    As baseline, the bundle of the champion, of the previous champion or of `baseline` may answer.
    """
    target = Target(one.release, one.digest)
    if one.role == BASELINE:
        return target in (route.baseline, route.previous, route.champion) and route.killed != "nothing"
    if route.killed:
        return False
    if one.role == CHALLENGER:
        return target == route.challenger and route.share > 0.0
    return one.role == CHAMPION and target == route.champion


def _on_its_arm(route: Route, one: Decided, positions: dict[tuple[str, str], float]) -> bool:
    """Whether key, share and salt put the customer on the arm on record; no arm is right before the pool is ready."""
    if one.share != route.share or (one.rollout or "") != route.salt:
        return False
    if one.arm is None:
        return one.role != CHALLENGER
    if route.challenger is None:
        return False
    if one.role == CHALLENGER and one.arm != CHALLENGER:
        return False
    if one.key is None:
        return True
    name = (route.salt, one.key)
    if name not in positions:
        positions[name] = position_of(one.key, route.salt)
    return (one.arm == CHALLENGER) == falls_on_challenger(positions[name], route.share)


def _in_order(received: pl.DataFrame, facts: Sequence[Fact], verdict: Verdict) -> None:
    """Check that no replica returns to an older table or uses one that by the ledger no replica runs any more."""
    for (replica,), group in received.group_by("replica"):
        known = _highest(group["answered_at"], group["route_version"])
        for row in _behind(group, known):
            verdict.note("order", f"{row['decision_id']} by version {row['route_version']} on {replica}")
    applied = [(instant(f["at"]).timestamp(), f["data"]["version"]) for f in facts if f["kind"] == "RouteApplied"]
    if applied:
        times, versions = zip(*applied, strict=True)
        for row in _behind(received, _highest(pl.Series(times, dtype=pl.Float64), pl.Series(versions, dtype=pl.Int64))):
            verdict.note("stale", f"{row['decision_id']} by version {row['route_version']}")


def _highest(at: pl.Series, versions: pl.Series) -> pl.DataFrame:
    """The highest version seen up to each moment: columns `since` and `known`."""
    return pl.DataFrame({"since": at, "known": versions}).sort("since").with_columns(pl.col("known").cum_max())


def _behind(decisions: pl.DataFrame, known: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Decisions that used an older version than was known before their request."""
    asked = decisions.sort("asked_at")
    met = asked.join_asof(known, left_on="asked_at", right_on="since", allow_exact_matches=False)
    return met.filter(pl.col("known") > pl.col("route_version")).iter_rows(named=True)
