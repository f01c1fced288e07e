"""Labels, panels, buttons and tables: plain HTML whose looks come from `assets/console.css`."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

Children = Any

#: The seven words of status, each with a tone and an icon whose shapes differ, so that they differ in grey print too.
STATUS = {
    "Blocked": ("bad", "octagon"),
    "Failed": ("bad", "cross"),
    "Waiting for you": ("warn", "hand"),
    "Warning": ("warn", "triangle"),
    "Running": ("info", "clock"),
    "Passed": ("good", "tick"),
    "Live": ("good", "tick"),
    "Queued": ("quiet", "dot"),
    "Retired": ("quiet", "dot"),
    "Not enough data": ("quiet", "question"),
}
#: state of a release -> word of status
STATE_STATUS = {
    "trained": "Running",
    "validated": "Running",
    "rejected": "Failed",
    "registered": "Queued",
    "canary": "Running",
    "review": "Running",
    "approved": "Running",
    "rollout": "Running",
    "champion": "Live",
    "retired": "Retired",
    "rolling_back": "Warning",
    "rolled_back": "Blocked",
    "quarantined": "Blocked",
}
#: verdicts and check results -> word of status
VERDICT_STATUS = {
    "ADVANCE": "Passed",
    "HOLD": "Warning",
    "ABORT": "Blocked",
    "pass": "Passed",
    "fail": "Failed",
    "not_evaluated": "Not enough data",
    "ok": "Passed",
    "drift": "Warning",
    "breach": "Failed",
    "not_enough_data": "Not enough data",
}
_TONE_ICON = {"good": "tick", "warn": "triangle", "bad": "octagon", "info": "clock", "quiet": "dot"}


def icon(name: str, tone: str = "") -> html.Span:
    """An icon from the style sheet; it says nothing that the words beside it do not."""
    return html.Span(className=f"icon icon-{name} {tone}".strip(), **{"aria-hidden": "true"})


def tone_icon(tone: str) -> html.Span:
    """The icon of a tone."""
    return icon(_TONE_ICON[tone], f"ink-{tone}")


def status(word: str, text: str | None = None) -> html.Span:
    """A status label; an unknown word is shown as it is, without a colour."""
    tone, shape = STATUS.get(word, ("quiet", "question"))
    # One element with its icon from the style sheet: a list of a hundred releases has to be on screen at once.
    return html.Span(text or word, className=f"status {tone} icon-{shape}")


def panel(title: str, *children: Children, aside: Children = None, **props: Any) -> html.Section:
    """A box with a section head; `aside` stands at the right of the head."""
    name = f"panel {props.pop('className', '')}".strip()
    head = html.Div(
        [html.H2(title), html.Div(aside, className="aside") if aside is not None else None], className="head"
    )
    return html.Section([head, *children], className=name, **props)


def page_head(title: Children, note: Children = None, aside: Children = None) -> html.Div:
    """A page's title line."""
    parts = [html.H1(title), html.P(note, className="note") if note else None]
    return html.Div([*parts, html.Div(aside, className="aside") if aside is not None else None], className="page-head")


def empty(what: str, why: str, command: str | None = None) -> html.Div:
    """An empty state: what belongs here, why there is none, and what to do."""
    return html.Div(
        [html.P(what, className="strong"), html.P(why, className="note"), html.Code(command) if command else None],
        className="empty",
    )


def trouble(message: str) -> html.Div:
    """Something could not be read; the text is the ledger's own."""
    return html.Div([icon("octagon"), html.P(message)], className="refusal", role="alert")


def link(text: Children, href: str, className: str = "") -> dcc.Link:
    """A link that stays in the page."""
    return dcc.Link(text, href=href, className=className)


def release_link(name: str | None) -> Children:
    """A release's name as a link to its page; the baseline is not a release."""
    return link(name, f"/release/{name}") if name and "@" in name else (name or "–")


def table(heads: list[str], rows: list[list[Children]], *, caption: str, className: str = "") -> html.Div:
    """A table with its caption for screen readers; on a phone each cell carries its column's name."""
    body = [
        html.Tr([html.Td(cell, **{"data-head": head}) for head, cell in zip(heads, row, strict=True)]) for row in rows
    ]
    return html.Div(
        html.Table(
            [
                html.Caption(caption, className="hidden"),
                html.Thead(html.Tr([html.Th(head, scope="col") for head in heads])),
                html.Tbody(body),
            ]
        ),
        className=f"table {className}".strip(),
    )


def facts(pairs: list[tuple[str, Children]]) -> html.Dl:
    """Names and values."""
    return html.Dl([html.Div([html.Dt(name), html.Dd(value)]) for name, value in pairs], className="facts")


def lines_of(texts: list[str]) -> html.Div:
    """Short texts, one a line."""
    return html.Div([html.Div(text) for text in texts])
