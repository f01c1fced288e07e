"""The rules of the life of a release: evidence, shares, persons. The order of facts is in `lineage.lifecycle`.

Each rule raises `RefusedError` with a message that states what would make the fact acceptable.
"""

from __future__ import annotations

from typing import Literal

from lineage.errors import RefusedError, UnknownError
from lineage.lifecycle import BARRED, State
from lineage.policy import parse_policy, parse_ruled
from lineage.rules.proposal import Proposal, Rule

Section = Literal["canary", "rollout"]


def is_not_barred(p: Proposal) -> None:
    """Refuse the fact unless the digest was never rejected, quarantined or rolled back."""
    digest = p.known_release.digest if p.known_release else p.data["digest"]
    if digest in p.state.barred:
        raise RefusedError(
            f"digest {digest[:19]}… was rejected, quarantined or rolled back and never answers again; train a new one",
            code="barred",
        )


def bytes_are_new(p: Proposal) -> None:
    """Refuse a trained candidate whose bytes are a release already, of any model and in any state."""
    for name in p.state.digests.get(p.data["digest"], ()):
        state = p.state.releases[name].state
        raise RefusedError(
            f"these bytes are release {name} already, which is {state}; nothing new was trained. Change the data, the "
            "seed or the parameters",
            code="same_bytes",
            release=name,
        )


def bytes_were_never_barred(p: Proposal) -> None:
    """Refuse traffic to bytes of which any release was rejected, quarantined or rolled back.

    A release of an earlier era that carries traffic with the same bytes keeps them from being barred for itself only.
    """
    for name in p.state.digests.get(p.release.digest, ()):
        if p.state.releases[name].state in BARRED:
            raise RefusedError(
                f"{p.release.release} has the bytes of {name}, which is {p.state.releases[name].state} and never "
                "answers again; train a new one",
                code="barred",
            )


def author_matches_request(p: Proposal) -> None:
    """Refuse a trained candidate unless its author is the one that the training request names."""
    request = p.data.get("request")
    if request is None:
        return
    job = p.known_model.jobs.get(str(request)) if p.known_model else None
    if job is None or job.author != p.data["author"]:
        wanted = f"author {job.author!r}" if job else "no such request"
        raise RefusedError(f"request {request} was made with {wanted}, not {p.data['author']!r}", code="author")


def request_is_known(p: Proposal) -> None:
    """Refuse a fact about a job unless its training run was requested.

    Raises:
        UnknownError: there is no such request.
    """
    request = str(p.data["request"])
    if p.known_model is None or request not in p.known_model.jobs:
        raise UnknownError(f"record {request} is no request for a training run of this model", field="request")


def ruled_policy_is_readable(p: Proposal) -> None:
    """Refuse a policy whose checks, steps or review cannot be read.

    Raises:
        InvalidError: names the value.
    """
    parse_ruled(p.data["policy"])


def policy_is_readable(p: Proposal) -> None:
    """Refuse a policy of which any value cannot be read.

    Raises:
        InvalidError: names the value.
    """
    parse_policy(p.data["policy"])


def policy_matches(p: Proposal) -> None:
    """Refuse a check unless it ran under the policy that the release was trained under."""
    if p.data["policy_digest"] != p.release.policy_digest:
        raise RefusedError(
            f"{p.release.release} was trained under policy {p.release.policy_digest[:19]}…, "
            f"this check ran under {p.data['policy_digest'][:19]}…",
            code="policy",
        )


def every_check_passed(p: Proposal) -> None:
    """Refuse validation unless the policy names checks and every one of them has passed."""
    wanted = p.release.ruled.validation.checks
    if not wanted:
        raise RefusedError("the policy names no checks; an empty list is not a pass", code="checks")
    outcomes = {name: outcome.status for name, outcome in p.release.checks.items()}
    missing = [name for name in wanted if outcomes.get(name) != "pass"]
    if missing:
        raise RefusedError(f"these checks have not passed: {', '.join(missing)}", code="checks", checks=missing)


def digest_matches(p: Proposal) -> None:
    """Refuse the fact unless it names the digest of the release on record."""
    if p.data["digest"] != p.release.digest:
        raise RefusedError(
            f"{p.release.release} has digest {p.release.digest[:19]}…, not {p.data['digest'][:19]}…", code="digest"
        )


def no_other_in_flight(p: Proposal) -> None:
    """Refuse a canary unless no other release of the model is in flight."""
    if p.model.challenger is not None:
        raise RefusedError(
            f"{p.model.challenger} is already in flight; one release of a model at a time", code="in_flight"
        )


def control_of_canary_is_champion(p: Proposal) -> None:
    """Refuse a canary unless its control is the present champion, or the baseline where there is none."""
    expected = p.model.champion or "baseline"
    if p.data["control"] != expected:
        raise RefusedError(f"the control of a canary is {expected}, not {p.data['control']}", code="control")


