"""Evidence of a rollout: counts of subjects and events per arm, folded from decision and outcome records.

- A subject is a customer, identified by the pseudonym in `subject`, so an erased customer still counts. Only the first
  decision about a subject in a rollout counts, and outcomes belong to that decision: a customer who asks ten times is
  one subject, on the arm of the first decision.
- A decision belongs to the arm its customer was assigned to, not to the model that answered: where the champion
  replaces a failing challenger, the failure is the challenger's.
- Counts are kept apart by the share in force (`strata`), because the share is the chance that the tests bet on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
SHADOW: Final = "shadow"
ARMS = (CHAMPION, CHALLENGER)
#: Outcomes read before their decision, which another replica wrote; beyond this number they are dropped.
_ORPHANS_MOST = 10_000


@dataclass
class Tally:
    """One arm under one share: subjects, and how many of them had each event."""

    subjects: int = 0
    errors: int = 0
    slow: int = 0
    outcomes: int = 0
    wrong_decisions: int = 0


@dataclass(frozen=True)
class Count:
    """`events` of `n` subjects."""

    n: int
    events: int


@dataclass(frozen=True)
class Stratum:
    """Both arms of one metric while one share was in force."""

    share: float
    champion: Count
    challenger: Count


@dataclass
class _FirstDecision:
    share: float
    arm: str
    adverse: bool
    judged: bool = False


@dataclass
class Evidence:
    """Counts of one rollout, as the judge uses them.

    Args:
        salt: identifies the rollout; records of other rollouts are ignored.
        share: the share in force now, in (0, 1].
        slow_milliseconds: a decision that took longer is a slow one.
    """

    salt: str
    share: float
    slow_milliseconds: float
    tallies: dict[float, dict[str, Tally]] = field(default_factory=dict)
    latest: dict[str, datetime] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)
    _active: dict[float, dict[str, set[str]]] = field(default_factory=dict)
    _first: dict[str, _FirstDecision] = field(default_factory=dict)
    _orphans: dict[str, int] = field(default_factory=dict)

    def observe(self, record: Mapping[str, Any]) -> None:
        """Count one spool record: a decision or an outcome, in any order."""
        if record["type"] == "outcome":
            self._outcome(record["decision_id"], record["outcome"])
        elif record["rollout"] == self.salt and record["purpose"] == "customer" and record["arm"] in ARMS:
            self._decision(record)

    def active(self, arm: str) -> int:
        """Number of distinct subjects on this arm under the share in force."""
        return len(self._active.get(self.share, {}).get(arm, ()))

    def subjects(self, arm: str) -> int:
        """Number of distinct subjects on this arm since the rollout began."""
        return sum(arms[arm].subjects for arms in self.tallies.values())

    def strata(self, metric: str) -> list[Stratum]:
        """Counts of one metric (`errors`, `slow` or `wrong_decisions`), one entry per share."""
        exposed = "outcomes" if metric == "wrong_decisions" else "subjects"
        return [
            Stratum(share, *(Count(getattr(arms[arm], exposed), getattr(arms[arm], metric)) for arm in ARMS))
            for share, arms in sorted(self.tallies.items())
        ]

    def _decision(self, record: Mapping[str, Any]) -> None:
        share, arm = float(record["share"]), str(record["arm"])
        subject = str(record.get("subject") or record["key"])
        at = datetime.fromisoformat(record["at"])
        self.latest[arm] = max(at, self.latest.get(arm, at))
        self._active.setdefault(share, {name: set() for name in ARMS})[arm].add(subject)
        if subject in self._known:
            return
        self._known.add(subject)
        tally = self.tallies.setdefault(share, {name: Tally() for name in ARMS})[arm]
        tally.subjects += 1
        tally.errors += record["error"] is not None
        tally.slow += record["latency_ms"] > self.slow_milliseconds
        self._first[record["decision_id"]] = _FirstDecision(share, arm, bool(record["adverse"]))
        outcome = self._orphans.pop(record["decision_id"], None)
        if outcome is not None:
            self._outcome(record["decision_id"], outcome)

    def _outcome(self, decision_id: str, outcome: int) -> None:
        first = self._first.get(decision_id)
        if first is None:
            if len(self._orphans) < _ORPHANS_MOST:
                self._orphans[decision_id] = outcome
            return
        if first.judged:
            return  # only the first outcome of a decision counts
        first.judged = True
        tally = self.tallies[first.share][first.arm]
        tally.outcomes += 1
        tally.wrong_decisions += first.adverse != bool(outcome)
