"""The rules of alerts: only an open alert is closed, and one that a measurement or proof closes is not."""

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


def is_closed_by_statement(p: Proposal) -> None:
    """Refuse to close an alert that only a measurement or a proof closes."""
    if p.data["alert"] in BY_EVIDENCE:
        open_ = p.model.alert(p.data["alert"], p.data["about"])
        closes = open_.closes if open_ else "a measurement"
        raise RefusedError(f"{p.data['alert']} is closed by {closes}, not by a statement", code="evidence")
