"""Releases: every release of every model, newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dash import Input, Output, callback, html

from console import safety_text as stops
from console.formatting import age, plural
from console.ledger_client import Desk, desk
from console.pages.overview import where
from console.parts.frame import fill, frame
from console.parts.journey_steps import progress
from console.parts.widgets import empty, page_head, panel, release_link, standing, table

PAGE = {"path": "/releases", "name": "Releases", "title": "Releases · Plimsoll", "icon": "box", "order": 1}
Json = dict[str, Any]


def layout(**_: Any) -> html.Div:
    """The page, filled."""
    return frame("releases")


@callback(Output("releases", "children"), Input("news", "data"))
async def refresh(_news: Json | None) -> Any:
    """Read again at any news."""
    return await fill(body, desk())


async def body(at: Desk) -> list[Any]:
    """One table a model."""
    state = await at.state()
    count = f"{plural(len(state['releases']), 'release')} of {plural(len(state['models']), 'model')}"
    models = [one_model(stops.view(state, name), state) for name in sorted(state["models"])]
    command = "ray job submit --working-dir . -- python -m training.pipeline examples/credit_default"
    nothing = panel("Releases", empty("No releases yet.", "A release appears when its training ends.", command))
    return [page_head("Releases", count), html.Div(models or nothing, className="stack")]


def one_model(model: Json, state: Json) -> html.Section:
    """The releases of a model; who answers stands in the head."""
    now = datetime.now(UTC)
    own = [release for release in state["releases"].values() if release["model"] == model["model"]]
    rows = [
        [
            release_link(release["release"]),
            standing(release, model),
            where(release, model),
            progress(release),
            release["author"],
            html.Span(age(release["trained_at"], now), className="note"),
        ]
        for release in sorted(own, key=lambda one: -one["number"])
    ]
    heads = ["Release", "Status", "Where", "Progress", "Author", "Trained"]
    answers = f"{model['champion'] or 'The baseline'} answers"
    if model["stopped"]:
        answers = f"Killed: {stops.answers(model['stopped'])}"
    return panel(model["model"], table(heads, rows, caption=f"Releases of {model['model']}"), aside=answers)
