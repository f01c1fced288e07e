"""What an actor may do now: every action tried as a draft against the rules, without recording anything.

The same drafts and the same guard as in `Ledger.act`, so that an offer and the ledger's answer cannot differ. A reason
is assumed to be given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lineage.errors import PlimsollError
from lineage.rules import actions
from lineage.rules.draft import Draft, check_permitted, check_right, model_of, parsed_data
from lineage.rules.guards import guard
from lineage.rules.proposal import Actor
from lineage.rules.roles import PEOPLE_MAY
from lineage.state.fold import LedgerState

_REASON = "a reason"
Make = Callable[[Actor], Draft]
#: Refusals by which an action makes no sense in this state, whatever person asks.
_OUT_OF_PLACE = frozenset({"order", "no_champion", "pulled", "not_pulled", "not_asked", "asked", "target"})
#: Calls that have to name the ETag of what the person saw. Those that stop something must be possible on an old view.
NEEDS_ETAG = frozenset({"approve", "reject", "promote", "ask-release", "confirm-release"})


@dataclass(frozen=True)
class Action:
    """One action on a subject.

    Attributes:
        verb: its name in the API.
        kind: the fact that it records.
        possible: whether the ledger would record it now.
        why_not: the ledger's refusal in its own words, and its `code`; None where it is possible.
        applies: whether it makes sense in the present state; pages leave out what does not.
        next_share: the share of live traffic, 0 to 1, that it would give; None where it gives none.
        to: the target of a rollback, a release or `baseline`.
        needs_etag: whether the call has to name the ETag of what the person saw.
        roles: roles of people who may do it.
    """

    verb: str
    kind: str
    possible: bool
    why_not: str | None
    code: str | None
    applies: bool
    next_share: float | None
    to: str | None
    needs_etag: bool
    roles: tuple[str, ...]


def of_release(state: LedgerState, release: str, actor: Actor) -> list[Action]:
    """The actions on a release.

    Raises:
        UnknownError: there is no such release.
    """
    about = actions.release_named(state, release)
    further = about.next_share("rollout")

    def tried(verb: str, kind: str, make: Make, share: float | None = None) -> Action:
        return _tried(state, verb, kind, make, actor, release=release, share=share)

    return [
        canary(state, release, actor),
        tried("approve", "ReviewDecided", lambda who: actions.decide_review(state, release, who, _REASON, "approve")),
        tried("reject", "ReviewDecided", lambda who: actions.decide_review(state, release, who, _REASON, "reject")),
        tried("promote", "RolloutStepped", lambda who: actions.promote(state, release, who, _REASON), further),
        tried("abort", "CanaryAborted", lambda who: actions.abort(state, release, who, _REASON)),
        *(
            tried(verb, kind, lambda who, kind=kind: actions.shadow(state, release, who, _REASON, kind))  # type: ignore[misc]
            for verb, kind in (("shadow-start", "ShadowStarted"), ("shadow-stop", "ShadowStopped"))
        ),
    ]


def canary(state: LedgerState, release: str, actor: Actor) -> Action:
    """The action that gives a release its first live traffic.

    Raises:
        UnknownError: there is no such release.
    """
    about = actions.release_named(state, release)

    def make(who: Actor) -> Draft:
        return actions.start_canary(state, release, who, _REASON)

    share = about.next_share("canary")
    return _tried(state, "canary", "CanaryStarted", make, actor, release=release, share=share)


def of_model(state: LedgerState, model: str, actor: Actor) -> list[Action]:
    """The actions on a model, those of its kill switch last.

    Raises:
        UnknownError: there is no such model.
    """
    known = actions.model_named(state, model)
    to = known.previous or "baseline"

    def roll_back(who: Actor) -> Draft:
        return actions.roll_back(state, model, who, _REASON, to)

    def retrain(who: Actor) -> Draft:
        return actions.retrain(model, who, _REASON, known.last_job.folder if known.last_job else ".", {})

    return [
        _tried(state, "rollback", "RollbackOrdered", roll_back, actor, to=to),
        _tried(state, "retrain", "RetrainRequested", retrain, actor),
        *of_kill_switch(state, model, actor),
    ]


def of_kill_switch(state: LedgerState, model: str | None, actor: Actor) -> list[Action]:
    """The actions on the kill switch of a model, or of all models (None)."""
    makes: dict[str, tuple[str, Make]] = {
        "kill": ("KillSwitchPulled", lambda who: actions.kill(state, model, who, _REASON, "baseline")),
        "silence": ("KillSwitchPulled", lambda who: actions.kill(state, model, who, _REASON, "nothing")),
        "ask-release": ("KillReleaseRequested", lambda who: actions.ask_kill_release(state, model, who, _REASON)),
        "confirm-release": ("KillSwitchReleased", lambda who: actions.release_kill(state, model, who, _REASON)),
    }
    return [_tried(state, verb, kind, make, actor) for verb, (kind, make) in makes.items()]


def _tried(
    state: LedgerState,
    verb: str,
    kind: str,
    make: Make,
    actor: Actor,
    *,
    release: str | None = None,
    share: float | None = None,
    to: str | None = None,
) -> Action:
    refused = _refusal(state, kind, make, actor, release)
    roles = tuple(sorted(PEOPLE_MAY[kind]))
    return Action(
        verb=verb,
        kind=kind,
        possible=refused is None,
        why_not=refused.message if refused else None,
        code=refused.code if refused else None,
        applies=_fits_state(state, make, Actor("another person", roles[0])),
        next_share=share,
        to=to,
        needs_etag=verb in NEEDS_ETAG,
        roles=roles,
    )


def _fits_state(state: LedgerState, make: Make, other: Actor) -> bool:
    """Whether the action makes sense now, by any person of the right role."""
    try:
        draft = make(other)
        guard(draft.kind, other, model_of(draft), draft.release, parsed_data(draft, state.era), state)
    except PlimsollError as error:
        return error.code not in _OUT_OF_PLACE
    return True


def _refusal(state: LedgerState, kind: str, make: Make, actor: Actor, release: str | None) -> PlimsollError | None:
    try:
        check_right(kind, actor, release, state)
        draft = make(actor)
        check_permitted(draft, parsed_data(draft, state.era), state)
    except PlimsollError as error:
        return error
    return None
