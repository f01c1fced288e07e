"""Overview: what waits for you, what is in flight, two charts, the latest lines of the ledger."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from dash import Input, Output, callback, ctx, html
from dash.exceptions import PreventUpdate

from console import safety_text as stops
from console.formatting import age, clock, line, moment, percent, plural, subject
from console.inbox import Need, headline, needs
from console.kill_switch import EVERYBODY
from console.ledger_client import Desk, desk
from console.parts.charts import Series, chart
from console.parts.frame import fill, frame
from console.parts.journey_steps import progress
from console.parts.safety_banner import switch_panel
from console.parts.widgets import empty, link, page_head, panel, release_link, standing, status, table, tone_icon

PAGE = {"path": "/", "name": "Overview", "title": "Overview · Plimsoll", "icon": "hand", "order": 0}
Json = dict[str, Any]
_SIGNALS = "AlertRaised,DriftMeasured,FairnessMeasured"
#: Facts of every few seconds; they would push what people did out of the list.
_HUM = {"DecisionsSealed", "RouteApplied", "SignedIn", "DriftMeasured", "FairnessMeasured"}
_LINES, _SHOWN = 60, 9
_ENDED = ("rejected", "retired", "rolled_back", "quarantined")


def layout(**_: Any) -> html.Div:
    """The page's frame: the queue first, so that it never waits for the charts."""
    left = html.Div([html.Div(id="overview-flight"), html.Div(id="overview-charts")], className="stack")
    return html.Div([frame("overview"), html.Div([left, html.Div(id="overview-lines")], className="grid side")])


@callback(
    Output("overview", "children"),
    Output("overview-flight", "children"),
    Output("overview-lines", "children"),
    Input("news", "data"),
)
async def refresh(_news: Json | None) -> Any:
    """Any news may change what waits for somebody."""
    made = await fill(body, desk())
    return made if isinstance(made, tuple) else (made, None, None)


@callback(Output("overview-charts", "children"), Input("news", "data"))
async def draw(news: Json | None) -> Any:
    """The charts, drawn again only when what they show has moved."""
    moved = (news or {}).get("moved") or []
    if ctx.triggered_prop_ids and moved and not {"DecisionsSealed", "DriftMeasured"} & set(moved):
        raise PreventUpdate
    return await fill(drawn, desk())


async def body(at: Desk) -> tuple[Any, Any, Any]:
    """Queue, releases in flight, latest lines: for this person, now."""
    state, signals, latest = await asyncio.gather(at.state(), at.newest(300, kind=_SIGNALS), at.newest(_LINES))
    now = datetime.now(UTC)
    rows = needs(state, signals["records"], at.person.name, at.person.role, now)
    top = [page_head("Needs you", headline(rows, now)), queue(rows, now, at.person.role)]
    side = html.Div([switch_panel(EVERYBODY, state, at.person), lines(latest["records"])], className="stack")
    return top, flight(state), side


async def drawn(at: Desk) -> html.Div:
    """The two charts."""
    measured, sealed = await asyncio.gather(
        at.newest(150, kind="DriftMeasured"), at.newest(240, kind="DecisionsSealed")
    )
    return charts(measured["records"], sealed["records"])


def queue(rows: list[Need], now: datetime, role: str) -> html.Ul | html.Div:
    """The rows, worst first; only the first has a filled button."""
    if not rows:
        text = f"Nothing waits for role {role}. Releases in flight go on by themselves and ask when they need you."
        return html.Div([status("Passed", "All clear"), html.P(text, className="note")], className="needs clear")
    items = []
    for index, row in enumerate(rows):
        words = html.Div([html.Span(row.subject, className="subject"), html.Span(row.what)], className="what")
        body_ = html.Div([words, html.Div(row.calm, className="calm")], className="body")
        verb = link([row.verb, html.Span(f" {row.subject}", className="hidden")], row.href, _button(index))
        items.append(html.Li([html.Div(status(row.status)), body_, html.Div(age(row.at, now), className="age"), verb]))
    edge = "" if rows[0].status in ("Blocked", "Failed") else " warn-edge"
    for item in items:
        item.className = "need"
    return html.Ul(items, className=f"needs{edge}", **{"aria-label": "Needs you"})


