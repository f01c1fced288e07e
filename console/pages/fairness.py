"""Fairness: favourable rates by group, at validation and live, with the ratio against its limit."""

from __future__ import annotations

from typing import Any

from dash import Input, Output, State, callback, dcc, html

from console.formatting import clock, interval, number, percent
from console.ledger_client import Desk, desk
from console.parts.frame import fill, frame
from console.parts.widgets import VERDICT_STATUS, empty, page_head, panel, release_link, status, table

PAGE = {"path": "/fairness", "name": "Fairness", "title": "Fairness · Plimsoll", "icon": "scale", "order": 3}
Json = dict[str, Any]
_STAGES = {"validation": "At validation", "live": "Live"}
_SAYS = {"ok": "Within limit", "breach": "Breach", "not_enough_data": "Not enough data"}


def layout(model: str | None = None, **_: Any) -> html.Div:
    """The page, filled; `?model=` narrows it."""
    return frame("fairness", dcc.Store(id="fairness-model", data=model))


@callback(Output("fairness", "children"), Input("news", "data"), State("fairness-model", "data"))
async def refresh(_news: Json | None, model: str | None) -> Any:
    """Read again at any news."""
    return await fill(body, desk(), model)


async def body(at: Desk, only: str | None) -> list[Any]:
    """One panel for each model, attribute and stage: the newest measurement."""
    records = (await at.newest(500, kind="FairnessMeasured", model=only))["records"]
    newest: dict[tuple[str, str, str], Json] = {}
    for record in records:
        newest.setdefault((record["model"], record["data"]["attribute"], record["data"]["stage"]), record)
    order = sorted(newest, key=lambda key: (key[0], key[1], key[2] != "live"))
    panels = [measurement(newest[key]) for key in order]
    if not panels:
        text = "Groups are compared at validation and then live, when enough decisions have been made."
        panels = [panel("Fairness", empty("Nothing is measured yet.", text))]
    return [
        page_head("Fairness", "rates of the favourable decision by group"),
        html.Div(panels, className="grid two"),
    ]


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
