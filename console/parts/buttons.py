"""Buttons that open the review dialog, and the status label of a release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import html

from console.actions import SAFE, Button
from console.model_now import ModelNow
from console.parts.widgets import STATE_STATUS, Children, status
from lineage.lifecycle import IN_FLIGHT, State
from lineage.state.entities import ReleaseSummary


def action_buttons(offered: Sequence[Button], *, filled: str | None = None) -> html.Div:
    """Buttons that open the review dialog, each with why it cannot be used.

    Args:
        filled: the verb whose button is filled; none when absent.
    """
    parts: list[Children] = []
    for index, one in enumerate(offered):
        parts.append(action_button(one, filled=one.verb == filled))
        last = index + 1 == len(offered) or offered[index + 1].why_not != one.why_not
        if one.why_not and last:
            parts.append(html.P(one.why_not, id=_why(one), className="why"))
    return html.Div(parts, className="actions")


def _why(one: Button) -> str:
    # One id for one text: buttons that share a reason point at the same line.
    return f"why-{one.subject}-{abs(hash(one.why_not)) % 10_000}"


def action_button(one: Button, *, filled: bool) -> html.Button:
    """The button that opens the review dialog of a verb."""
    blocked = one.why_not is not None
    tone = ("filled danger" if one.verb in SAFE else "filled") if filled and not blocked else ""
    named: dict[str, Any] = {"data-verb": one.verb, "data-subject": one.subject}
    described = {"aria-describedby": _why(one)} if blocked else {}
    return html.Button(
        one.label, className=f"button ask {tone}".strip(), type="button", disabled=blocked, **named, **described
    )


def release_status(release: ReleaseSummary, now: ModelNow | None, text: str | None = None) -> html.Span:
    """The status label of a release: what would carry traffic is shown as killed where its model is."""
    carries = release.state is State.CHAMPION or release.state in IN_FLIGHT
    if now is not None and now.stopped and carries:
        return status("Blocked", f"{text}, killed" if text else "Killed")
    return status(STATE_STATUS[release.state], text)
