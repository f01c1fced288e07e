"""Step 5 of the journey, *review*: a second person approves or rejects a release on the evidence of its canary.

The ledger decides who may; this is the call. Facts of this step: `ReviewRequested` (the controller asks) and
`ReviewDecided` (a person answers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
Decision = Literal["approve", "reject"]
#: A reason shorter than this says nothing to an examiner.
REASON_LEAST = 8


@dataclass(frozen=True)
class Call:
    """One mutating call to the ledger: where, and with which body. Key and ETag are added when it is sent."""

    path: str
    body: Json


def decide(release: str, decision: Decision, reason: str) -> Call:
    """The call that records the decision; the ledger adds digest, person and time.

    Raises:
        ValueError: the reason is too short to mean anything.
    """
    return Call(f"/v1/releases/{release}/review", {"decision": decision, "reason": reason_given(reason)})


def reason_given(reason: str) -> str:
    """The reason without spaces around it.

    Raises:
        ValueError: it is too short to mean anything.
    """
    if len(reason.strip()) < REASON_LEAST:
        raise ValueError(f"Give a reason of at least {REASON_LEAST} characters.")
    return reason.strip()
