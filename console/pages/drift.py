"""Drift: per model, the latest measurement of live inputs against the release's reference, worst features first."""

from __future__ import annotations

from typing import Any

from dash import Input, Output, State, callback, dcc, html

from console.actions import Option, refusal
from console.formatting import clock, number, percent, plural
from console.inbox import open_alerts
from console.ledger_client import Desk, desk
from console.pages.overview import drift_series
from console.parts.charts import chart
from console.parts.frame import fill, frame
from console.parts.widgets import VERDICT_STATUS, actions, empty, page_head, panel, release_link, status, tone_icon

PAGE = {"path": "/drift", "name": "Drift", "title": "Drift · Plimsoll", "icon": "wave", "order": 2}
Json = dict[str, Any]
_KINDS = "DriftMeasured,AlertRaised"
_FEATURES = 12


def layout(model: str | None = None, **_: Any) -> html.Div:
    """The page, filled; `?model=` narrows it."""
    return frame("drift", dcc.Store(id="drift-model", data=model))


@callback(Output("drift", "children"), Input("news", "data"), State("drift-model", "data"))
async def refresh(_news: Json | None, model: str | None) -> Any:
    """Read again at any news: an alert, a measurement or a retrain request may be about any model."""
    return await fill(body, desk(), model)


async def body(at: Desk, only: str | None) -> list[Any]:
    """One section a model."""
    state = await at.state()
    models = [name for name in sorted(state["models"]) if only in (None, name)]
    sections: list[tuple[bool, str, Any]] = []
    for name in models:
        records = (await at.newest(300, kind=_KINDS, model=name))["records"]
        measured = any(record["kind"] == "DriftMeasured" for record in records)
        sections.append((not measured, name, one_model(state, state["models"][name], records, at)))
    found = [section for _, _, section in sorted(sections, key=lambda one: one[:2])]
    nothing = panel("Drift", empty("Nothing is measured yet.", "Measurements begin with the first champion."))
    return [page_head("Drift", "live inputs against the reference of the release that answers"), *(found or [nothing])]


def one_model(state: Json, model: Json, records: list[Json], at: Desk) -> html.Div:
    """Latest measurement, its history, and what was done about it."""
    measured = [record for record in records if record["kind"] == "DriftMeasured"]
    if not measured:
        text = "The first measurement needs a full window of decisions by one release."
        return html.Div(panel(model["model"], empty("No drift measurement yet.", text)), className="grid")
    latest = measured[0]["data"]
    history = chart(
        "History",
        drift_series(measured[:120]),
        limit=latest["limit"],
        share=True,
        note="Share of features over their limit",
        why_empty="No measurement had enough data yet.",
    )
    right = html.Div([history, response(state, model, records, at)], className="stack")
    return html.Div([features(model["model"], measured[0]), right], className="grid two")


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


def response(state: Json, model: Json, records: list[Json], at: Desk) -> html.Section:
    """Open alerts, the training that was asked for, and the button to ask for one."""
    alerts = [alert for alert in open_alerts(state, records) if "drift" in alert["data"]["alert"].lower()]
    said: list[Any] = [
        html.P([tone_icon("bad"), f" {alert['data']['summary']} ({clock(alert['at'])} UTC, #{alert['seq']})"])
        for alert in alerts
    ] or [html.P("No open alert.", className="note")]
    jobs = sorted(model.get("jobs", {}).items(), key=lambda pair: -int(pair[0]))[:3]
    said += [html.P(_job(seq, job), className="note") for seq, job in jobs]
    nobody = {"release": model["model"], "state": "none", "author": ""}
    why = refusal("retrain", nobody, model, at.person.name, at.person.role)
    return panel("What was done", *said, actions([Option("retrain", model["model"], f"Retrain {model['model']}", why)]))


def _job(seq: str, job: Json) -> str:
    message = f", {job['message']}" if job.get("message") else ""
    return f"Retraining #{seq} by {job.get('author', '–')}: {job['status']}{message} ({job.get('why', '')})"
