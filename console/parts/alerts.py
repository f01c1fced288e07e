"""Open alerts as lines: what each is about, and what closes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dash import html

from console.formatting import clock
from console.parts.widgets import tone_icon
from lineage.state.alerts import Alert


def alert_lines(alerts: Iterable[Alert]) -> list[Any]:
    """A paragraph for each alert, or one that says that there is none."""
    found = [_line(alert) for alert in alerts]
    return found or [html.P("No open alert.", className="note")]


def _line(alert: Alert) -> html.Div:
    tone = "bad" if alert.severity == "page" else "warn"
    said = html.P([tone_icon(tone), f" {alert.summary}"], className="strong")
    note = f"{subject(alert)}, since {clock(alert.at)} UTC, #{alert.seq}. Closed by {alert.closes}."
    return html.Div([said, html.P(note, className="note")], className="alert")


def subject(alert: Alert) -> str:
    """What the alert is about: its kind with its attribute or release."""
    kind = alert.alert.replace("_", " ").capitalize()
    about = alert.about or alert.release
    beside = f" of {alert.release}" if alert.release and alert.release != about else ""
    return f"{kind}: {about}{beside}" if about else kind
