"""The rules of each era: which rules a fact of a kind has to pass, in order.

A record is judged by the rules of the era in which it was written, so that an earlier ledger verifies for ever. What
changes a rule adds an era here and to `lineage.facts.eras`; the rules of an era that began somewhere stay as they are.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from lineage.digest import digest_of
from lineage.errors import RefusedError
from lineage.facts.eras import LATEST
from lineage.facts.registry import FACTS, shape_of
from lineage.lifecycle import TRANSITIONS
from lineage.rules import accounts, alerts, keys, release, safety, segments
from lineage.rules.proposal import Proposal, Rule
from lineage.rules.roles import HUMAN_ONLY, LEDGER_ONLY, roles_for

Rules = dict[str, tuple[Rule, ...]]


def is_next_era(p: Proposal) -> None:
    """Refuse an era that is not the one after the present one."""
    if p.data["era"] != p.state.era + 1:
        raise RefusedError(f"the era after {p.state.era} is {p.state.era + 1}, not {p.data['era']}", code="era")


#: Version 0.1.0.
_ERA_1: Rules = {
    "ModelTrained": (release.is_not_barred, release.author_matches_request, release.ruled_policy_is_readable),
    "CheckCompleted": (release.policy_matches,),
    "CandidateValidated": (release.every_check_passed,),
    "ReleaseRegistered": (release.is_not_barred, release.digest_matches),
    "CanaryStarted": (
        safety.is_not_killed,
        release.is_not_barred,
        release.no_other_in_flight,
        safety.no_other_shadow,
        release.control_of_canary_is_champion,
        release.no_other_with_same_bytes,
        release.next_share("canary"),
    ),
    "CanaryStepped": (
        safety.is_not_killed,
        release.judged_against_champion,
        release.next_share("canary"),
        release.judged_advance,
    ),
    "ReviewRequested": (release.judged_against_champion, release.steps_complete("canary"), release.judged_advance),
    "ReviewDecided": (release.digest_matches,),
    "RolloutStepped": (
        safety.is_not_killed,
        release.is_not_barred,
        release.judged_against_champion,
        release.is_approved,
        release.people_take_first_step_only,
        release.next_share("rollout"),
    ),
    "ReleasePromoted": (
        safety.is_not_killed,
        release.is_not_barred,
        release.judged_against_champion,
        release.is_approved,
        release.digest_matches,
        release.steps_complete("rollout"),
        release.replaces_champion,
        release.golden_rows_match,
    ),
    "ChampionRetired": (release.is_not_champion,),
    "RollbackOrdered": (release.is_champion_with_valid_target,),
    "ChampionReinstated": (release.is_rollback_target, release.golden_rows_match),
    "JobStarted": (release.request_is_known,),
    "JobFinished": (release.request_is_known,),
    "ShadowStarted": (release.is_not_barred, safety.no_other_beside_champion, release.no_other_with_same_bytes),
    "ShadowStopped": (safety.is_shadow,),
    "BreakerOpened": (safety.is_about_release_of_model,),
    "BreakerClosed": (safety.is_about_release_of_model, safety.is_open),
    "KillSwitchPulled": (safety.can_be_pulled,),
    "KillReleaseRequested": (safety.is_pulled, safety.is_not_requested_yet),
    "KillSwitchReleased": (safety.is_pulled, safety.is_requested, safety.confirms_as_second_person),
    "RulesActivated": (is_next_era,),
}
#: Version 0.2.0: the whole policy has to be readable; alerts that no measurement closes are closed by a fact.
_ERA_2: Rules = _ERA_1 | {
    "ModelTrained": (release.is_not_barred, release.author_matches_request, release.policy_is_readable),
    "AlertClosed": (alerts.is_open, alerts.is_closed_by_statement),
}
#: Version 0.3.0: people by account, machines by role, approved policies; a digest belongs to one release.
_ERA_3: Rules = _ERA_2 | {
    "RetrainRequested": (release.request_is_by_its_author,),
    "RolloutStepped": (*_ERA_2["RolloutStepped"], release.person_takes_first_step),
    "AccountRequested": (
        accounts.name_is_free,
        accounts.account_is_known,
        accounts.roles_fit,
        accounts.is_not_own,
        accounts.request_changes_something,
    ),
    "AccountRequestWithdrawn": (accounts.is_open_request,),
    "AccountAdded": (
        accounts.name_is_free,
        accounts.roles_fit,
        accounts.first_accounts_only,
        accounts.is_granted_by_two,
    ),
    "RolesChanged": (
        accounts.account_is_known,
        accounts.roles_fit,
        accounts.is_not_own,
        accounts.is_granted_by_two,
    ),
    "AccountDisabled": (accounts.account_is_known, accounts.is_not_own, accounts.is_active),
    "AccountEnabled": (accounts.account_is_known, accounts.is_not_own, accounts.is_granted_by_two),
    "AccountRecertified": (accounts.account_is_known, accounts.is_not_own, accounts.confirms_roles),
    "AccountRecovered": (accounts.recovers_admin,),
    "RecoveryConfirmed": (accounts.confirms_recovery,),
    "PasswordReset": (accounts.account_is_known, accounts.is_not_own, accounts.is_granted_by_two),
    "PasswordChosen": (accounts.account_is_known,),
    "SignedIn": (accounts.account_is_active,),
    "ReleaseRegistered": (
        *_ERA_2["ReleaseRegistered"],
        release.bytes_were_never_barred,
        keys.signing_key_counts,
    ),
    "ModelTrained": (release.bytes_are_new, release.author_matches_request, release.policy_is_readable),
    "CanaryStarted": (*_ERA_2["CanaryStarted"], release.bytes_were_never_barred),
    "ShadowStarted": (*_ERA_2["ShadowStarted"], release.bytes_were_never_barred),
    "KeyRotated": (keys.replaces_key_in_force, keys.signs_without_overlap),
    "KeyRevoked": (keys.revokes_former_key,),
    "WitnessAway": (keys.witness_was_there,),
    "WitnessBack": (keys.witness_is_away,),
    "DecisionsSealed": (segments.lies_in_own_folder, segments.has_new_name),
}
_BY_ERA = {1: _ERA_1, 2: _ERA_2, 3: _ERA_3}
RULES = _BY_ERA[LATEST]


def rules_of(era: int) -> Rules:
    """The rules by kind of fact that are in force in an era."""
    return _BY_ERA[era]


def activation(era: int) -> dict[str, Any]:
    """The data of the `RulesActivated` fact that begins an era."""
    return {"era": era, "digest": rulebook_digest(era), "software": f"plimsoll {version('plimsoll')}"}


def rulebook_digest(era: int) -> str:
    """The digest of what an era allows: transitions, roles, and the fields of every kind of fact.

    Two versions of the software that name the same era and another digest do not have the same rules.
    """
    kinds = {kind for kind, fact in FACTS.items() if fact.introduced <= era}
    fields = {kind: sorted(shape_of(kind, era).model_fields) for kind in kinds}
    roles = {kind: sorted(roles_for(kind, era)) for kind in sorted(kinds) if roles_for(kind, era)}
    moves = sorted(f"{state} {kind} {then}" for (state, kind), then in TRANSITIONS.items())
    only = {"people": sorted(HUMAN_ONLY & kinds), "ledger": sorted(LEDGER_ONLY & kinds)}
    ruled = {kind: len(rules) for kind, rules in sorted(rules_of(era).items())}
    return digest_of({"fields": fields, "roles": roles, "moves": moves, "only": only, "rules": ruled})
