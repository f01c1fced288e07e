"""Roles: which person, service or process may state which kind of fact."""

from __future__ import annotations

from lineage.errors import RefusedError
from lineage.rules.proposal import Actor
from lineage.state.entities import Release

PLATFORM = "platform"  # the ledger service itself
#: Roles of people. An admin grants roles and can do nothing else.
PEOPLE = ("scientist", "validator", "operator", "auditor", "admin")
#: Roles of machines outside the platform: ask for decisions, report outcomes.
CALLER_ROLES = ("client", "outcomes")
#: Machine accounts that the platform makes for itself, with their roles.
PLATFORM_MACHINES: dict[str, tuple[str, ...]] = {
    "controller": ("controller",),
    "trainer": ("trainer",),
    "client": CALLER_ROLES,
    "recovery": ("recovery",),
}
#: Machine roles that state facts for the platform and read what it needs.
SERVICES = frozenset({"controller", "trainer"})
#: Roles that may read the record: all but those of callers, and of admins, who look after accounts only.
READERS = frozenset({"scientist", "validator", "operator", "auditor"}) | SERVICES

_MAY_STOP = frozenset({"operator", "validator"})
_ADMIN = frozenset({"admin"})
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
    "KeyRotated": frozenset({"admin"}),
    "KeyRevoked": frozenset({"admin"}),
    "AccountRequested": _ADMIN,
    "AccountRequestWithdrawn": _ADMIN,
    "AccountAdded": _ADMIN,
    "RolesChanged": _ADMIN,
    "AccountDisabled": _ADMIN,
    "AccountEnabled": _ADMIN,
    "AccountRecertified": _ADMIN,
    "RecoveryConfirmed": _ADMIN,
    "PasswordReset": _ADMIN,
}
_CONTROLLER, _TRAINER = frozenset({"controller"}), frozenset({"trainer"})
#: Kinds of facts that each machine of the platform may state, since era 3.
MACHINES_MAY: dict[str, frozenset[str]] = {
    **dict.fromkeys(("DatasetPinned", "ModelTrained", "ReleaseRegistered"), _TRAINER),
    **dict.fromkeys(("CheckCompleted", "CandidateValidated", "CandidateRejected"), _TRAINER),
    **dict.fromkeys(("CanaryStepped", "CanaryHeld", "CanaryAborted", "ReviewRequested"), _CONTROLLER),
    **dict.fromkeys(("RolloutStepped", "ReleasePromoted", "ChampionRetired"), _CONTROLLER),
    **dict.fromkeys(("DecisionsSealed", "AnswersClosed", "DriftMeasured"), _CONTROLLER),
    "FairnessMeasured": _CONTROLLER | _TRAINER,
    **dict.fromkeys(("AlertRaised", "AlertClosed", "RetrainRequested", "EnvironmentReproduced"), _CONTROLLER),
    **dict.fromkeys(("ReleaseRolledBack", "ChampionReinstated", "ControllerStarted", "RouteApplied"), _CONTROLLER),
    **dict.fromkeys(("BreakerOpened", "BreakerClosed", "ShadowStopped"), _CONTROLLER),
    **dict.fromkeys(("JobStarted", "JobFinished"), _CONTROLLER | _TRAINER),
    "AccountRecovered": frozenset({"recovery"}),
}
#: Facts that only people may state. In eras 1 and 2 a service may state all others except those in `LEDGER_ONLY`.
HUMAN_ONLY = frozenset(
    {"ReviewDecided", "KillSwitchPulled", "KillReleaseRequested", "KillSwitchReleased", "KeyRotated", "KeyRevoked"}
)
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
#: Facts that only the ledger service may state in eras 1 and 2: its own acts, and refusals.
LEDGER_ONLY = frozenset(
    {
        *("LedgerOpened", "RulesActivated", "AccountAdded", "PasswordReset", "SignedIn", "ActionRefused"),
        *("WitnessAway", "WitnessBack"),
        *SUBJECTS_MAY,
    }
)
#: Facts that the ledger service itself states since era 3.
LEDGER_MAY = frozenset(
    {
        *("LedgerOpened", "RulesActivated", "ActionRefused", "UnsafeUsed", "WitnessAway", "WitnessBack", *SUBJECTS_MAY),
        *("AccountAdded", "PasswordReset", "PasswordChosen", "SignedIn", "SignInsFailed"),
        "AlertRaised",  # about a champion whose signing key was revoked
    }
)
#: Acts that an author never does to their own release, since era 3; in eras 1 and 2 only the review was one.
_NOT_BY_AUTHOR = frozenset({"CanaryStarted", "ReviewDecided", "RolloutStepped"})
SUBJECT_READERS = frozenset({"auditor", "operator"})  # may see the fields of decisions about the person


