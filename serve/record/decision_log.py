"""Decision log: reads the spools, feeds the evidence of every rollout, and seals records into segments.

After a restart the evidence is rebuilt from the sealed segments and the spools; evidence counts a record that it is
given twice only once.

Persons are identified by pseudonyms. Personal fields of a decision are decrypted only to measure drift and fairness,
and only where the person's key still exists.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from lineage.errors import UnavailableError
from lineage.privacy.decisions import ERASED, MISSING, READABLE, unseal
from lineage.privacy.key_vault import Vault
from lineage.settings import Settings
from lineage.state.entities import Release
from serve.judge.evidence import Evidence
from serve.record.sealing import Sealer, Segment, add_pseudonyms, read_segments
from serve.record.series import Counts, Series
from serve.record.spool import Batch, Record, SpoolReader, overwrite_sealed, remove_finished, spooling_replicas

log = structlog.get_logger("plimsoll.controller")
_SEGMENTS_MOST = 20_000
#: The longest time between a decision's timestamp and its line in the spool.
_SPOOLED_WITHIN = timedelta(minutes=1)


@dataclass
class Window:
    """Customer decisions with their personal fields, oldest first; `erased` is the number left out."""

    records: list[Record] = field(default_factory=list)
    erased: int = 0


class DecisionLog:
    """Reader and sealer of the spools, and the evidence of every rollout in progress. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        settings.spool.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._lock = threading.RLock()  # the controller reads in one thread and seals in another
        self._vault = Vault(settings)
        self._reader = SpoolReader(settings.spool)
        self._sealer = Sealer(settings.decisions, self._reader, self._vault)
        self._unsealed = Batch()
        self._planned: Batch | None = None
        self._resumed = False
        self._caught_up = False  # whether the planned batch was everything in the spools
        self._blanked: dict[str, int] = {}
        self.series = Series(settings.run / "series.json")
        self.evidence: dict[str, Evidence] = {}

    def take(self) -> int:
        """Read the lines spooled since the last call; return the number of records.

        While the key vault does not answer nothing is read: the lines wait in their files.
        """
        with self._lock:
            batch = self._read()
            self.series.read(batch.records)
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
        """Drop the evidence of every rollout but those with these salts."""
        self.evidence = {salt: evidence for salt, evidence in self.evidence.items() if salt in salts}

    def next_segments(self) -> list[Segment]:
        """Write the segments of the unsealed records; call `sealed` when their facts are on record.

        A batch that was planned but not finished is written again under the same names. Empty where there is nothing.

        Raises:
            UnavailableError: the vault or the disk failed; the next call tries again.
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
        """Finish the batch of `next_segments` after its facts are recorded: erase its lines from the spools.

        Args:
            alive: whether a process with this id runs.

        Raises:
            UnavailableError: a file cannot be changed; the next call tries again.
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

    def cut_off(self, reported: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, int, int]]:
        """What replicas had reported and the spools, read to their end since, do not hold; see `Series.cut_off`."""
        self.take()
        with self._lock:
            return self.series.cut_off(reported) if self._reader.caught_up else []

    def gone(self, alive: set[str]) -> dict[str, Counts]:
        """What writers had reported whose replica is not alive and has no spool any more."""
        with self._lock:
            return self.series.gone(alive | spooling_replicas(self._settings.spool))

    def _resume(self) -> None:
        """Continue the batch that an earlier controller planned and did not finish."""
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
                    continue  # it was sealed during this call
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
        kept = self._vault.key_states({record["subject"] for record in waiting})
        yield [record | {"person": READABLE if kept[record["subject"]] == "kept" else ERASED} for record in waiting]
        for frame in read_segments(self._settings.decisions, release.model, _SEGMENTS_MOST):
            rows = sorted(frame.to_dicts(), key=lambda row: str(row["at"]), reverse=True)
            if rows and _is_older(rows, str(release.promoted_at)):
                return
            yield unseal([row for row in rows if _is_champions(row, release)], self._vault)

    def _waiting(self) -> list[Record]:
        """Records read and not sealed. Read these before the segments: a record sealed meanwhile is then in both."""
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
                if "subject" not in row and row["type"] == "decision":  # from before pseudonyms were introduced
                    row["subject"] = self._vault.existing_pseudonym(row["key"]) or row["key"]
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
    """Whether the newest row is older than `moment`; both are UTC but formatted differently after the seconds."""
    return max(str(row["at"]) for row in rows)[:19] < moment[:19]
