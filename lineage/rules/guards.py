"""The rules of release: who may state which fact, in which order, on which evidence.

They run inside append, before anything is written, so that an illegal promotion cannot be on record. Each rule is one
function that raises `RefusedError` and says what would make the action acceptable.
"""

from __future__ import annotations

from typing import Any

from lineage.errors import RefusedError, UnknownError
from lineage.facts.kinds import subject_of
from lineage.lifecycle import State, after, allowed
from lineage.rules import safety as switch
from lineage.rules.policy_terms import terms_of
from lineage.rules.proposal import Actor as Actor
from lineage.rules.proposal import Proposal, Rule
from lineage.state.fold import LedgerState, Release

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
PEOPLES = frozenset({"ReviewDecided", "KillSwitchPulled", "KillReleaseRequested", "KillSwitchReleased"})
PLATFORM = "platform"  # the ledger service itself
#: What a person may have done about a data subject. The ledger service does it and alone states the fact, which says
#: for whom: to erase is an operation, which whoever audits must not do; to hold is safe, to release a hold is not.
SUBJECTS_MAY: dict[str, frozenset[str]] = {
    "SubjectErased": frozenset({"operator"}),
    "HoldPlaced": frozenset({"auditor", "operator"}),
    "HoldReleased": frozenset({"auditor"}),
}
#: What the ledger service alone states: what it did itself, or saw somebody be refused.
ITS_OWN = frozenset({"LedgerOpened", "AccountAdded", "PasswordReset", "SignedIn", "ActionRefused", *SUBJECTS_MAY})
SEES_SUBJECTS = frozenset({"auditor", "operator"})  # may see what a decision says about a person


def guard(
    kind: str, actor: Actor, model: str | None, release: str | None, data: dict[str, Any], state: LedgerState
) -> None:
    """Let the fact pass or refuse it, in the state that all records before it add up to; `may` was asked before.

    Raises:
        RefusedError: a rule says no.
        InvalidError: the rules cannot read the policy of a candidate.
        UnknownError: the release or the request does not exist.
    """
    subject = subject_of(kind)
    about = None
    if subject == "release" and kind != "ModelTrained":
        about = state.releases.get(release or "")
        if about is None:
            raise UnknownError(f"there is no release {release!r}", field="release")
    proposal = Proposal(kind, actor, data, state, model, state.models.get(model or ""), about)
    if about is not None:
        _in_order(proposal, about)
    for rule in RULES.get(kind, ()):
        rule(proposal)


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
    if kind not in PEOPLES and (actor.role == PLATFORM or (actor.role == "service" and kind not in ITS_OWN)):
        return
    roles = PEOPLE_MAY.get(kind, frozenset())
    if actor.role not in roles:
        others = "the ledger service itself" if kind in ITS_OWN else "a service of the platform"
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


def _in_order(p: Proposal, release: Release) -> None:
    if after(release.state, p.kind, p.data.get("decision")) is None:
        possible = ", ".join(allowed(release.state)) or "nothing: this state is final"
        raise RefusedError(
            f"{release.release} is {release.state}; {p.kind} cannot follow. What can: {possible}",
            code="order",
            state=str(release.state),
        )


def _not_barred(p: Proposal) -> None:
    digest = p.known_release.digest if p.known_release else p.data["digest"]
    if digest in p.state.barred:
        raise RefusedError(
            f"digest {digest[:19]}… was rejected, quarantined or rolled back and never answers again; train a new one",
            code="barred",
        )


def _author_is_requester(p: Proposal) -> None:
    request = p.data.get("request")
    if request is None:
        return
    job = p.known_model.jobs.get(str(request)) if p.known_model else None
    if job is None or job["author"] != p.data["author"]:
        wanted = f"author {job['author']!r}" if job else "no such request"
        raise RefusedError(f"request {request} was made with {wanted}, not {p.data['author']!r}", code="author")


def _request_known(p: Proposal) -> None:
    request = str(p.data["request"])
    if p.known_model is None or request not in p.known_model.jobs:
        raise UnknownError(f"nobody requested a training run in record {request}", field="request")


def _readable_policy(p: Proposal) -> None:
    terms_of(p.data["policy"])


def _same_policy(p: Proposal) -> None:
    if p.data["policy_digest"] != p.release.policy_digest:
        raise RefusedError(
            f"{p.release.release} was trained under policy {p.release.policy_digest[:19]}…, "
            f"this check ran under {p.data['policy_digest'][:19]}…",
            code="policy",
        )


def _every_check_passed(p: Proposal) -> None:
    wanted = p.terms.validation.checks
    if not wanted:
        raise RefusedError("the policy names no checks; an empty list is not a pass", code="checks")
    missing = [name for name in wanted if p.release.checks.get(name, {}).get("status") != "pass"]
    if missing:
        raise RefusedError(f"these checks have not passed: {', '.join(missing)}", code="checks", checks=missing)


def _same_digest(p: Proposal) -> None:
    if p.data["digest"] != p.release.digest:
        raise RefusedError(
            f"{p.release.release} has digest {p.release.digest[:19]}…, not {p.data['digest'][:19]}…", code="digest"
        )


def _alone_in_flight(p: Proposal) -> None:
    if p.model.challenger is not None:
        raise RefusedError(
            f"{p.model.challenger} is already in flight; one release of a model at a time", code="in_flight"
        )


def _right_control(p: Proposal) -> None:
    expected = p.model.champion or "baseline"
    if p.data["control"] != expected:
        raise RefusedError(f"the control of a canary is {expected}, not {p.data['control']}", code="control")


