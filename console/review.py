"""Step 5 of the journey, *review*: a second person approves or rejects a release on the evidence of its canary.

The ledger decides; what stands here says the same thing early, so that a button that would be refused is shown as such
with its reason. Facts of this step: `ReviewRequested` (the controller asks) and `ReviewDecided` (a person answers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lineage.rules.roles import PEOPLE_MAY

Json = dict[str, Any]
Decision = Literal["approve", "reject"]
#: A reason shorter than this says nothing to an examiner.
REASON_LEAST = 8


@dataclass(frozen=True)
class Call:
    """One mutating call to the ledger: where, and with which body. Key and etag are added when it is sent."""

    path: str
    body: Json


def roles(kind: str) -> str:
    """Who may state a fact of this kind, in words: `operator or validator`."""
    return " or ".join(sorted(PEOPLE_MAY.get(kind, frozenset()))) or "nobody but the platform"


def why_not(release: Json, name: str, role: str) -> str | None:
    """Why this person may not decide on the release now; None when they may."""
    if release["state"] != "review":
        return f"{release['release']} is {release['state']}; it does not wait for a review."
    if name == release["author"]:
        return f"You are the author of {release['release']}. A second person has to decide."
    if role not in PEOPLE_MAY["ReviewDecided"]:
        return f"Your role is {role}. A {roles('ReviewDecided')} can decide."
    return None


def decide(release: Json, decision: Decision, reason: str) -> Call:
    """The call that records the decision; the ledger adds digest, person and time.

    Raises:
        ValueError: the reason is too short to mean anything.
    """
    if len(reason.strip()) < REASON_LEAST:
        raise ValueError(f"Give a reason of at least {REASON_LEAST} characters.")
    return Call(f"/v1/releases/{release['release']}/review", {"decision": decision, "reason": reason.strip()})
