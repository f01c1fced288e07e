"""Series of charts from records: decisions a minute and an hour from sealed segments, drift from measurements.

A sealed segment counts its decisions by the release on the record; an answer of the baseline is recorded under the
release whose baseline it is. So counts of a release that carried no traffic at the time, or while it was killed, are
the baseline's. While a canary runs against the baseline both are counted under the canary's release, and its series
says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from console.formatting import moment
from console.parts.charts import Series
from lineage.lifecycle import State
from lineage.state.entities import ReleaseSummary

Json = dict[str, Any]
BASELINE = "baseline"
_BEGINS = frozenset({"CanaryStarted", "ChampionReinstated"})
_ENDS = frozenset({"CanaryAborted", "ChampionRetired", "RollbackOrdered", "ReleaseRolledBack"})
#: With these the release answers alone, or beside a champion.
_PROMOTED = frozenset({"ReleasePromoted", "ChampionReinstated"})


@dataclass(frozen=True)
class Span:
    """A time with its end, None while it goes on."""

    since: datetime
    until: datetime | None

    def touches(self, start: datetime, end: datetime) -> bool:
        """Whether the two have a moment in common."""
        return self.since <= end and (self.until is None or self.until >= start)

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether the other lies within."""
        return self.since <= start and (self.until is None or self.until >= end)


def carried(release: ReleaseSummary) -> list[Span]:
    """When a release carried live traffic, from its own steps."""
    spans: list[Span] = []
    since: datetime | None = None
    for step in release.steps:
        rejected = step.kind == "ReviewDecided" and release.state is State.REJECTED and step is release.steps[-1]
        if step.kind in _BEGINS:
            since = since or moment(step.at)
        elif (step.kind in _ENDS or rejected) and since is not None:
            spans.append(Span(since, moment(step.at)))
            since = None
    return [*spans, Span(since, None)] if since else spans


def kills(records: Sequence[Json]) -> list[tuple[str | None, Span]]:
    """When models, or all of them (None), were killed.

    Args:
        records: KillSwitchPulled and KillSwitchReleased, newest first.
    """
    began: dict[str | None, datetime] = {}
    found: list[tuple[str | None, Span]] = []
    for record in reversed(records):
        model, at = record["model"], moment(record["at"])
        if record["kind"] == "KillSwitchPulled":
            began.setdefault(model, at)
        elif model in began:
            found.append((model, Span(began.pop(model), at)))
    return found + [(model, Span(at, None)) for model, at in began.items()]


def traffic_series(
    sealed: Sequence[Json], releases: Mapping[str, ReleaseSummary], killed: Sequence[tuple[str | None, Span]] = ()
) -> Series:
    """Decisions a minute of each release and of the baselines, oldest first.

    Args:
        sealed: DecisionsSealed records, newest first.
        releases: those that the records count, as far as they are known; others are drawn under their names.
    """
    found: Series = {}
    for record in reversed(sealed):
        data, model = record["data"], str(record["model"])
        start, end = moment(data["from"]), moment(data["to"])
        minutes = max((end - start).total_seconds(), 1.0) / 60
        stopped = any(whose in (None, model) and span.covers(start, end) for whose, span in killed)
        counted: dict[str, int] = {}
        for name, rows in data["releases"].items():
            answered = f"{model} {BASELINE}" if stopped else _answered(name, releases.get(name), start, end)
            counted[answered] = counted.get(answered, 0) + rows
        for name, rows in counted.items():
            found.setdefault(name, []).append((data["to"], rows / minutes))
    return found


def _answered(name: str, release: ReleaseSummary | None, start: datetime, end: datetime) -> str:
    """The name of the series in which a release's decisions of that time belong."""
    if release is None:
        return name
    if not any(span.touches(start, end) for span in carried(release)):
        return f"{release.model} {BASELINE}"
    promoted = [moment(step.at) for step in release.steps if step.kind in _PROMOTED]
    on_trial = not promoted or promoted[0] >= end
    return f"{name} and {BASELINE}" if on_trial and release.control == BASELINE else name


def drift_series(measured: list[Json]) -> Series:
    """Share of drifted features per model, oldest first; measurements without enough data leave a gap."""
    found: Series = {}
    for record in reversed(measured):
        if record["data"]["share_drifted"] is not None:
            found.setdefault(record["model"], []).append((record["at"], record["data"]["share_drifted"]))
    return found


def hourly_rate(sealed: Sequence[Json]) -> float | None:
    """Decisions an hour over the given DecisionsSealed records (newest first); None when that is not known."""
    if len(sealed) < 2:
        return None
    seconds = (moment(sealed[0]["data"]["to"]) - moment(sealed[-1]["data"]["from"])).total_seconds()
    rows: int = sum(record["data"]["rows"] for record in sealed)
    return rows / seconds * 3600 if seconds > 0 and rows else None
