"""The life cycle of a release: the table of states and facts, and the table of the journey's verbs.

Invariants (each is a guard or a row below, checked inside append):
- nothing reaches live traffic without every check of its policy passed (`CandidateValidated` needs them);
- nothing is promoted without an approval by a person other than its author;
- a digest once quarantined, rejected or rolled back never carries traffic again;
- every state has a way out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The state of a release."""

    TRAINED = "trained"
    VALIDATED = "validated"
    REJECTED = "rejected"
    REGISTERED = "registered"
    CANARY = "canary"
    REVIEW = "review"
    APPROVED = "approved"
    ROLLOUT = "rollout"
    CHAMPION = "champion"
    RETIRED = "retired"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    QUARANTINED = "quarantined"


#: Carries, or may soon carry, live traffic beside the champion: at most one release of a model at a time.
IN_FLIGHT = frozenset({State.CANARY, State.REVIEW, State.APPROVED, State.ROLLOUT})
#: A digest in one of these never answers again.
BARRED = frozenset({State.REJECTED, State.QUARANTINED, State.ROLLING_BACK, State.ROLLED_BACK})

S = State
TRANSITIONS: dict[tuple[State, str], State] = {
    (S.TRAINED, "CheckCompleted"): S.TRAINED,
    (S.TRAINED, "CandidateValidated"): S.VALIDATED,
    (S.TRAINED, "CandidateRejected"): S.REJECTED,
    (S.VALIDATED, "ReleaseRegistered"): S.REGISTERED,
    (S.REGISTERED, "CanaryStarted"): S.CANARY,
    (S.REGISTERED, "ShadowStarted"): S.REGISTERED,
    (S.REGISTERED, "ShadowStopped"): S.REGISTERED,
    (S.CANARY, "CanaryStepped"): S.CANARY,
    (S.CANARY, "CanaryHeld"): S.CANARY,
    (S.CANARY, "ReviewRequested"): S.REVIEW,
    (S.REVIEW, "CanaryHeld"): S.REVIEW,
    (S.REVIEW, "ReviewDecided"): S.APPROVED,  # a rejection leads to REJECTED, see `after`
    (S.REVIEW, "RolloutStepped"): S.ROLLOUT,  # only where the policy wants no review, see `guards`
    (S.APPROVED, "CanaryHeld"): S.APPROVED,
    (S.APPROVED, "RolloutStepped"): S.ROLLOUT,
    (S.ROLLOUT, "RolloutStepped"): S.ROLLOUT,
    (S.ROLLOUT, "CanaryHeld"): S.ROLLOUT,
    (S.ROLLOUT, "ReleasePromoted"): S.CHAMPION,
    (S.CHAMPION, "ChampionRetired"): S.RETIRED,
    (S.CHAMPION, "RollbackOrdered"): S.ROLLING_BACK,
    (S.ROLLING_BACK, "ReleaseRolledBack"): S.ROLLED_BACK,
    # A retired release becomes the champion as soon as a rollback to it is ordered; it may have to step down in turn.
    (S.RETIRED, "ChampionReinstated"): S.CHAMPION,
    (S.RETIRED, "RollbackOrdered"): S.ROLLING_BACK,
    (S.CHAMPION, "ChampionReinstated"): S.CHAMPION,  # rolled back to before its retirement was on record
} | {(state, "CanaryAborted"): S.QUARANTINED for state in IN_FLIGHT}


def after(state: State, kind: str, decision: str | None = None) -> State | None:
    """The state after a fact of this kind; None if it may not follow."""
    if kind == "ReviewDecided" and decision == "reject":
        return S.REJECTED if state is S.REVIEW else None
    return TRANSITIONS.get((state, kind))


def allowed(state: State) -> list[str]:
    """Kinds of facts that may follow in this state, sorted."""
    return [kind for (origin, kind) in TRANSITIONS if origin is state]


@dataclass(frozen=True)
class Verb:
    """One step of the journey: a verb, its file, its actor and the facts it records."""

    name: str
    file: str
    acts: str
    facts: tuple[str, ...]


JOURNEY = (
    Verb("train", "training/train.py", "Ray job", ("DatasetPinned", "ModelTrained")),
    Verb(
        "validate",
        "validators/validate.py",
        "Ray job",
        ("CheckCompleted", "CandidateValidated", "CandidateRejected"),
    ),
    Verb("register", "training/register.py", "Ray job", ("ReleaseRegistered",)),
    Verb("canary", "serve/canary.py", "controller", ("CanaryStarted", "CanaryStepped", "CanaryHeld", "CanaryAborted")),
    Verb("review", "console/review.py", "a person", ("ReviewRequested", "ReviewDecided")),
    Verb("promote", "serve/promote.py", "controller", ("RolloutStepped", "ReleasePromoted", "ChampionRetired")),
    Verb(
        "monitor",
        "serve/monitor.py",
        "controller",
        ("DecisionsSealed", "DriftMeasured", "FairnessMeasured", "AlertRaised", "RetrainRequested"),
    ),
    Verb(
        "rollback",
        "serve/rollback.py",
        "controller or person",
        ("RollbackOrdered", "ReleaseRolledBack", "ChampionReinstated"),
    ),
)
