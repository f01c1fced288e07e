"""Keeps the controller's view of the spools: every new record feeds the evidence and waits to be sealed.

After a restart the evidence is rebuilt from the sealed segments and from what was spooled since; evidence takes the
same record twice without counting it twice.
"""

from __future__ import annotations

from typing import Any

from lineage.settings import Settings
from serve.evidence import Evidence
from serve.intention import View
from serve.sealing import Sealer, Segment, read_segments
from serve.spool import Batch, SpoolReader, remove_finished

_SEGMENTS_MOST = 20_000


class Keeper:
    """Reader, sealer and the evidence of every rollout under way."""

    def __init__(self, settings: Settings) -> None:
        settings.spool.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._reader = SpoolReader(settings.spool)
        self._sealer = Sealer(settings.decisions, self._reader)
        self._unsealed = Batch()
        self._planned: Batch | None = self._sealer.unfinished()
        self.evidence: dict[str, Evidence] = {}

    def take(self) -> int:
        """Read what was spooled since the last time; return how many records."""
        batch = self._reader.read()
        self._unsealed.records += batch.records
        for name, (start, end) in batch.ranges.items():
            known = self._unsealed.ranges.setdefault(name, [start, end])
            known[1] = end
        for evidence in self.evidence.values():
            for record in batch.records:
                evidence.observe(record)
        return len(batch.records)

    def evidence_of(self, release: View) -> Evidence:
        """The evidence of a release in flight, rebuilt when it is asked for the first time."""
        salt: str = release["salt"]
        if salt not in self.evidence:
            slow = float(release["policy"]["canary"]["slow"]["milliseconds"])
            self.evidence[salt] = self._rebuild(release, Evidence(salt, release["share"], slow))
        self.evidence[salt].share = release["share"]
        return self.evidence[salt]

    def forget_all_but(self, salts: set[str]) -> None:
        """Drop the evidence of rollouts that have ended."""
        self.evidence = {salt: evidence for salt, evidence in self.evidence.items() if salt in salts}

    def next_segments(self) -> list[Segment]:
        """Write the segments of what is unsealed; empty where there is nothing. Call `sealed` when all are on record.

        What was planned before, but not finished, comes again under the same names.
        """
        if self._planned is None:
            if not self._unsealed.records:
                return []
            self._planned, self._unsealed = self._unsealed, Batch()
            self._sealer.plan(self._planned)
        return self._sealer.segments(self._planned)

    def sealed(self, alive: Any) -> None:
        """Every segment of `next_segments` is on record."""
        if self._planned is not None:
            self._sealer.commit(self._planned)
            self._planned = None
            remove_finished(self._settings.spool, self._sealer.cursor, alive)

    def latest(self, release: View, most: int) -> list[dict[str, Any]]:
        """The newest customer decisions that this release gave as champion, the oldest of them first."""
        model, name = release["model"], release["release"]

        def wanted(record: dict[str, Any]) -> bool:
            return bool(
                record["type"] == "decision"
                and record["model"] == model
                and record["release"] == name
                and record["role"] == "champion"
                and record["purpose"] == "customer"
            )

        found = [record for record in reversed(self._unsealed.records) if wanted(record)][:most]
        for frame in read_segments(self._settings.decisions, model, _SEGMENTS_MOST):
            if len(found) >= most:
                break
            rows = sorted(frame.to_dicts(), key=lambda row: str(row["at"]), reverse=True)
            if rows and _is_older(rows, release["promoted_at"]):
                break
            found += [row for row in rows if wanted(row)][: most - len(found)]
        return found[::-1]

    def _rebuild(self, release: View, evidence: Evidence) -> Evidence:
        for frame in read_segments(self._settings.decisions, release["model"], _SEGMENTS_MOST):
            rows = frame.to_dicts()
            for row in rows:
                evidence.observe(row)
            if rows and _is_older(rows, release["canary_started_at"]):
                break
        for batch in filter(None, (self._planned, self._unsealed)):
            for record in batch.records:
                evidence.observe(record)
        return evidence


def _is_older(rows: list[dict[str, Any]], moment: str) -> bool:
    """True where even the newest of the rows is older; both are UTC, written differently after the seconds."""
    return max(str(row["at"]) for row in rows)[:19] < moment[:19]
