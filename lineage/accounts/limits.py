"""Limits on sign-ins, counted at entry: guessing is slow, and no number of guesses keeps everybody out.

Attempts from a device that signed in to the account before are counted for themselves, so that failures elsewhere do
not lock its owner out (OWASP Authentication Cheat Sheet, device cookies). All others are counted by name and address,
and by name alone.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lineage.clock import Clock, stamp
from lineage.errors import RefusedError

WINDOW = timedelta(minutes=5)
BY_ADDRESS, BY_NAME = 10, 100
_BUCKETS_MOST = 20_000
_SOURCES_MOST = 20
Bucket = tuple[str, str]


@dataclass
class _Report:
    """Failures since the last report."""

    since: datetime
    failed: int = 0
    turned_away: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    accounts: Counter[str] = field(default_factory=Counter)


class SignInLimits:
    """Counts attempts by bucket over the last five minutes, in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._attempts: dict[Bucket, deque[datetime]] = {}
        self._report = _Report(clock())

    def enter(self, name: str, source: str, device: str | None) -> list[Bucket]:
        """Count an attempt before its password is looked at; give the buckets to `succeeded`.

        Args:
            name: the name as given, or the account's id.
            source: address of the caller.
            device: a device that signed in to this account before, or None.

        Raises:
            RefusedError: too many attempts (429); the attempt is not heard.
        """
        wanted: list[tuple[Bucket, int]] = [((name, f"device {device}"), BY_ADDRESS)]
        if device is None:
            wanted = [((name, f"from {source}"), BY_ADDRESS), ((name, ""), BY_NAME)]
        for bucket, most in wanted:
            if len(self._recent(bucket)) >= most:
                self.turned_away(source)
                raise RefusedError(
                    f"{most} attempts for this name within {WINDOW.seconds // 60} minutes; wait, or use a device "
                    "that signed in before",
                    code="throttled",
                    status=429,
                )
        for bucket, _ in wanted:
            self._recent(bucket).append(self._clock())
        return [bucket for bucket, _ in wanted]

    def succeeded(self, buckets: list[Bucket]) -> None:
        """Forget the attempts of these buckets; those by name alone stay but for this one."""
        for bucket in buckets:
            if bucket[1]:
                self._attempts.pop(bucket, None)
            elif self._attempts.get(bucket):
                self._attempts[bucket].pop()

    def failed(self, source: str, account: str | None) -> None:
        """Note a failure for the record: its address, and the account where there is one of that name."""
        self._report.failed += 1
        self._report.sources[source] += 1
        if account is not None:
            self._report.accounts[account] += 1

    def turned_away(self, source: str) -> None:
        """Note an attempt that was not heard."""
        self._report.turned_away += 1
        self._report.sources[source] += 1

    def take_report(self) -> dict[str, object] | None:
        """The data of a SignInsFailed fact since the last call; None where nothing failed."""
        report, now = self._report, self._clock()
        self._report = _Report(now)
        if not report.failed and not report.turned_away:
            return None
        return {
            "since": stamp(report.since),
            "until": stamp(now),
            "failed": report.failed,
            "turned_away": report.turned_away,
            "sources": dict(report.sources.most_common(_SOURCES_MOST)),
            "accounts": dict(report.accounts.most_common(_SOURCES_MOST)),
        }

    def _recent(self, bucket: Bucket) -> deque[datetime]:
        if bucket not in self._attempts and len(self._attempts) >= _BUCKETS_MOST:
            self._drop_old()
        found = self._attempts.setdefault(bucket, deque())
        while found and found[0] <= self._clock() - WINDOW:
            found.popleft()
        return found

    def _drop_old(self) -> None:
        """Forget buckets without recent attempts; where all are recent, the oldest half."""
        limit = self._clock() - WINDOW
        fresh = {bucket: found for bucket, found in self._attempts.items() if found and found[-1] > limit}
        if len(fresh) >= _BUCKETS_MOST:
            newest = sorted(fresh, key=lambda bucket: fresh[bucket][-1])[_BUCKETS_MOST // 2 :]
            fresh = {bucket: fresh[bucket] for bucket in newest}
        self._attempts = fresh
