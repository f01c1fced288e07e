"""Rollback: evidence that no replica answers with the former champion any more.

The order itself changes the routes (the fold names the new champion, whose bundle replicas keep in memory). The
evidence recorded here is every replica's acknowledgement, and the golden rows of the reinstated release sent through
the gateway until every replica has answered with it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lineage.clock import instant
from lineage.digest import digest_of
from lineage.state.entities import Model, Release, Rollback
from serve.intent import Intention

BASELINE = "baseline"
#: A busy machine may be late with an explanation; a row that is late more often counts as wrong.
_TIMEOUTS_MOST = 3


@dataclass
class Replay:
    """Golden rows answered by the replicas.

    Attributes:
        count: golden rows of the bundle.
        matched: numbers of the rows whose answer was the recorded one.
        wrong: number -> what was answered instead.
        replicas: ids of the replicas that answered with the release.
        timeouts: number -> how often the baseline answered because an explanation was late.
    """

    count: int
    release: str
    matched: set[int] = field(default_factory=set)
    wrong: dict[int, str] = field(default_factory=dict)
    replicas: set[str] = field(default_factory=set)
    answers: dict[int, str] = field(default_factory=dict)
    timeouts: Counter[int] = field(default_factory=Counter)

    def note(self, number: int, row: dict[str, Any], reply: dict[str, Any], replica: str) -> None:
        """Compare one reply with the golden row; a late explanation says nothing about it, and it is to be asked again.

        Args:
            number: of the row.
            row: `{"score": hexadecimal, "decision"}`.
            reply: `{"release", "score", "decision", "fallback"}`; with a fallback the baseline answered.
            replica: id of the replica that answered.
        """
        fallback = reply.get("fallback")
        if fallback == "explanation_timeout":
            self.timeouts[number] += 1
            if self.timeouts[number] <= _TIMEOUTS_MOST:
                return
        answer = f"{float(reply['score']).hex()} {reply['decision']}"
        self.answers[number] = answer
        if not fallback and reply["release"] == self.release and answer == f"{row['score']} {row['decision']}":
            self.matched.add(number)
            self.replicas.add(replica)
        else:
            by = f"the baseline of {reply['release']} ({fallback})" if fallback else reply["release"]
            self.wrong[number] = f"row {number}: {by} answered {answer}"

    @property
    def complete(self) -> bool:
        """Every row has been answered."""
        return len(self.answers) == self.count

    def golden(self) -> dict[str, Any]:
        """The form that facts carry; a row that any replica answered wrongly does not count as matched."""
        answers = [self.answers[number] for number in sorted(self.answers)]
        right = len(self.matched - self.wrong.keys())
        return {"count": self.count, "matched": right, "digest": digest_of(answers), "replicas": len(self.replicas)}


def rolled_back(model: Model, releases: dict[str, Release], acked_at: datetime, replicas: int) -> Intention | None:
    """ReleaseRolledBack after every replica has acknowledged; None where it is on record already."""
    order = model.rollback
    if order is None or releases[order.release].state != "rolling_back":
        return None
    data = {"to": order.to, "milliseconds": _since(order, acked_at), "replicas": replicas}
    return Intention("ReleaseRolledBack", order.release, data)


def reinstated(model: Model, releases: dict[str, Release], replay: Replay, now: datetime) -> Intention | None:
    """After the replay: ChampionReinstated, or an alert where golden rows did not match."""
    order = model.rollback
    if order is None or order.to == BASELINE:
        return None
    golden = replay.golden()
    if not golden["count"] or golden["matched"] != golden["count"]:
        seen = "; ".join(list(replay.wrong.values())[:2]) or "no golden rows"
        summary = f"{order.to} was reinstated but its golden rows did not come back: {seen}"
        data = {"alert": "rollback_not_proven", "severity": "page", "summary": summary, "evidence": order.seq}
        data |= {"about": order.to, "release": order.to}
        return Intention("AlertRaised", model.model, data, about_release=False)
    if releases[order.to].state not in ("retired", "champion"):  # champion: its retirement was not recorded
        return None
    return Intention("ChampionReinstated", order.to, {"golden": golden, "milliseconds": _since(order, now)})


def _since(order: Rollback, moment: datetime) -> float:
    return round(max(0.0, (moment - instant(order.at)).total_seconds() * 1000.0), 1)
