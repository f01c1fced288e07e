"""Review queue: releases that wait for a second person, the most urgent first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from dash import Output, callback, html

from console.actions import buttons
from console.formatting import age, clock, moment, percent, plural, span
from console.judgement_text import evidence
from console.parts.buttons import action_buttons
from console.parts.interests import OF_RELEASES, OF_STOPS
from console.parts.judgement import metrics, verdict_label
from console.parts.live_part import Interest, LivePart, Made
from console.parts.widgets import empty, facts, page_head, panel, release_link, status
from console.person_ledger import PersonLedger, person_ledger
from lineage.rules.views import Offers
from lineage.state.entities import Release, ReleaseSummary
from lineage.state.views import ReleasesPage

PAGE = {"path": "/reviews", "name": "Reviews", "title": "Reviews · Plimsoll", "icon": "person", "order": 4}
Json = dict[str, Any]
PART = LivePart("reviews")
_PAST = {"approve": "approved", "reject": "rejected"}
#: Waiting releases that are read to find the most urgent, and those shown with their evidence.
_READ, _SHOWN = 500, 12


def layout(**_: Any) -> html.Div:
    """The page, about to be filled."""
    return PART.frame()


@callback(Output("reviews", "children"), PART.shown_output, PART.turn, PART.shown, running=PART.running)
async def refresh(_turn: Json | None, shown: Json | None) -> Any:
    """Read again when a release moved."""
    return await PART.fill(person_ledger(), shown, body)


async def body(at: PersonLedger) -> Made:
    """Waiting reviews by due time, then the latest decisions."""
    page, decided = await asyncio.gather(at.releases(state="review", limit=_READ), at.newest(8, kind="ReviewDecided"))
    waiting = sorted(page.releases, key=_due)[:_SHOWN]
    read = await asyncio.gather(*(_read(at, release.release) for release in waiting))
    now = datetime.now(UTC)
    cards: list[Any] = [card(release, page, offers, now) for release, offers in read]
    if not cards:
        text = "A release comes here when its canary's evidence suffices and its policy wants a second person."
        cards = [panel("Waiting", empty("No review waits.", text))]
    if page.total > len(waiting):
        more = plural(page.total - len(waiting), "more release")
        cards.append(html.P(f"and {more}, due later", className="note"))
    note = f"{plural(page.total, 'release')} waiting" if page.total else "nothing waits"
    shown = [page_head("Reviews", note), html.Div([*cards, past(decided)], className="stack")]
    return shown, Interest(OF_RELEASES | OF_STOPS)


async def _read(at: PersonLedger, release: str) -> tuple[Release, Offers]:
    file, offers = await asyncio.gather(at.release(release), at.offers(release))
    return file.release, offers


def _due(release: ReleaseSummary) -> str:
    return release.review.due_at if release.review else ""


def card(release: Release, page: ReleasesPage, offers: Offers, now: datetime) -> html.Section:
    """One waiting release: who asks, until when, the evidence, and this person's two buttons."""
    name, due = release.release, moment(_due(release)) if release.review else now
    left = span(abs((due - now).total_seconds()))
    word = status("Blocked", f"Overdue by {left}") if due < now else status("Waiting for you", f"Due in {left}")
    champion = page.models[release.model].champion or "the baseline"
    asked, until = (release.review.requested_at, release.review.due_at) if release.review else (None, None)
    pairs = facts(
        [
            ("Author", release.author),
            ("Waiting", f"{age(asked, now)}, due {clock(until)} UTC"),
            ("Traffic", f"{name} carries {percent(release.share)}; {champion} the rest"),
            ("Judgement", html.Span([verdict_label(release.judgement), f" {evidence(release.judgement)}"])),
        ]
    )
    offered = action_buttons(buttons(("approve", "reject"), name, offers))
    left_side = html.Div([html.P([word, " ", release_link(name)], className="verdict"), pairs, offered])
    grid = html.Div([left_side, metrics(release.judgement)], className="review-card")
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
