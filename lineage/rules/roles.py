"""Roles: which person, service or process may state which kind of fact."""

from __future__ import annotations

from lineage.errors import RefusedError
from lineage.rules.proposal import Actor

_MAY_STOP = frozenset({"operator", "validator"})
#: Kinds of facts that people may state, with the roles allowed to.
PEOPLE_MAY: dict[str, frozenset[str]] = {
    "CanaryStarted": frozenset({"operator"}),
    "CanaryAborted": frozenset({"operator", "validator"}),
    "ReviewDecided": frozenset({"validator"}),
    "RolloutStepped": frozenset({"operator"}),
    "RollbackOrdered": frozenset({"operator"}),
    "RetrainRequested": frozenset({"scientist", "operator"}),
    "ShadowStarted": frozenset({"operator"}),
    "ShadowStopped": frozenset({"operator"}),
    "KillSwitchPulled": _MAY_STOP,
    "KillReleaseRequested": _MAY_STOP,
    "KillSwitchReleased": _MAY_STOP,
}
#: Facts that only people may state. A service may state all others except those in `LEDGER_ONLY`.
HUMAN_ONLY = frozenset({"ReviewDecided", "KillSwitchPulled", "KillReleaseRequested", "KillSwitchReleased"})
PLATFORM = "platform"  # the ledger service itself
#: Actions about data subjects, with the roles that may request them. The ledger service carries them out and states the
#: fact, which names the person who requested it. Auditors may not erase; operators may hold, but not release a hold.
SUBJECTS_MAY: dict[str, frozenset[str]] = {
    "SubjectErased": frozenset({"operator"}),
    "HoldPlaced": frozenset({"auditor", "operator"}),
    "HoldReleased": frozenset({"auditor"}),
}
#: Facts that the ledger service states in the name of the person who reads, before it answers. Services are not in
#: here: they measure on the segments, and no route shows them a decision.
READERS_LEAVE: dict[str, frozenset[str]] = {
    "PersonalDataRead": frozenset({"scientist", "validator", "operator", "auditor"})
}
#: Facts that only the ledger service may state: its own acts, and refusals.
LEDGER_ONLY = frozenset(
    {"LedgerOpened", "RulesActivated", "AccountAdded", "PasswordReset", "SignedIn", "ActionRefused", *SUBJECTS_MAY}
    | READERS_LEAVE.keys()
)
SUBJECT_READERS = frozenset({"auditor", "operator"})  # may see the fields of decisions about the person


def may(kind: str, actor: Actor, author: str | None = None) -> None:
    """Refuse the actor unless its role may state this kind of fact, whatever the state.

    Args:
        kind: the kind of fact.
        actor: states the fact.
        author: of the release that the fact is about, if any.

    Raises:
        RefusedError: the author reviews their own release, or the role may not state this kind (403).
    """
    if kind == "ReviewDecided" and actor.name == author:
        raise RefusedError(
            f"{actor.name} is the author of this release; a second person has to decide", code="four_eyes", status=403
        )
    if kind not in HUMAN_ONLY and (actor.role == PLATFORM or (actor.role == "service" and kind not in LEDGER_ONLY)):
        return
    roles = PEOPLE_MAY.get(kind) or READERS_LEAVE.get(kind, frozenset())
    if actor.role not in roles:
        others = "the ledger service itself" if kind in LEDGER_ONLY else "a service of the platform"
        who = f"role {' or '.join(sorted(roles))}" if roles else others
        raise RefusedError(
            f"{actor.name} has role {actor.role}, which may not state {kind}; {who} may", code="role", status=403
        )


def check_subject_role(kind: str, actor: Actor) -> None:
    """Refuse the actor unless its role may request this action about a data subject.

    Raises:
        RefusedError: the role may not request it (403).
    """
    roles = SUBJECTS_MAY[kind]
    if actor.role not in roles:
        message = f"{actor.name} has role {actor.role}, which may not ask for {kind}"
        raise RefusedError(f"{message}; role {' or '.join(sorted(roles))} may", code="role", status=403)
