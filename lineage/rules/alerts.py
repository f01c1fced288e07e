"""The rules of alerts: only an open one is closed, and never one whose end has to be measured or proven."""

from __future__ import annotations

from lineage.errors import RefusedError
from lineage.rules.proposal import Proposal
from lineage.state.alerts import BY_EVIDENCE


def is_open(p: Proposal) -> None:
    """Refuse to close an alert that is not open."""
    alert, about = p.data["alert"], p.data["about"]
    if p.model.alert(alert, about) is None:
        known = ", ".join(one.name for one in p.model.alerts) or "none"
        name = f"{alert} about {about}" if about else alert
        raise RefusedError(f"{p.model.model} has no open alert {name}; open: {known}", code="order")


def has_no_evidence_of_its_own(p: Proposal) -> None:
    """Refuse to close by word what a measurement or a proof has to close."""
    if p.data["alert"] in BY_EVIDENCE:
        open_ = p.model.alert(p.data["alert"], p.data["about"])
        closes = open_.closes if open_ else "a measurement"
        raise RefusedError(f"{p.data['alert']} is closed by {closes}, not by a statement", code="evidence")
