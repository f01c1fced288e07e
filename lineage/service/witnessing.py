"""Whether control facts are cosigned: waits for the witness within a bound, and records when it is away or back.

A control fact (approval, promotion, release of a kill switch, erasure, keys) is answered once the witness cosigned a
checkpoint that counts it. A witness that does not answer holds nothing up for longer than the bound: the platform then
goes on in degraded mode, which is on record (`WitnessAway`), in the answer (`witnessed` false), in `/healthz`, in the
metrics and on every page. Stops never wait.
"""

from __future__ import annotations

import structlog

from lineage.clock import Clock, stamp
from lineage.errors import PlimsollError, TamperedError
from lineage.ledger import Ledger
from lineage.rules.draft import Draft, Record
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM
from lineage.witness.cosigner import Cosigner

#: Kinds of facts whose answer waits for the witness. None of them stops anything.
CONTROL_FACTS = frozenset(
    {
        *("ReviewDecided", "RolloutStepped", "ReleasePromoted", "KillSwitchReleased"),
        *("SubjectErased", "KeyRotated", "KeyRevoked"),
    }
)
_FAILURES = 3  # in a row, about two seconds, before an absence without a control fact is recorded
_WHY_CHARACTERS = 1_000
_LEDGER = Actor("ledger", PLATFORM)
log = structlog.get_logger("plimsoll.ledger")


class Witnessing:
    """Waits for cosignatures of control facts, and records the witness's absence and return.

    Args:
        ledger: records are made there.
        cosigner: None without a witness; then nothing waits.
        seconds: longest wait for one cosignature.
        clock: gives the time since when the witness is away.
    """

    def __init__(self, ledger: Ledger, cosigner: Cosigner | None, seconds: float, clock: Clock) -> None:
        self._ledger, self._cosigner = ledger, cosigner
        self._seconds, self._clock = seconds, clock

    def witnessed(self, record: Record) -> dict[str, bool | None]:
        """What the answer to an action says beside its record: `witnessed` for a control fact, else nothing.

        None without a witness, False in degraded mode.
        """
        if record["kind"] not in CONTROL_FACTS:
            return {}
        if self._cosigner is None:
            return {"witnessed": None}
        if self._cosigner.wait_for(record["seq"], self._seconds):
            return {"witnessed": True}
        self.record_absence()
        return {"witnessed": False}

    def record_absence(self, why: str | None = None, *, at_opening: bool = False) -> None:
        """Record that the witness is away, unless that is on record."""
        if self._cosigner is None or (self._ledger.state.away is not None and not at_opening):
            return
        state = self._cosigner.state()
        why = why or state["refused"] or state["problem"] or f"no cosignature within {self._seconds:g} s"
        since = state["unreachable_since"] or stamp(self._clock())
        data = {"since": since, "cosigned": state["cosigned_size"], "at_opening": at_opening}
        self._record("WitnessAway", data | {"why": why[:_WHY_CHARACTERS]})

    def after_round(self) -> None:
        """Record what the last round of the cosigner changed; called by its thread."""
        if self._cosigner is None:
            return
        if self._cosigner.failures >= _FAILURES:
            self.record_absence()
        away = self._ledger.state.away
        if away is not None and not self._cosigner.failures and self._cosigner.compared:
            self._record("WitnessBack", {"since": away.since, "cosigned": self._cosigner.cosigned})

    def _record(self, kind: str, data: dict[str, object]) -> None:
        try:
            self._ledger.append(Draft(kind, _LEDGER, data))
        except TamperedError:
            raise
        except PlimsollError as error:  # e.g. another thread recorded it a moment before, or the log is closed
            log.warning("not recorded", kind=kind, message=error.message)
