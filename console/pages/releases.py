"""Releases: a page of a hundred at a time, the one that moved last first; filters and page are in the address."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, Output, State, callback, clientside_callback, dcc, html

from console.formatting import age, number, plural
from console.model_now import ModelNow
from console.parts.buttons import release_status
from console.parts.interests import OF_RELEASES, OF_STOPS
from console.parts.journey_steps import progress
from console.parts.live_part import Interest, LivePart, Made
from console.parts.paging import page_number, pages
from console.parts.release_text import state_words, where
from console.parts.safety_banner import answering
from console.parts.search import search_box
from console.parts.widgets import empty, page_head, panel, release_link, table
from console.person_ledger import PersonLedger, person_ledger
from lineage import lifecycle
from lineage.state.entities import ReleaseSummary
from lineage.state.views import ReleasesPage

PAGE = {"path": "/releases", "name": "Releases", "title": "Releases · Plimsoll", "icon": "box", "order": 1}
Json = dict[str, Any]
PART = LivePart("releases")
FILTERS = ("model", "state", "search", "page")
SIZE = 100

clientside_callback(
    ClientsideFunction("plimsoll", "filter_releases"),
    Output("releases-query", "data"),
    Input("releases-model", "value"),
    Input("releases-state", "value"),
    Input("releases-search", "value"),
    State("releases-query", "data"),
)


def layout(
    model: str | None = None, state: str | None = None, search: str | None = None, page: str | None = None, **_: Any
) -> html.Div:
    """The page's frame; filters come from the address."""
    given = {"model": model, "state": state, "search": search, "page": page}
    chosen = {name: value for name, value in given.items() if value}
    return html.Div([page_head("Releases"), filters(chosen), PART.frame(dcc.Store(id="releases-query", data=chosen))])


def filters(chosen: Json) -> html.Div:
    """Model, state and a part of the name."""
    states = [{"value": str(state), "label": state_words(state)} for state in lifecycle.State]
    boxes = [
        search_box("releases-model", "Model", chosen.get("model")),
        dmc.Select(
            id="releases-state",
            label="State",
            data=states,
            value=chosen.get("state"),
            clearable=True,
            clearButtonProps={"aria-label": "Clear state"},
        ),
        dmc.TextInput(id="releases-search", label="Name", value=chosen.get("search", ""), debounce=300),
    ]
    return html.Div([html.Div(box) for box in boxes], className="filters")


@callback(
    Output("releases", "children"),
    PART.shown_output,
    PART.turn,
    Input("releases-query", "data"),
    PART.shown,
    running=PART.running,
)
async def refresh(_turn: Json | None, chosen: Json | None, shown: Json | None) -> Any:
    """Read again when a release moved, and at another filter or page."""
    return await PART.fill(person_ledger(), shown, lambda at: body(at, chosen or {}))


async def body(at: PersonLedger, chosen: Json) -> Made:
    """One page of releases."""
    model, state, search = (str(chosen.get(name) or "") for name in ("model", "state", "search"))
    page = page_number(chosen.get("page"))
    found = await at.releases(model=model, state=state, search=search, offset=(page - 1) * SIZE, limit=SIZE)
    about = ModelNow(found.models[model], found.kill) if model in found.models else None
    note = plural(found.total, "release")
    head = html.P([number_of(page, found), f"; {answering(about)}" if about else ""], className="note")
    links = pages("/releases", chosen, page, SIZE, found.total)
    shown = panel(model or "Releases", head, listing(found), links, aside=note) if found.releases else nothing(chosen)
    return shown, Interest(OF_RELEASES | OF_STOPS, (model,) if model else None)


def number_of(page: int, found: ReleasesPage) -> str:
    """Which of them are on this page."""
    first = (page - 1) * SIZE + 1
    last = first + len(found.releases) - 1
    return f"{number(first)} to {number(last)}, the one that moved last first"


def listing(found: ReleasesPage) -> html.Div:
    """The releases as a table."""
    now = datetime.now(UTC)
    rows = [_row(release, ModelNow(found.models[release.model], found.kill), now) for release in found.releases]
    heads: Sequence[str] = ["Release", "Status", "Where", "Progress", "Author", "Trained"]
    return table(list(heads), rows, caption="Releases")


def _row(release: ReleaseSummary, now: ModelNow, at: datetime) -> list[Any]:
    return [
        release_link(release.release),
        release_status(release, now),
        where(release, now),
        progress(release),
        release.author,
        html.Span(age(release.trained_at, at), className="note"),
    ]


def nothing(chosen: Json) -> html.Section:
    """No release matches, or there is none yet."""
    if chosen:
        return panel("Releases", empty("No release matches.", "Take a filter away, or go back to the first page."))
    command = "ray job submit --working-dir . -- python -m training.pipeline examples/credit_default"
    return panel("Releases", empty("No releases yet.", "A release appears when its training ends.", command))
