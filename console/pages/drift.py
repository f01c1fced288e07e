"""Drift: per model, the latest measurement of live inputs against the release's reference, worst features first."""

from __future__ import annotations

import asyncio
from typing import Any

from dash import ClientsideFunction, Input, Output, State, callback, clientside_callback, dcc, html

from console.actions import Button, buttons
from console.formatting import clock, number, percent, plural
from console.parts.alerts import alert_lines
from console.parts.buttons import action_buttons
from console.parts.charts import chart
from console.parts.live_part import LivePart, Made
from console.parts.measured_models import models_of_page
from console.parts.measurements import drift_series
from console.parts.search import search_box
from console.parts.widgets import VERDICT_STATUS, empty, page_head, panel, release_link, status, tone_icon
from console.person_ledger import PersonLedger, person_ledger
from lineage.state.entities import Job, ModelSummary

PAGE = {"path": "/drift", "name": "Drift", "title": "Drift · Plimsoll", "icon": "wave", "order": 2}
Json = dict[str, Any]
PART = LivePart("drift")
#: Measurements in a history, features of a measurement.
_HISTORY, _FEATURES = 60, 12

clientside_callback(
    ClientsideFunction("plimsoll", "filter_drift"),
    Output("drift-query", "data"),
    Input("drift-model", "value"),
    State("drift-query", "data"),
)


def layout(model: str | None = None, page: str | None = None, **_: Any) -> html.Div:
    """The page's frame; `?model=` narrows it."""
    chosen = {name: value for name, value in {"model": model, "page": page}.items() if value}
    box = html.Div(html.Div(search_box("drift-model", "Model", model)), className="filters")
    head = page_head("Drift", "live inputs against the reference of the release that answers")
    return html.Div([head, box, PART.frame(dcc.Store(id="drift-query", data=chosen))])


@callback(
    Output("drift", "children"),
    PART.shown_output,
    PART.turn,
    Input("drift-query", "data"),
    PART.shown,
    running=PART.running,
)
async def refresh(_turn: Json | None, chosen: Json | None, shown: Json | None) -> Any:
    """Read again when something was measured or asked for about a model on this page."""
    return await PART.fill(person_ledger(), shown, lambda at: body(at, chosen or {}))


async def body(at: PersonLedger, chosen: Json) -> Made:
    """One section a model, those with open alerts first."""
    models, links, interest = await models_of_page(at, "/drift", chosen)
    models.sort(key=lambda model: not any(alert.alert == "drift" for alert in model.alerts))
    sections = await asyncio.gather(*(one_model(at, model) for model in models))
    nothing = panel("Drift", empty("Nothing is measured yet.", "Measurements begin with the first champion."))
    return [*(sections or [nothing]), links], interest


async def one_model(at: PersonLedger, model: ModelSummary) -> html.Div:
    """Latest measurement, its history, and what was done about it."""
    measured, offers = await asyncio.gather(
        at.newest(_HISTORY, kind="DriftMeasured", model=model.model), at.offers(model.model)
    )
    did = response(model, buttons(["retrain"], model.model, offers))
    if not measured:
        text = "The first measurement needs a full window of decisions by one release."
        return html.Div([panel(model.model, empty("No drift measurement yet.", text)), did], className="grid two")
    history = chart(
        "History",
        drift_series(measured),
        limit=measured[0]["data"]["limit"],
        share=True,
        note="Share of features over their limit",
        why_empty="No measurement had enough data yet.",
    )
    return html.Div(
        [features(model.model, measured[0]), html.Div([history, did], className="stack")], className="grid two"
    )


def features(name: str, record: Json) -> html.Section:
    """The worst features with a bar each and the limit as a line."""
    data = record["data"]
    window = data["window"]
    share = percent(data["share_drifted"]) if data["share_drifted"] is not None else "not known"
    head = [
        status(VERDICT_STATUS[data["verdict"]], {"ok": "No drift", "drift": "Drift"}.get(data["verdict"])),
        html.Span(
            [" ", release_link(data["release"]), f" · {share} of features drifted (limit {percent(data['limit'])})"]
        ),
    ]
    note = f"{number(window.get('rows'))} decisions, {clock(window.get('from'))} – {clock(window.get('to'))} UTC"
    ordered = sorted(data["features"], key=lambda one: -_times(one))
    bars = [bar(feature) for feature in ordered[:_FEATURES]]
    rest = len(ordered) - len(bars)
    more = html.P(f"and {plural(rest, 'feature')} further from their limits", className="note") if rest > 0 else None
    none = empty("Not enough data.", "The window is not full yet; no data is not a pass.")
    return panel(
        name,
        html.P(head, className="lead"),
        html.P(note, className="note"),
        html.Ul(bars, className="scores") if bars else none,
        more,
    )


def _times(feature: Json) -> float:
    return (feature.get("score") or 0.0) / (feature.get("limit") or 1.0)


def bar(feature: Json) -> html.Li:
    """One feature: a bar to twice its limit, the limit in the middle."""
    score, limit = feature.get("score"), feature["limit"]
    width = min(_times(feature) / 2, 1.0) * 100
    tone = "over" if feature["drifted"] else ""
    text = f"{number(score)} (limit {number(limit)})"
    drawn = html.Div(
        [html.Div(className=f"fill {tone}", style={"width": f"{width:.1f}%"}), html.Div(className="limit")],
        className="track",
        **{"aria-hidden": "true"},
    )
    mark = [tone_icon("warn"), " "] if feature["drifted"] else []
    name = html.Span([*mark, feature["feature"]], className="name", title=feature.get("method", ""))
    return html.Li([name, drawn, html.Span(text, className="note")], className="score")


def response(model: ModelSummary, offered: list[Button]) -> html.Section:
    """Open alerts, the training that was asked for, and the button to ask for one."""
    drifted = [alert for alert in model.alerts if alert.alert == "drift"]
    said = alert_lines(drifted)
    said += [html.P(_job(model.last_job), className="note")] if model.last_job else []
    return panel("What was done", *said, action_buttons(offered))


def _job(job: Job) -> str:
    message = f", {job.message}" if job.message else ""
    return f"Retraining #{job.request} by {job.author}: {job.status}{message} ({job.why})"
