"""The guard: checks a proposed fact against the state table and the rules of the era.

It runs inside append, before anything is written, so that no illegal fact is recorded.
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
    """Refuse the fact unless every rule of the era allows it in this state. The caller has checked the role (`may`).

    Raises:
        RefusedError: a rule refuses it.
        InvalidError: the policy of a candidate cannot be parsed.
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
        _check_order(proposal, about)
    for rule in rules_of(state.era).get(kind, ()):
        rule(proposal)


def _check_order(p: Proposal, release: Release) -> None:
    if after(release.state, p.kind, p.data.get("decision")) is None:
        possible = ", ".join(allowed(release.state)) or "nothing: this state is final"
        raise RefusedError(
            f"{release.release} is {release.state}; {p.kind} cannot follow. What can: {possible}",
            code="order",
            state=str(release.state),
        )
