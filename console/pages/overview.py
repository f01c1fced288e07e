"""Overview: what waits for you, what is in flight, two charts, the latest lines of the ledger."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dash import Output, callback, html

from console.formatting import age, clock, line, plural, subject
from console.inbox import Row, headline, rows
from console.kill_switch import Switch
from console.model_now import ModelNow
from console.parts.buttons import release_status
from console.parts.charts import PALETTE, Series, chart
from console.parts.interests import MEASURED, SELDOM
from console.parts.journey_steps import progress
from console.parts.live_part import Interest, LivePart, Made
from console.parts.measurements import drift_series, kills, traffic_series
from console.parts.release_text import where
from console.parts.safety_banner import switch_panel
from console.parts.widgets import empty, link, page_head, panel, release_link, status, table, tone_icon
from console.person_ledger import ALL_MODELS, PersonLedger, person_ledger
from lineage.state.summaries import OPEN
from lineage.state.views import ReleasesPage

PAGE = {"path": "/", "name": "Overview", "title": "Overview · Plimsoll", "icon": "hand", "order": 0}
Json = dict[str, Any]
PART, CHARTS = LivePart("overview"), LivePart("overview-charts", "schedule_slowly")
_LINES, _FLIGHT, _WAITING = 9, 12, 50
#: Releases that answer, or may soon.
_OPEN = ",".join(sorted(OPEN))


def layout(**_: Any) -> html.Div:
    """The page's frame: the queue first, so that it never waits for the charts."""
    charts = html.Div([*CHARTS.stores(), html.Div(id=CHARTS.id)])
    left = html.Div([html.Div(id="overview-flight"), charts], className="stack")
    return html.Div([PART.frame(), html.Div([left, html.Div(id="overview-lines")], className="grid side")])


@callback(
    Output("overview", "children"),
    Output("overview-flight", "children"),
    Output("overview-lines", "children"),
    PART.shown_output,
    PART.turn,
    PART.shown,
    running=PART.running,
)
async def refresh(_turn: Json | None, shown: Json | None) -> Any:
    """Queue, releases in flight and the latest lines."""
    made, now_shown = await PART.fill(person_ledger(), shown, body)
    return *(made if isinstance(made, tuple) else (made, None, None)), now_shown


@callback(Output("overview-charts", "children"), CHARTS.shown_output, CHARTS.turn, CHARTS.shown, running=CHARTS.running)
async def draw(_turn: Json | None, shown: Json | None) -> Any:
    """The charts, drawn again only when what they show has moved."""
    return await CHARTS.fill(person_ledger(), shown, drawn)


async def body(at: PersonLedger) -> Made:
    """Queue, releases in flight, latest lines: for this person, now."""
    waiting, flying, stopped, offers, latest = await asyncio.gather(
        at.inbox(_WAITING),
        at.releases(state=_OPEN, limit=_FLIGHT),
        at.stopped(1),
        at.offers(ALL_MODELS),
        at.newest(_LINES, kind=",".join(sorted(SELDOM))),
    )
    now = datetime.now(UTC)
    queue_ = queue(rows(waiting.items, now), waiting.total, now, at.person.role)
    top = [page_head("Needs you", headline(waiting.total, waiting.items, now)), queue_]
    switch = Switch(ALL_MODELS, stopped.kill)
    side = html.Div([switch_panel(switch, offers), lines(latest)], className="stack")
    alerting = tuple({item.model for item in waiting.items if item.alert and item.model})
    return (top, flight(flying), side), (Interest(SELDOM), Interest(MEASURED, alerting))


