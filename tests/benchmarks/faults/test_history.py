"""`benchmarks.faults.history`: no violation in a lawful history, and each planted violation found by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.faults.history import RECEIVED, RECORDED, Verdict, check
from lineage.ledger import Ledger
from lineage.log.signing_key import signer_at
from lineage.rules.draft import Draft
from lineage.state.fold import LedgerState
from serve.decision.traffic_split import falls_on_challenger, position_of
from serve.ledger_view import LedgerView
from serve.routes import Route, RouteTable, routes_from
from tests.support.sample_facts import CONTROLLER, OPERATOR, FactWriter, ManualClock

Row = dict[str, Any]
MODEL = "loan"
REPLICAS = ("r1", "r2")
_SCHEMA = dict.fromkeys(RECORDED, pl.String) | {"share": pl.Float64, "route_version": pl.Int64}
_BIT = 0.001  # seconds that an answer takes


class History:
    """A ledger, two replicas that go by it, and a client that asks both after every change."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.ledger = Ledger(folder / "log", clock=self.clock, signer=signer_at(folder / "log.key"))
        self.writer = FactWriter(self.ledger, MODEL)
        self.decisions: list[Row] = []
        self.received: list[Row] = []

    @property
    def facts(self) -> list[Row]:
        return list(self.ledger.records)

    @property
    def table(self) -> RouteTable:
        fold: LedgerState = self.ledger.state
        return routes_from(LedgerView.of(fold), {}, 1, fold.seq)

    def apply(self) -> None:
        """The controller tells that both replicas run the route."""
        route, version = self.table.routes[MODEL], self.table.version
        data = {"version": version, "champion": None, "challenger": None, "share": route.share, "replicas": 2}
        self.clock.later(seconds=1)
        self.ledger.append(Draft("RouteApplied", CONTROLLER, data | {"milliseconds": 20.0}, MODEL))

    def ask(self, customers: int = 20, table: RouteTable | None = None) -> None:
        """Every customer asks each replica."""
        table = table or self.table
        for replica in REPLICAS:
            for number in range(customers):
                self.clock.later(seconds=1)
                self.answer(replica, f"customer-{number}", table)

    def answer(self, replica: str, key: str, table: RouteTable) -> None:
        route: Route = table.routes[MODEL]
        trial = route.challenger is not None and not route.killed
        ours = trial and falls_on_challenger(position_of(key, route.salt), route.share)
        target = route.challenger if ours else route.champion or route.baseline
        assert target is not None
        role = "challenger" if ours else "champion" if route.champion else "baseline"
        who = {
            "decision_id": f"d{len(self.received)}",
            "release": target.release,
            "digest": target.digest,
            "role": role,
        }
        arm = {True: "challenger", False: "champion"}[ours] if trial else None
        about = {"model": MODEL, "arm": arm, "share": route.share, "rollout": route.salt or None, "replica": replica}
        now = self.clock().timestamp()
        self.decisions.append(who | about | {"route_version": table.version})
        self.received.append(who | {"key": key, "asked_at": now, "answered_at": now + _BIT})

    def judged(self) -> Verdict:
        decisions, received = pl.DataFrame(self.decisions, schema=_SCHEMA), pl.DataFrame(self.received, schema=RECEIVED)
        return check(self.facts, decisions, received)

    def on_trial(self) -> Row:
        """The newest decision of a challenger."""
        return next(row for row in reversed(self.decisions) if row["role"] == "challenger")


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Baseline, trial, promotion, another trial that is aborted, a rollback; asked at every stage."""
    made = History(tmp_path)
    writer = made.writer
    stages: list[Callable[[], Any]] = [
        lambda: writer.canary(writer.register()),
        lambda: writer.to_review(f"{MODEL}@1"),
        lambda: writer.rollout(writer.approve(f"{MODEL}@1")),
        lambda: writer.promote(f"{MODEL}@1"),
        writer.champion,
        lambda: writer.canary(writer.register()),
        lambda: writer.record("CanaryAborted", f"{MODEL}@3"),
        lambda: writer.record("RollbackOrdered", f"{MODEL}@2", OPERATOR, to=f"{MODEL}@1"),
        lambda: writer.canary(writer.register()),
    ]
    for stage in stages:
        stage()
        before = made.table
        made.ask(8, before)
        made.apply()
        made.ask(20, before)
    return made


def test_a_lawful_history_has_nothing_wrong(history: History) -> None:
    verdict = history.judged()
    assert verdict.examples == []
    assert verdict.judged == len(history.received)
    assert verdict.versions == 9
    assert 0 < verdict.challengers < verdict.judged
    assert verdict.unheard == 0


def _first_champion(history: History) -> Row:
    return next(row for row in history.decisions if row["role"] == "champion")


def _on_both(history: History, row: Row, **changes: Any) -> None:
    """Change what is on record and what the client was received."""
    row |= changes
    received = next(received for received in history.received if received["decision_id"] == row["decision_id"])
    received |= {name: value for name, value in changes.items() if name in received}


def _a_rolled_back_release(history: History) -> None:
    digest = history.ledger.state.releases[f"{MODEL}@2"].digest
    row = next(row for row in reversed(history.decisions) if row["role"] == "champion")
    _on_both(history, row, release=f"{MODEL}@2", digest=digest)


def _other_bytes(history: History) -> None:
    _on_both(history, _first_champion(history), digest="sha256:" + "0" * 64)


def _an_aborted_challenger(history: History) -> None:
    fold = history.ledger.state.releases[f"{MODEL}@3"]
    _on_both(history, history.on_trial(), release=fold.release, digest=fold.digest)


def _a_challenger_as_champion(history: History) -> None:
    _on_both(history, history.on_trial(), role="champion")


def _a_customer_of_the_other_arm(history: History) -> None:
    row = history.on_trial()
    route = history.table.routes[MODEL]
    received = next(received for received in history.received if received["decision_id"] == row["decision_id"])
    keys = (f"other-{number}" for number in range(1_000))
    received["key"] = next(key for key in keys if position_of(key, route.salt) >= route.share)


def _the_share_of_before(history: History) -> None:
    history.on_trial()["share"] = 0.5


def _a_challenger_without_an_arm(history: History) -> None:
    history.on_trial()["arm"] = None


def _a_version_of_no_fold(history: History) -> None:
    history.decisions[-1]["route_version"] = 10_000


def _a_version_from_before_there_was_a_route(history: History) -> None:
    history.decisions[0]["route_version"] = 1


def _a_replica_that_goes_back(history: History) -> None:
    """Only one of the replicas had the newer table, and the ledger does not say that all do."""
    before = history.table
    history.writer.record("CanaryAborted", f"{MODEL}@4")
    history.answer("r1", "customer-1", history.table)
    history.clock.later(seconds=1)
    history.answer("r2", "customer-1", before)
    assert history.judged().violations == 0
    history.answer("r1", "customer-1", before)


def _a_replica_that_never_heard(history: History) -> None:
    """The ledger says that all replicas run the newer route; this one never answered by it."""
    before = history.table
    history.writer.record("CanaryAborted", f"{MODEL}@4")
    history.apply()
    history.clock.later(seconds=1)
    history.answer("r3", "customer-1", before)


def _told_another_release(history: History) -> None:
    history.received[-1]["release"] = f"{MODEL}@1" if history.received[-1]["release"] != f"{MODEL}@1" else f"{MODEL}@2"


def _not_on_record(history: History) -> None:
    del history.decisions[-1]


def _there_twice(history: History) -> None:
    history.decisions.append(dict(history.decisions[3]))


PLANTED = {
    "a release that was rolled back": (_a_rolled_back_release, "release"),
    "bytes that nobody approved": (_other_bytes, "release"),
    "a challenger that was aborted": (_an_aborted_challenger, "release"),
    "a challenger that says it is champion": (_a_challenger_as_champion, "release"),
    "a customer of the other arm": (_a_customer_of_the_other_arm, "arm"),
    "another share than the route's": (_the_share_of_before, "arm"),
    "a challenger without an arm": (_a_challenger_without_an_arm, "arm"),
    "a version of no fold": (_a_version_of_no_fold, "unknown_version"),
    "a version from before there was a route": (_a_version_from_before_there_was_a_route, "unknown_version"),
    "a replica that goes back": (_a_replica_that_goes_back, "order"),
    "a replica that never heard": (_a_replica_that_never_heard, "stale"),
    "another release was received": (_told_another_release, "received"),
    "a decision that is not on record": (_not_on_record, "missing"),
    "a decision that is there twice": (_there_twice, "twice"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found_by_its_name(history: History, name: str) -> None:
    plant, expected = PLANTED[name]
    plant(history)
    verdict = history.judged()
    assert dict(verdict.wrong) == {expected: 1}, verdict.examples
    assert verdict.examples[0].startswith(f"{expected}: ")


def test_a_decision_that_no_client_heard_of_is_judged_all_the_same(history: History) -> None:
    del history.received[-1]
    history.decisions[-1]["digest"] = "sha256:" + "0" * 64
    verdict = history.judged()
    assert (verdict.unheard, dict(verdict.wrong)) == (1, {"release": 1})


def test_where_a_kill_switch_is_pulled_the_champion_may_not_answer(history: History) -> None:
    before = history.table
    history.ledger.append(Draft("KillSwitchPulled", OPERATOR, {"answer": "baseline"}, MODEL, None, "it must stop"))
    version = history.ledger.state.seq
    assert history.table.routes[MODEL].killed == "baseline"
    for role in ("champion", "baseline"):
        history.answer("r1", "customer-1", before)
        champion = before.routes[MODEL].champion
        assert champion is not None
        who = {"role": role, "release": champion.release, "digest": champion.digest, "arm": None}
        _on_both(history, history.decisions[-1], **who)
        history.decisions[-1]["route_version"] = version
    assert dict(history.judged().wrong) == {"release": 1}
