"""State transitions for facts about kill switch and breakers. Pure: arguments are never changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lineage.state.people import person_of

Record = dict[str, Any]

#: Facts by which a release takes more traffic. None of them is accepted about a model that is killed.
STEPS = frozenset({"CanaryStarted", "CanaryStepped", "RolloutStepped", "ReleasePromoted"})


@dataclass(frozen=True)
class Kill:
    """A kill switch that is pulled.

    `by`, `at`, `seq` and `reason` are of the newest pull, `since` is the time of the first one; `answer` is `baseline`
    or `nothing`. The `asked_` values are of the request to release it, None where there is none.
    """

    by: str
    at: str
    seq: int
    reason: str | None
    answer: str
    since: str
    asked_by: str | None = None
    asked_by_id: str | None = None  # what identifies the person
    asked_at: str | None = None
    asked_seq: int | None = None
    asked_reason: str | None = None


@dataclass(frozen=True)
class Breaker:
    """A circuit breaker that is open on one replica."""

    release: str
    cause: str
    since: str
    times: int
    seq: int


def switched(kill: Kill | None, record: Record) -> Kill | None:
    """The kill switch after a fact about it; None while it is not pulled."""
    by, at, seq, reason = record["actor"]["name"], record["at"], record["seq"], record["reason"]
    if record["kind"] == "KillSwitchPulled":
        return Kill(by, at, seq, reason, record["data"]["answer"], kill.since if kill else at)
    if record["kind"] == "KillReleaseRequested" and kill is not None:
        asked = {"asked_by": by, "asked_by_id": person_of(record), "asked_at": at}
        return replace(kill, **asked, asked_seq=seq, asked_reason=reason)
    return None


def broken(breakers: Mapping[str, Breaker], record: Record) -> dict[str, Breaker]:
    """The open breakers by replica after a fact about one of them."""
    data = record["data"]
    rest = {replica: breaker for replica, breaker in breakers.items() if replica != data["replica"]}
    if record["kind"] == "BreakerClosed":
        return rest
    opened = Breaker(data["release"], data["cause"], data["since"], data["times"], record["seq"])
    return rest | {data["replica"]: opened}


def stricter(kills: Iterable[Kill | None]) -> str:
    """The strictest answer of these switches: `nothing`, `baseline`, or an empty text where none is pulled."""
    answers = {kill.answer for kill in kills if kill is not None}
    return "nothing" if "nothing" in answers else "baseline" if answers else ""
