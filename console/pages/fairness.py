"""Fairness: favourable rates by group, at validation and live, with the ratio against its limit."""

from __future__ import annotations

import asyncio
from typing import Any

from dash import ClientsideFunction, Input, Output, State, callback, clientside_callback, dcc, html

from console.formatting import clock, interval, number, percent
from console.parts.alerts import alert_lines
from console.parts.live_part import LivePart, Made
from console.parts.measured_models import models_of_page
from console.parts.search import search_box
from console.parts.widgets import VERDICT_STATUS, empty, page_head, panel, release_link, status, table
from console.person_ledger import PersonLedger, person_ledger
from lineage.state.entities import ModelSummary

PAGE = {"path": "/fairness", "name": "Fairness", "title": "Fairness · Plimsoll", "icon": "scale", "order": 3}
Json = dict[str, Any]
PART = LivePart("fairness")
_MEASURED = 60  # the newest of a model, in which the newest of each attribute and stage is looked for
_STAGES = {"validation": "At validation", "live": "Live"}
_SAYS = {"ok": "Within limit", "breach": "Breach", "not_enough_data": "Not enough data"}

clientside_callback(
    ClientsideFunction("plimsoll", "filter_fairness"),
    Output("fairness-query", "data"),
    Input("fairness-model", "value"),
    State("fairness-query", "data"),
)


def layout(model: str | None = None, page: str | None = None, **_: Any) -> html.Div:
    """The page's frame; `?model=` narrows it."""
    chosen = {name: value for name, value in {"model": model, "page": page}.items() if value}
    box = html.Div(html.Div(search_box("fairness-model", "Model", model)), className="filters")
    head = page_head("Fairness", "rates of the favourable decision by group")
    return html.Div([head, box, PART.frame(dcc.Store(id="fairness-query", data=chosen))])


@callback(
    Output("fairness", "children"),
    PART.shown_output,
    PART.turn,
    Input("fairness-query", "data"),
    PART.shown,
    running=PART.running,
)
async def refresh(_turn: Json | None, chosen: Json | None, shown: Json | None) -> Any:
    """Read again when something was measured of a model on this page."""
    return await PART.fill(person_ledger(), shown, lambda at: body(at, chosen or {}))


async def body(at: PersonLedger, chosen: Json) -> Made:
    """For each model its open alerts, and a panel for each attribute and stage: the newest measurement."""
    models, links, interest = await models_of_page(at, "/fairness", chosen)
    found = await asyncio.gather(*(at.newest(_MEASURED, kind="FairnessMeasured", model=one.model) for one in models))
    sections = [one_model(model, records) for model, records in zip(models, found, strict=True)]
    text = "Groups are compared at validation and then live, when enough decisions have been made."
    nothing = panel("Fairness", empty("Nothing is measured yet.", text))
    return [*([one for one in sections if one is not None] or [nothing]), links], interest


def one_model(model: ModelSummary, records: list[Json]) -> html.Div | None:
    """The panels of a model; None where nothing is measured."""
    newest: dict[tuple[str, str], Json] = {}
    for record in records:
        newest.setdefault((record["data"]["attribute"], record["data"]["stage"]), record)
    order = sorted(newest, key=lambda key: (key[0], key[1] != "live"))
    panels = html.Div([measurement(newest[key]) for key in order], className="grid two")
    alerts = [alert for alert in model.alerts if alert.alert == "fairness"]
    if not alerts:
        return panels if order else None
    return html.Div([panel(f"{model.model} · open alerts", *alert_lines(alerts)), panels], className="stack")


def measurement(record: Json) -> html.Section:
    """One measurement: verdict, ratio with interval and limit, and the groups."""
    data = record["data"]
    ratio = f"Lowest to highest rate {number(data['ratio'])}" if data["ratio"] is not None else "No ratio yet"
    pair = data.get("ratio_interval")
    spread = f" ({number(pair[0])} – {number(pair[1])})" if pair else ""
    said = f"{ratio}{spread}, limit at least {number(data['limit'])}"
    head = html.P(
        [status(VERDICT_STATUS[data["verdict"]], _SAYS[data["verdict"]]), html.Span(said.strip())], className="lead"
    )
    note = html.P(
        [release_link(data["release"]), f" · measured {clock(record['at'])} UTC, #{record['seq']}"], className="note"
    )
    heads = ["Group", "n", "Favourable", "Interval"]
    rows = [group(one) for one in sorted(data["groups"], key=lambda one: one["favourable_rate"] or 2.0)]
    caption = f"{record['model']} by {data['attribute']}, {_STAGES[data['stage']].lower()}"
    return panel(
        f"{record['model']} · {data['attribute']}",
        head,
        note,
        table(heads, rows, caption=caption),
        aside=_STAGES[data["stage"]],
    )


def group(one: Json) -> list[Any]:
    """A group's row; a group too small to say anything about says so."""
    if one["favourable_rate"] is None:
        return [str(one["group"]), number(one["n"]), html.Span("not enough data", className="note"), "–"]
    name: Any = str(one["group"])
    if not one.get("enough", True):  # shown, but it moved no verdict
        name = [name, html.Span(" not enough data for the ratio", className="note")]
    return [name, number(one["n"]), percent(one["favourable_rate"]), interval(one.get("interval"))]