def may(kind: str, actor: Actor, about: Release | None, era: int) -> None:
    """Refuse the actor unless its role may state this kind of fact, whatever the state.

    Args:
        kind: the kind of fact.
        actor: states the fact.
        about: the release that the fact is about, if any.
        era: the era whose roles apply.

    Raises:
        RefusedError: the author acts on their own release, or no role of the actor may state this kind (403).
    """
    _check_not_author(kind, actor, about, era)
    roles = roles_for(kind, era)
    if era < 3 and kind not in HUMAN_ONLY and actor.role in (PLATFORM, "service"):
        if actor.role == PLATFORM or kind not in LEDGER_ONLY:
            return
    elif actor.has(roles):
        return
    raise RefusedError(f"{_who(actor)}, which may not state {kind}; {_others(kind, roles)}", code="role", status=403)


def roles_for(kind: str, era: int) -> frozenset[str]:
    """Roles that may state this kind of fact; up to era 2 those of people only."""
    people = PEOPLE_MAY.get(kind, frozenset())
    if era < 3:
        return people - _ADMIN
    own = frozenset({PLATFORM}) if kind in LEDGER_MAY else frozenset()
    return people | MACHINES_MAY.get(kind, frozenset()) | READERS_LEAVE.get(kind, frozenset()) | own


def acting(kind: str, actor: Actor, era: int) -> str:
    """The role in which the actor states this kind of fact: the first of its roles that may."""
    roles = roles_for(kind, era)
    return next((role for role in actor.roles if role in roles), actor.role)


def check_subject_role(kind: str, actor: Actor) -> None:
    """Refuse the actor unless its role may request this action about a data subject.

    Raises:
        RefusedError: the role may not request it (403).
    """
    roles = SUBJECTS_MAY[kind]
    if not actor.has(roles):
        message = f"{_who(actor)}, which may not ask for {kind}"
        raise RefusedError(f"{message}; role {' or '.join(sorted(roles))} may", code="role", status=403)


def role_for_subject(kind: str, actor: Actor) -> str:
    """The role in which the actor requests an action about a data subject."""
    return next((role for role in actor.roles if role in SUBJECTS_MAY[kind]), actor.role)


def check_role(actor: Actor, roles: frozenset[str], what: str) -> None:
    """Refuse an actor that has none of these roles.

    Raises:
        RefusedError: says which roles may (403).
    """
    if not actor.has(roles):
        may_do = " or ".join(sorted(roles))
        raise RefusedError(f"{_who(actor)}, which may not {what}; role {may_do} may", code="role", status=403)


def _check_not_author(kind: str, actor: Actor, about: Release | None, era: int) -> None:
    own = about is not None and actor.person == about.author_id
    if own and (kind in _NOT_BY_AUTHOR if era >= 3 else kind == "ReviewDecided"):
        raise RefusedError(
            f"{actor.name} is the author of this release; a second person has to decide", code="four_eyes", status=403
        )


def _who(actor: Actor) -> str:
    return f"{actor.name} has role {' and '.join(actor.roles)}"


def _others(kind: str, roles: frozenset[str]) -> str:
    people = sorted(PEOPLE_MAY.get(kind, roles - {PLATFORM}))
    if people:
        return f"role {' or '.join(people)} may"
    return f"{'the ledger service itself' if kind in LEDGER_MAY | LEDGER_ONLY else 'a service of the platform'} may"
