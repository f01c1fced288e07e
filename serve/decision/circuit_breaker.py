"""Circuit breaker of a champion: while it is open the baseline answers, until a trial shows that the champion works.

Closed, open, half-open, per model and replica. It opens on failures (consecutive, or too large a share of the last
answers) and on suspicious answers: the same score for many different rows, or a share of favourable decisions that the
policy calls impossible. After a rest, twice as long each time, a keyed sample of the customers is answered by the
champion again; enough good answers close it, one bad answer opens it. A trial that takes too long draws another sample,
so it does not depend on customers who do not return.

Pure but for the clock. Numbers are the policy's (`lineage.policy.BreakerLimits`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from lineage.policy import BreakerLimits
from serve.decision.traffic_split import position_of

Failure = Literal["errors", "slow", "not_a_probability", "explanation", "stale_features"]
State = Literal["closed", "open", "half-open"]
CONSTANT, APPROVAL = "constant_scores", "approval_rate"


@dataclass(frozen=True)
class Change:
    """The breaker opened, because of `evidence`; or it closed after `seconds`, in which the baseline gave `answers`.

    times: openings since it was last closed for long.
    """

    opened: bool
    cause: str
    evidence: dict[str, Any]
    times: int
    seconds: float = 0.0
    answers: int = 0


@dataclass
class _Window:
    """The last answers: failures, favourable decisions, and how many different rows in a row had the same score."""

    most: int
    spread: float
    lines: deque[tuple[Failure | None, bool]] = field(default_factory=deque)
    failures: Counter[str] = field(default_factory=Counter)
    favourable: int = 0
    in_a_row: int = 0
    low: float = 0.0
    high: float = 0.0
    rows: set[bytes] = field(default_factory=set)

    @property
    def answered(self) -> int:
        return len(self.lines) - self.failures.total()

    def add(self, failure: Failure | None, favourable: bool) -> None:
        self.lines.append((failure, favourable))
        self._count(failure, favourable, 1)
        self.in_a_row = self.in_a_row + 1 if failure else 0
        if len(self.lines) > self.most:
            self._count(*self.lines.popleft(), -1)

    def _count(self, failure: Failure | None, favourable: bool, one: int) -> None:
        if failure:
            self.failures[failure] += one
        else:
            self.favourable += one * favourable

    def compare(self, row: bytes, score: float) -> int:
        """Number of different rows in a row whose scores lie within `spread`, this one included."""
        low, high = min(self.low, score), max(self.high, score)
        if self.rows and high - low <= self.spread:
            self.low, self.high = low, high
            self.rows.add(row)
        else:
            self.low = self.high = score
            self.rows = {row}
        return len(self.rows)


class Breaker:
    """The breaker of one champion.

    Args:
        spread: scores that differ by at most this count as the same score.
        salt: makes the sample of a trial differ between replicas and champions.
        on_change: called with every change.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        limits: BreakerLimits,
        on_change: Callable[[Change], None],
        clock: Callable[[], float],
        *,
        salt: str = "",
        spread: float = 0.0,
    ) -> None:
        self._limits, self._on_change, self._clock, self._salt, self._spread = limits, on_change, clock, salt, spread
        self.state: State = "closed"
        self.cause = ""
        self._seen = self._empty_window()
        self._since = self._period = clock()
        self._times = self._samples = self._baseline_answers = 0

    def allows(self, key: str) -> bool:
        """Whether the champion may answer this customer."""
        if self.state == "closed":
            return True
        now = self._clock()
        if self.state == "open" and now - self._period >= self._rest:
            self._half_open(now)
        if self.state == "half-open":
            if now - self._period >= self._limits.trial_seconds:
                self._period, self._samples = now, self._samples + 1  # no customer of the sample came
            if position_of(key, f"{self._salt}:{self._samples}") < self._limits.trial_share:
                return True
        self._baseline_answers += 1
        return False

    def record_failure(self, cause: Failure) -> None:
        """Count a failure of the champion."""
        self._seen.add(cause, favourable=False)
        if self.state == "half-open":
            self._open(cause, {"trial": self._seen.answered, "failures": 1})
        elif self.state == "closed":
            self._look_at_failures(cause)

    def record_answer(self, row: bytes, score: float, *, favourable: bool) -> None:
        """Count an answer of the champion.

        Args:
            row: bytes of the row, to distinguish rows.
        """
        self._seen.add(None, favourable=favourable)
        same = self._seen.compare(row, score)
        if self.state == "half-open":
            self._look_at_trial(same)
        elif self.state == "closed":
            self._look_at_answers(same, score)

    def close(self, cause: str) -> None:
        """Close the breaker because the champion is replaced; `cause` is reported where it was open."""
        if self.state != "closed":
            self._close(cause)

    @property
    def _rest(self) -> float:
        doubled = self._limits.rest_seconds * 2.0 ** min(self._times - 1, 30)
        return min(doubled, self._limits.rest_most_seconds)

    def _empty_window(self) -> _Window:
        return _Window(self._limits.window, self._spread)

    def _look_at_failures(self, cause: Failure) -> None:
        seen, limits = self._seen, self._limits
        total, known = seen.failures.total(), len(seen.lines)
        if seen.in_a_row >= limits.in_a_row:
            self._open(cause, {"in_a_row": seen.in_a_row})
        elif known >= limits.minimum and total / known >= limits.failure_share:
            most = seen.failures.most_common(1)[0][0]
            self._open(most, {"failures": total, "of": known, "causes": dict(seen.failures)})

    def _look_at_answers(self, same: int, score: float) -> None:
        seen, limits = self._seen, self._limits
        if same >= limits.same_scores:
            self._open(CONSTANT, {"rows": same, "score": score, "within": self._spread})
        elif seen.answered >= limits.window and self._is_impossible(seen):
            self._open(APPROVAL, {"favourable": seen.favourable, "of": seen.answered})

    def _look_at_trial(self, same: int) -> None:
        seen, limits = self._seen, self._limits
        if seen.answered < limits.trials:
            return
        if same == seen.answered and same >= min(limits.trials, limits.same_scores) > 1:
            self._open(CONSTANT, {"rows": same, "trial": seen.answered})
        elif self.cause == APPROVAL and self._is_impossible(seen):
            self._open(APPROVAL, {"favourable": seen.favourable, "of": seen.answered})
        else:
            self._close("trial passed")

    def _is_impossible(self, seen: _Window) -> bool:
        low, high = self._limits.favourable_low, self._limits.favourable_high
        share = seen.favourable / seen.answered
        return (low is not None and share < low) or (high is not None and share > high)

    def _open(self, cause: str, evidence: dict[str, Any]) -> None:
        now = self._clock()
        if self.state == "closed":
            if now - self._since >= self._limits.rest_most_seconds:
                self._times = 0  # it worked for long
            self._since, self._baseline_answers = now, 0
        self.state, self.cause, self._period = "open", cause, now
        self._times += 1
        self._seen = self._empty_window()
        self._on_change(Change(True, cause, evidence, self._times))

    def _close(self, cause: str) -> None:
        now = self._clock()
        self.state, self._seen = "closed", self._empty_window()
        self._on_change(Change(False, cause, {}, self._times, now - self._since, self._baseline_answers))
        self.cause, self._since = "", now

    def _half_open(self, now: float) -> None:
        self.state, self._period = "half-open", now
        self._samples += 1
        self._seen = self._empty_window()