def queue(waiting: Sequence[Row], total: int, now: datetime, role: str) -> html.Div:
    """The rows, worst first; only the first has a filled button."""
    if not waiting:
        text = f"Nothing waits for role {role}. Releases in flight go on by themselves and ask when they need you."
        return html.Div([status("Passed", "All clear"), html.P(text, className="note")], className="needs clear")
    items = []
    for index, row in enumerate(waiting):
        words = html.Div([html.Span(row.subject, className="subject"), html.Span(row.what)], className="what")
        text = html.Div([words, html.Div(row.calm, className="calm")], className="body")
        button = "button filled" if index == 0 else "button"
        verb = link([row.verb, html.Span(f" {row.subject}", className="hidden")], row.href, button)
        waits = html.Div(age(row.at, now), className="age")
        items.append(html.Li([html.Div(status(row.status)), text, waits, verb], className="need"))
    edge = "" if waiting[0].status in ("Blocked", "Failed") else " warn-edge"
    listed = html.Ul(items, className=f"needs{edge}", **{"aria-label": "Needs you"})
    rest = total - len(waiting)
    return html.Div([listed, html.P(f"and {plural(rest, 'more item')}", className="note") if rest > 0 else None])


def flight(page: ReleasesPage) -> html.Section:
    """Releases on their way and those that answer now, the one that moved last first."""
    if not page.releases:
        text = "A release appears here as soon as its training ends."
        command = "ray job submit --working-dir . -- python -m training.pipeline examples/credit_default"
        return panel("In flight", empty("Nothing is in flight.", text, command))
    found = []
    for release in page.releases:
        now = ModelNow(page.models[release.model], page.kill)
        cells = [release_link(release.release), release_status(release, now), where(release, now), progress(release)]
        found.append(cells)
    heads = ["Release", "Status", "Where", "Progress"]
    aside = link(f"{plural(page.total, 'release')} open", "/releases")
    return panel("In flight", table(heads, found, caption="Releases in flight"), aside=aside)


async def drawn(at: PersonLedger) -> Made:
    """The two charts."""
    measured, sealed, switched = await asyncio.gather(
        at.newest(150, kind="DriftMeasured"),
        at.newest(240, kind="DecisionsSealed"),
        at.newest(100, kind="KillSwitchPulled,KillSwitchReleased"),
    )
    counted = Counter(record["model"] for record in sealed)
    models = [model for model, _ in counted.most_common(len(PALETTE))]
    known = await at.releases(model=",".join(models), limit=500) if models else ReleasesPage([], 0)
    drawn_of = [record for record in sealed if record["model"] in models]
    answered = traffic_series(drawn_of, {release.release: release for release in known.releases}, kills(switched))
    kinds = frozenset({"DecisionsSealed", "DriftMeasured", "KillSwitchPulled", "KillSwitchReleased"})
    return charts(measured, answered, len(drawn_of)), Interest(kinds)


def charts(measured: list[Json], answered: Series, segments: int) -> html.Div:
    """Traffic by release and share of drifted features."""
    limit = measured[0]["data"]["limit"] if measured else None
    return html.Div(
        [
            chart(
                "Traffic by release",
                answered,
                note=f"{plural(segments, 'sealed segment')}, decisions a minute",
                why_empty="Points appear when the first decisions are sealed.",
            ),
            chart(
                "Features that drifted",
                drift_series(measured),
                limit=limit,
                share=True,
                note=f"Share of features over their limit, {plural(len(measured), 'measurement')}",
                why_empty="Points appear when a champion has answered a full window.",
            ),
        ],
        className="grid two",
    )


def lines(latest: list[Json]) -> html.Section:
    """The latest lines of the ledger, without facts of every few seconds."""
    items = []
    for record in latest:
        tone, text = line(record)
        by = f"{record['actor']['name']}" + (f": {record['reason']}" if record.get("reason") else "")
        words = [html.Span(subject(record), className="strong"), f" {text}", html.Div(by, className="note")]
        items.append(
            html.Li(
                [html.Span(clock(record["at"]), className="time"), tone_icon(tone), html.Div(words, className="text")]
            )
        )
    aside = link("All records", "/audit")
    filled = html.Ol(items, className="lines") if items else empty("No records yet.", "Every step leaves a line here.")
    return panel("Latest in the ledger", filled, aside=aside)