def no_other_with_same_bytes(p: Proposal) -> None:
    """Refuse the release unless no other release that answers or stands by has the same bytes.

    Barring a digest stops every release with it, so at most one may carry traffic.
    """
    for model in p.state.models.values():
        for name in (*model.champions, model.challenger, model.shadow):
            if name and name != p.release.release and p.state.releases[name].digest == p.release.digest:
                raise RefusedError(
                    f"{p.release.release} has the same bytes as {name}, which answers or stands by already",
                    code="same_bytes",
                )


def judged_against_champion(p: Proposal) -> None:
    """Refuse a step unless the release was judged against the present champion."""
    champion = p.model.champion or "baseline"
    if p.release.control != champion:
        raise RefusedError(
            f"{p.release.release} was judged against {p.release.control}, the champion is {champion} now; abort it",
            code="control",
        )


def next_share(section: Section) -> Rule:
    """The rule that refuses a step unless its share is the next one of the policy's section."""

    def rule(p: Proposal) -> None:
        expected = p.release.next_share(section)
        if p.data["share"] != expected:
            steps = list(p.release.ruled.steps(section))
            raise RefusedError(
                f"the next step of {section} is {expected}, not {p.data['share']}; policy steps are {steps}",
                code="share",
            )

    return rule


def steps_complete(section: Section) -> Rule:
    """The rule that refuses the fact unless the release carries the last share of the policy's section."""

    def rule(p: Proposal) -> None:
        steps = p.release.ruled.steps(section)
        if not steps or p.release.share < steps[-1]:
            raise RefusedError(
                f"{p.release.release} carries {p.release.share:.0%}; {section} ends at {list(steps[-1:])}", code="share"
            )

    return rule


def judged_advance(p: Proposal) -> None:
    """Refuse a step unless the judgement is ADVANCE."""
    if (p.data.get("judgement") or {}).get("verdict") != "ADVANCE":
        raise RefusedError("only a judgement ADVANCE opens the next step; no data is not a pass", code="judgement")


def is_approved(p: Proposal) -> None:
    """Refuse a rollout unless a second person approved the release, where the policy requires a review."""
    if p.release.state is State.ROLLOUT or not p.release.ruled.review.required:
        return
    if not any(a.decision == "approve" and a.by_id != p.release.author_id for a in p.release.approvals):
        raise RefusedError(f"{p.release.release} has no approval by a second person", code="approval")


def people_take_first_step_only(p: Proposal) -> None:
    """Refuse a further step of a rollout unless the controller takes it."""
    begins = p.release.state is not State.ROLLOUT
    if not begins and not p.actor.has(("service", "controller")):
        raise RefusedError("the rollout is under way; the controller takes the further steps", code="under_way")


def person_takes_first_step(p: Proposal) -> None:
    """Refuse the first step of a rollout by the controller where the policy requires a review by people."""
    begins = p.release.state is not State.ROLLOUT
    if begins and p.actor.has(("controller",)) and p.release.ruled.review.required:
        raise RefusedError(
            f"the policy of {p.release.release} has people review it; an operator takes the first step",
            code="role",
            status=403,
        )


def request_is_by_its_author(p: Proposal) -> None:
    """Refuse a request for training in another person's name.

    A person requests in their own name; the controller in that of an author of a release of this model.
    """
    author = p.data["author"]
    if p.actor.has(("controller",)):
        mine = (release for release in p.state.releases.values() if release.model == p.named)
        if not any(release.author == author for release in mine):
            raise RefusedError(f"{author!r:.120} is the author of no release of {p.named}", code="author")
    elif author != p.actor.name:
        raise RefusedError(f"{p.actor.name} cannot request a training in the name of {author!r:.120}", code="author")


def replaces_champion(p: Proposal) -> None:
    """Refuse a promotion unless it names the present champion as the one replaced."""
    if p.data["replaced"] != p.model.champion:
        raise RefusedError(f"the champion is {p.model.champion}, not {p.data['replaced']}", code="champion")


def is_not_champion(p: Proposal) -> None:
    """Refuse to retire a release unless another one is champion."""
    if p.model.champion == p.release.release:
        raise RefusedError(f"{p.release.release} is the champion and cannot retire before another is promoted")


def is_champion_with_valid_target(p: Proposal) -> None:
    """Refuse a rollback unless it is of the champion, to the previous champion or the baseline."""
    if p.model.champion != p.release.release:
        raise RefusedError(f"the champion is {p.model.champion}, not {p.release.release}", code="champion")
    targets = [p.model.previous, "baseline"]
    if p.data["to"] not in targets:
        raise RefusedError(
            f"a rollback leads to {' or '.join(t for t in targets if t)}, not {p.data['to']}", code="target"
        )


def is_rollback_target(p: Proposal) -> None:
    """Refuse a reinstatement unless the release is the target of the rollback under way."""
    target = p.model.rollback.to if p.model.rollback else None
    if target != p.release.release or p.model.champion != p.release.release:
        raise RefusedError(f"no rollback to {p.release.release} is under way", code="target")


def golden_rows_match(p: Proposal) -> None:
    """Refuse the fact unless there are golden rows and all of them gave the recorded answers."""
    golden = p.data["golden"]
    if not golden["count"] or golden["matched"] != golden["count"]:
        raise RefusedError(
            f"{golden['matched']} of {golden['count']} golden vectors matched; all have to", code="golden"
        )
