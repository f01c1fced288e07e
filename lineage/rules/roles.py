"""Roles: which person, service or process may state which kind of fact."""

from __future__ import annotations

from lineage.errors import RefusedError
from lineage.rules.proposal import Actor

_STOPPERS = frozenset({"operator", "validator"})
#: What a person may do.
PEOPLE_MAY: dict[str, frozenset[str]] = {
    "CanaryStarted": frozenset({"operator"}),
    "CanaryAborted": frozenset({"operator", "validator"}),
    "ReviewDecided": frozenset({"validator"}),
    "RolloutStepped": frozenset({"operator"}),
    "RollbackOrdered": frozenset({"operator"}),
    "RetrainRequested": frozenset({"scientist", "operator"}),
    "ShadowStarted": frozenset({"operator"}),
    "ShadowStopped": frozenset({"operator"}),
    "KillSwitchPulled": _STOPPERS,
    "KillReleaseRequested": _STOPPERS,
    "KillSwitchReleased": _STOPPERS,
}
#: What no machine may decide. A service may state every other fact that is not the ledger's own.
HUMAN_ONLY = frozenset({"ReviewDecided", "KillSwitchPulled", "KillReleaseRequested", "KillSwitchReleased"})
PLATFORM = "platform"  # the ledger service itself
#: What a person may have done about a data subject. The ledger service does it and alone states the fact, which says
#: for whom: to erase is an operation, which whoever audits must not do; to hold is safe, to release a hold is not.
SUBJECTS_MAY: dict[str, frozenset[str]] = {
    "SubjectErased": frozenset({"operator"}),
    "HoldPlaced": frozenset({"auditor", "operator"}),
    "HoldReleased": frozenset({"auditor"}),
}
#: What the ledger service alone states: what it did itself, or saw somebody be refused.
LEDGER_ONLY = frozenset(
    {"LedgerOpened", "RulesActivated", "AccountAdded", "PasswordReset", "SignedIn", "ActionRefused", *SUBJECTS_MAY}
)
SEES_SUBJECTS = frozenset({"auditor", "operator"})  # may see what a decision says about a person


def may(kind: str, actor: Actor, author: str | None = None) -> None:
    """Let the person pass or refuse, whatever the state.

    Args:
        author: of the release that the fact is about.

    Raises:
        RefusedError: the author would decide on their own release, or the role may not state this kind (403).
    """
    if kind == "ReviewDecided" and actor.name == author:
        raise RefusedError(
            f"{actor.name} is the author of this release; a second person has to decide", code="four_eyes", status=403
        )
    if kind not in HUMAN_ONLY and (actor.role == PLATFORM or (actor.role == "service" and kind not in LEDGER_ONLY)):
        return
    roles = PEOPLE_MAY.get(kind, frozenset())
    if actor.role not in roles:
        others = "the ledger service itself" if kind in LEDGER_ONLY else "a service of the platform"
        who = f"role {' or '.join(sorted(roles))}" if roles else others
        raise RefusedError(
            f"{actor.name} has role {actor.role}, which may not state {kind}; {who} may", code="role", status=403
        )


def may_ask(kind: str, actor: Actor) -> None:
    """Let the person have something done about a data subject, or refuse.

    Raises:
        RefusedError: the role may not (403).
    """
    roles = SUBJECTS_MAY[kind]
    if actor.role not in roles:
        message = f"{actor.name} has role {actor.role}, which may not ask for {kind}"
        raise RefusedError(f"{message}; role {' or '.join(sorted(roles))} may", code="role", status=403)
