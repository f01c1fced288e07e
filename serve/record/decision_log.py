"""Keeps the controller's view of the spools: every new record feeds the evidence and waits to be sealed.

After a restart the evidence is rebuilt from the sealed segments and from what was spooled since; evidence takes the
same record twice without counting it twice.

People are known by their pseudonyms. What a decision says about a person is opened only where drift or fairness is
measured, and only of those whose key is left.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from lineage.errors import UnavailableError
from lineage.privacy.decisions import ERASED, MISSING, READABLE, reveal
from lineage.privacy.key_vault import Vault
from lineage.settings import Settings
from lineage.state.entities import Release
from serve.judge.evidence import Evidence
from serve.record.sealing import Sealer, Segment, add_pseudonyms, read_segments
from serve.record.spool import Batch, Record, SpoolReader, overwrite_sealed, remove_finished

log = structlog.get_logger("plimsoll.controller")
_SEGMENTS_MOST = 20_000
#: A decision is in its spool so long after its time at the latest.
_SPOOLED_WITHIN = timedelta(minutes=1)


@dataclass
class Window:
    """Customer decisions, the oldest first, with what they say about the person; `erased` were passed over."""

    records: list[Record] = field(default_factory=list)
    erased: int = 0


class DecisionLog:
    """Reader, sealer and the evidence of every rollout under way."""

    def __init__(self, settings: Settings) -> None:
        settings.spool.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._lock = threading.RLock()  # the controller takes in one thread and seals in another
        self._vault = Vault(settings)
        self._reader = SpoolReader(settings.spool)
        self._sealer = Sealer(settings.decisions, self._reader, self._vault)
        self._unsealed = Batch()
        self._planned: Batch | None = None
        self._resumed = False
        self._caught_up = False  # whether what is planned was everything there was
        self._blanked: dict[str, int] = {}
        self.evidence: dict[str, Evidence] = {}

    def take(self) -> int:
        """Read what was spooled since the last time; return how many records.

        While the vault does not answer nothing is taken: the lines wait in their files.
        """
        with self._lock:
            batch = self._read()
            self._unsealed.records += batch.records
            for name, (start, end) in batch.ranges.items():
                known = self._unsealed.ranges.setdefault(name, [start, end])
                known[1] = end
        for evidence in list(self.evidence.values()):
            for record in batch.records:
                evidence.observe(record)
        return len(batch.records)

    def _read(self) -> Batch:
        before = dict(self._reader.offsets)
        try:
            self._resume()
            before = dict(self._reader.offsets)
            batch = self._reader.read()
            add_pseudonyms(batch.records, self._vault)
        except UnavailableError as error:
            self._reader.offsets, self._reader.caught_up = before, False
            log.error("spooled records not read", message=error.message)
            return Batch()
        return batch

    def evidence_of(self, release: Release) -> Evidence:
        """The evidence of a release in flight, rebuilt when it is asked for the first time."""
        salt = str(release.salt)
        if salt not in self.evidence:
            slow = release.terms.canary.slow.milliseconds
            self.evidence[salt] = self._rebuild(release, Evidence(salt, release.share, slow))
        self.evidence[salt].share = release.share
        return self.evidence[salt]

    def forget_all_but(self, salts: set[str]) -> None:
        """Drop the evidence of rollouts that have ended."""
        self.evidence = {salt: evidence for salt, evidence in self.evidence.items() if salt in salts}

    def next_segments(self) -> list[Segment]:
        """Write the segments of what is unsealed; empty where there is nothing. Call `sealed` when all are on record.

        What was planned before, but not finished, comes again under the same names.
        """
        with self._lock:
            self._resume()
            if self._planned is None:
                if not self._unsealed.records:
                    return []
                self._sealer.plan(self._unsealed)
                self._planned, self._unsealed = self._unsealed, Batch()
                self._caught_up = self._reader.caught_up
            planned = self._planned
        return self._sealer.segments(planned)

    def sealed(self, alive: Any) -> None:
        """Every segment of `next_segments` is on record: what the spools say of them in the clear goes.

        Raises:
            UnavailableError: a file cannot be changed; it is tried again next time.
        """
        if self._planned is not None:
            self._sealer.commit(self._planned)
            times = [str(record["at"]) for record in self._planned.records]
            self._planned = None
            if self._caught_up and times:
                newest = max(datetime.fromisoformat(at) for at in times)
                self._vault.forget_marks(newest - _SPOOLED_WITHIN)
        with self._lock:
            try:
                overwrite_sealed(self._settings.spool, self._sealer.cursor, self._blanked)
                removed = remove_finished(self._settings.spool, self._sealer.cursor, alive)
            except OSError as error:
                raise UnavailableError(f"sealed lines stay in the spools: {error}", field="spool") from error
            self._sealer.forget(removed)
            for name in removed:
                self._blanked.pop(name, None)

    def _resume(self) -> None:
        """What was planned by a controller that is gone is planned still."""
        if not self._resumed:
            self._planned = self._sealer.unfinished()
            self._resumed = True

    def latest(self, release: Release, most: int) -> Window:
        """The newest customer decisions that this release gave as champion, at most so many.

        Raises:
            UnavailableError: the vault does not answer.
            TamperedError: a sealed row is not what was sealed.
        """
        window, seen = Window(), set[str]()
        for rows in self._newest_first(release):
            for row in rows:
                if len(window.records) >= most:
                    break
                if row["decision_id"] in seen:
                    continue  # it was sealed while we looked
                seen.add(row["decision_id"])
                if row["person"] in (ERASED, MISSING):
                    window.erased += 1
                else:
                    window.records.append(row)
            if len(window.records) >= most:
                break
        window.records.reverse()
        return window

    def _newest_first(self, release: Release) -> Iterator[list[Record]]:
        """The champion's decisions, what is unsealed first, then segment by segment."""
        waiting = [record for record in reversed(self._waiting()) if _is_champions(record, release)]
        kept = self._vault.standing({record["subject"] for record in waiting})
        yield [record | {"person": READABLE if kept[record["subject"]] == "kept" else ERASED} for record in waiting]
        for frame in read_segments(self._settings.decisions, release.model, _SEGMENTS_MOST):
            rows = sorted(frame.to_dicts(), key=lambda row: str(row["at"]), reverse=True)
            if rows and _is_older(rows, str(release.promoted_at)):
                return
            yield reveal([row for row in rows if _is_champions(row, release)], self._vault)

    def _waiting(self) -> list[Record]:
        """What is read and not sealed; look here before the segments, for what is sealed meanwhile is in both."""
        with self._lock:
            self._resume()
            planned = self._planned.records if self._planned else []
            return planned + self._unsealed.records

    def _rebuild(self, release: Release, evidence: Evidence) -> Evidence:
        """Observe everything since the canary began, the oldest first: a subject's first decision is the one."""
        waiting, frames = self._waiting(), []
        for frame in read_segments(self._settings.decisions, release.model, _SEGMENTS_MOST):
            frames.append(frame.drop("sealed", strict=False))
            if not frame.is_empty() and str(frame["at"].max())[:19] < str(release.canary_started_at)[:19]:
                break
        for frame in reversed(frames):
            for row in frame.to_dicts():
                if "subject" not in row and row["type"] == "decision":  # sealed before there were pseudonyms
                    row["subject"] = self._vault.known(row["key"]) or row["key"]
                evidence.observe(row)
        for record in waiting:
            evidence.observe(record)
        return evidence


def _is_champions(record: Record, release: Release) -> bool:
    return bool(
        record["type"] == "decision"
        and record["model"] == release.model
        and record["release"] == release.release
        and record["role"] == "champion"
        and record["purpose"] == "customer"
    )


def _is_older(rows: list[dict[str, Any]], moment: str) -> bool:
    """True where even the newest of the rows is older; both are UTC, written differently after the seconds."""
    return max(str(row["at"]) for row in rows)[:19] < moment[:19]