def _button(index: int) -> str:
    return "button filled" if index == 0 else "button"


def flight(state: Json) -> html.Section:
    """Releases on their way and those that answer now, newest first."""
    shown_ = [release for release in state["releases"].values() if release["state"] not in _ENDED]
    shown_.sort(key=lambda release: -release["steps"][-1]["seq"] if release["steps"] else 0)
    if not shown_:
        text = "A release appears here as soon as its training ends."
        command = "ray job submit --working-dir . -- python -m training.pipeline examples/credit_default"
        return panel("In flight", empty("Nothing is in flight.", text, command))
    rows = [
        [
            release_link(release["release"]),
            standing(release, stops.view(state, release["model"])),
            where(release, stops.view(state, release["model"])),
            progress(release),
        ]
        for release in shown_[:12]
    ]
    heads = ["Release", "Status", "Where", "Progress"]
    aside = link(plural(len(state["releases"]), "release"), "/releases")
    return panel("In flight", table(heads, rows, caption="Releases in flight"), aside=aside)


def where(release: Json, model: Json) -> str:
    """Where a release is, in a few words."""
    share = percent(release.get("share"))
    carries = "killed" if model.get("stopped") else f"carries {share}"
    if model.get("shadow") == release["release"]:
        return "In the shadow, scores copies"
    match release["state"]:
        case "canary" | "rollout" if model.get("stopped"):
            return f"{release['state'].capitalize()} {share}, killed"
        case "canary":
            return f"Canary {share}" + (", held" if release.get("hold") else "")
        case "review":
            return f"In review, due {clock((release.get('review') or {}).get('due_at'))}, {carries}"
        case "rollout":
            return f"Rollout {share}"
        case "champion" if model.get("stopped"):
            return "Killed, nobody answers" if model["stopped"] == "nothing" else "Killed, the baseline answers"
        case "champion":
            rest = model.get("share") or 0.0
            return f"{percent(1 - rest)} since {clock(release.get('promoted_at'))}"
        case "approved":
            return f"Approved, waits to be promoted, {carries}"
        case "trained":
            checks = release.get("checks") or {}
            return f"Validating, {plural(len(checks), 'check')} done"
        case _:
            return str(release["state"]).replace("_", " ").capitalize()


def charts(measured: list[Json], sealed: list[Json]) -> html.Div:
    """Traffic by release and share of drifted features."""
    limit = measured[0]["data"]["limit"] if measured else None
    window = f"{plural(len(sealed), 'sealed segment')}, decisions a minute"
    return html.Div(
        [
            chart(
                "Traffic by release",
                traffic_series(sealed),
                note=window,
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


def traffic_series(sealed: list[Json]) -> Series:
    """Decisions a minute per release, oldest first, from DecisionsSealed records (newest first)."""
    series: Series = {}
    for record in reversed(sealed):
        data = record["data"]
        minutes = max((moment(data["to"]) - moment(data["from"])).total_seconds(), 1.0) / 60
        for name, rows in data["releases"].items():
            series.setdefault(name, []).append((data["to"], rows / minutes))
    return series


def drift_series(measured: list[Json]) -> Series:
    """Share of drifted features per model, oldest first; measurements without enough data leave a gap."""
    series: Series = {}
    for record in reversed(measured):
        if record["data"]["share_drifted"] is not None:
            series.setdefault(record["model"], []).append((record["at"], record["data"]["share_drifted"]))
    return series


def lines(latest: list[Json]) -> html.Section:
    """The latest lines of the ledger, without the hum of seals and measurements."""
    told = [record for record in latest if record["kind"] not in _HUM][:_SHOWN]
    items = []
    for record in told:
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