def _other_bytes(p: Proposal) -> None:
    # Barring a digest takes down whoever answers with it; so at most one release may.
    for model in p.state.models.values():
        for name in (*model.champions, model.challenger, model.shadow):
            if name and name != p.release.release and p.state.releases[name].digest == p.release.digest:
                raise RefusedError(
                    f"{p.release.release} has the same bytes as {name}, which answers or stands by already",
                    code="same_bytes",
                )


def _control_stands(p: Proposal) -> None:
    champion = p.model.champion or "baseline"
    if p.release.control != champion:
        raise RefusedError(
            f"{p.release.release} was judged against {p.release.control}, the champion is {champion} now; abort it",
            code="control",
        )


def _next_share(section: str) -> Rule:
    def rule(p: Proposal) -> None:
        steps = getattr(p.terms, section).steps
        here = p.release.share
        expected = next((step for step in steps if step > here), None)
        if p.data["share"] != expected:
            raise RefusedError(
                f"the next step of {section} is {expected}, not {p.data['share']}; policy steps are {steps}",
                code="share",
            )

    return rule


def _steps_complete(section: str) -> Rule:
    def rule(p: Proposal) -> None:
        steps = getattr(p.terms, section).steps
        if not steps or p.release.share < steps[-1]:
            raise RefusedError(
                f"{p.release.release} carries {p.release.share:.0%}; {section} ends at {steps[-1:]}", code="share"
            )

    return rule


def _judged_to_advance(p: Proposal) -> None:
    if (p.data.get("judgement") or {}).get("verdict") != "ADVANCE":
        raise RefusedError("only a judgement ADVANCE opens the next step; no data is not a pass", code="judgement")


def _approved(p: Proposal) -> None:
    if p.release.state is State.ROLLOUT or not p.terms.review.required:
        return
    if not any(a["decision"] == "approve" and a["by"] != p.release.author for a in p.release.approvals):
        raise RefusedError(f"{p.release.release} has no approval by a second person", code="approval")


def _first_step_is_a_persons(p: Proposal) -> None:
    begins = p.release.state is not State.ROLLOUT
    if not begins and p.actor.role != "service":
        raise RefusedError("the rollout is under way; the controller takes the further steps", code="under_way")


def _replaces_champion(p: Proposal) -> None:
    if p.data["replaced"] != p.model.champion:
        raise RefusedError(f"the champion is {p.model.champion}, not {p.data['replaced']}", code="champion")


def _no_longer_champion(p: Proposal) -> None:
    if p.model.champion == p.release.release:
        raise RefusedError(f"{p.release.release} is the champion and cannot retire before another is promoted")


def _target_stands(p: Proposal) -> None:
    if p.model.champion != p.release.release:
        raise RefusedError(f"the champion is {p.model.champion}, not {p.release.release}", code="champion")
    targets = [p.model.previous, "baseline"]
    if p.data["to"] not in targets:
        raise RefusedError(
            f"a rollback leads to {' or '.join(t for t in targets if t)}, not {p.data['to']}", code="target"
        )


def _rollback_leads_here(p: Proposal) -> None:
    target = p.model.rollback["to"] if p.model.rollback else None
    if target != p.release.release or p.model.champion != p.release.release:
        raise RefusedError(f"no rollback to {p.release.release} is under way", code="target")


def _golden_matched(p: Proposal) -> None:
    golden = p.data["golden"]
    if not golden["count"] or golden["matched"] != golden["count"]:
        raise RefusedError(
            f"{golden['matched']} of {golden['count']} golden vectors matched; all have to", code="golden"
        )


RULES: dict[str, tuple[Rule, ...]] = {
    "ModelTrained": (_not_barred, _author_is_requester, _readable_policy),
    "CheckCompleted": (_same_policy,),
    "CandidateValidated": (_every_check_passed,),
    "ReleaseRegistered": (_not_barred, _same_digest),
    "CanaryStarted": (
        switch.is_not_killed,
        _not_barred,
        _alone_in_flight,
        switch.no_other_shadow,
        _right_control,
        _other_bytes,
        _next_share("canary"),
    ),
    "CanaryStepped": (switch.is_not_killed, _control_stands, _next_share("canary"), _judged_to_advance),
    "ReviewRequested": (_control_stands, _steps_complete("canary"), _judged_to_advance),
    "ReviewDecided": (_same_digest,),
    "RolloutStepped": (
        switch.is_not_killed,
        _not_barred,
        _control_stands,
        _approved,
        _first_step_is_a_persons,
        _next_share("rollout"),
    ),
    "ReleasePromoted": (
        switch.is_not_killed,
        _not_barred,
        _control_stands,
        _approved,
        _same_digest,
        _steps_complete("rollout"),
        _replaces_champion,
        _golden_matched,
    ),
    "ChampionRetired": (_no_longer_champion,),
    "RollbackOrdered": (_target_stands,),
    "ChampionReinstated": (_rollback_leads_here, _golden_matched),
    "JobStarted": (_request_known,),
    "JobFinished": (_request_known,),
    "ShadowStarted": (_not_barred, switch.alone_beside_the_champion, _other_bytes),
    "ShadowStopped": (switch.is_the_shadow,),
    "BreakerOpened": (switch.about_its_own_release,),
    "BreakerClosed": (switch.about_its_own_release, switch.is_open),
    "KillSwitchPulled": (switch.may_be_pulled,),
    "KillReleaseRequested": (switch.is_pulled, switch.is_not_asked_for),
    "KillSwitchReleased": (switch.is_pulled, switch.is_asked_for, switch.is_a_second_person),
}
