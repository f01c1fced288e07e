"""The guard: lets a proposed fact pass, or refuses it, under the rules in force.

It runs inside append, before anything is written, so that an illegal promotion cannot be on record.
"""

from __future__ import annotations

from typing import Any

from lineage.errors import RefusedError, UnknownError
from lineage.facts.registry import subject_of
from lineage.lifecycle import after, allowed
from lineage.rules.eras import rules_of
from lineage.rules.proposal import Actor, Proposal
from lineage.state.entities import Release
from lineage.state.fold import LedgerState


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
    for rule in rules_of(state.era).get(kind, ()):
        rule(proposal)


def _in_order(p: Proposal, release: Release) -> None:
    if after(release.state, p.kind, p.data.get("decision")) is None:
        possible = ", ".join(allowed(release.state)) or "nothing: this state is final"
        raise RefusedError(
            f"{release.release} is {release.state}; {p.kind} cannot follow. What can: {possible}",
            code="order",
            state=str(release.state),
        )
