"""Review queue: releases that wait for a second person, the most urgent first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dash import Input, Output, callback, html

from console.actions import Option, label
from console.formatting import age, clock, moment, percent, plural, span
from console.inbox import evidence
from console.ledger_client import Desk, desk
from console.parts.frame import fill, frame
from console.parts.judgement import metrics
from console.parts.widgets import VERDICT_STATUS, actions, empty, facts, page_head, panel, release_link, status
from console.review import why_not

PAGE = {"path": "/reviews", "name": "Reviews", "title": "Reviews · Plimsoll", "icon": "person", "order": 4}
Json = dict[str, Any]
_PAST = {"approve": "approved", "reject": "rejected"}


def layout(**_: Any) -> html.Div:
    """The page, filled."""
    return frame("reviews")


@callback(Output("reviews", "children"), Input("news", "data"))
async def refresh(_news: Json | None) -> Any:
    """Read again at any news."""
    return await fill(body, desk())


async def body(at: Desk) -> list[Any]:
    """Waiting reviews by due time, then the decisions of late."""
    state = await at.state()
    waiting = [release for release in state["releases"].values() if release["state"] == "review"]
    waiting.sort(key=lambda release: (release.get("review") or {}).get("due_at") or "")
    now = datetime.now(UTC)
    cards: list[Any] = [card(release, state["models"][release["model"]], at, now) for release in waiting]
    if not cards:
        text = "A release comes here when its canary's evidence suffices and its policy wants a second person."
        cards = [panel("Waiting", empty("No review waits.", text))]
    note = f"{plural(len(waiting), 'release')} waiting" if waiting else "nobody is waiting"
    decided = (await at.newest(8, kind="ReviewDecided"))["records"]
    return [page_head("Reviews", note), html.Div([*cards, past(decided)], className="stack")]


def card(release: Json, model: Json, at: Desk, now: datetime) -> html.Section:
    """One waiting release: who asks, until when, the evidence, and this person's two buttons."""
    review, name = release.get("review") or {}, release["release"]
    due = moment(review["due_at"]) if review.get("due_at") else None
    late = due is not None and due < now
    left = span(abs((due - now).total_seconds())) if due else "–"
    word = status("Blocked", f"Overdue by {left}") if late else status("Waiting for you", f"Due in {left}")
    last = release.get("judgement") or {}
    verdict = status(
        VERDICT_STATUS.get(last.get("verdict", ""), "Warning"), str(last.get("verdict", "None")).capitalize()
    )
    told = facts(
        [
            ("Author", release["author"]),
            ("Waiting", f"{age(review.get('requested_at'), now)}, due {clock(review.get('due_at'))} UTC"),
            (
                "Traffic",
                f"{name} carries {percent(release.get('share'))}; {model.get('champion') or 'the baseline'} the rest",
            ),
            ("Judgement", html.Span([verdict, f" {evidence(release)}"])),
        ]
    )
    why = why_not(release, at.person.name, at.person.role)
    buttons = actions([Option(verb, name, label(verb, release, model), why) for verb in ("approve", "reject")])
    left_side = html.Div([html.P([word, " ", release_link(name)], className="verdict"), told, buttons])
    grid = html.Div([left_side, metrics(last)], className="review-card")
    return panel(name, grid)


def past(decided: list[Json]) -> html.Section:
    """The last decisions with their reasons."""
    items = [
        html.Li(
            [
                html.Span(clock(record["at"]), className="time"),
                html.Span(),
                html.Div(
                    [
                        release_link(record["release"]),
                        f" {_PAST[record['data']['decision']]} by {record['actor']['name']}",
                        html.Div(record.get("reason") or "", className="note"),
                    ],
                    className="text",
                ),
            ]
        )
        for record in decided
    ]
    filled = (
        html.Ol(items, className="lines") if items else empty("No decision yet.", "Decisions stay on record for ever.")
    )
    return panel("Decided lately", filled)
