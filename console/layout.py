"""What is around every page: header, navigation, review dialog, notices and the stores that news arrives in."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, Output, State, clientside_callback, dcc, html

from console import review_dialog
from console.parts import safety_banner
from console.parts.widgets import icon, link
from console.session import WHO, Person

_SLATES = ["#e4e9ef", "#a5b1bf", "#8793a1", "#5c6a7a", "#2d3846", "#232d38", "#181f27", "#181f27", "#11161c", "#0c1014"]
_BLUES = ["#e1f0fa", "#c3e0f4", "#8fc6ea", "#56b4e9", "#2f94d1", "#1580bf", "#0a79b7", "#0072b2", "#005a8f", "#00456e"]
THEME: dict[str, Any] = {
    "primaryColor": "blue",
    "primaryShade": 7,
    "colors": {"dark": _SLATES, "blue": _BLUES},
    "fontFamily": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "defaultRadius": 6,
    "cursorType": "pointer",
    "respectReducedMotion": True,
}

#: Dash checks the layout once at start, before any person can be signed in; that one is never sent.
NO_PERSON = Person("", "", "", "", "")

clientside_callback(
    ClientsideFunction("plimsoll", "beat"),
    Output("chip", "children"),
    Output("chip", "className"),
    Output("stale", "hidden"),
    Input("beat", "data"),
    Input("second", "n_intervals"),
)
clientside_callback(
    ClientsideFunction("plimsoll", "poll"),
    Output("news", "data"),
    Input("slow", "n_intervals"),
    State("news", "data"),
    prevent_initial_call=True,
)


def layout() -> Any:
    """The shell for the person of this request."""
    person = WHO.get() or NO_PERSON
    stores = [
        dcc.Store(id="beat"),
        dcc.Store(id="news"),
        dcc.Store(id="ask"),
        dcc.Interval(id="second", interval=1_000),
        # For browsers without a shared worker, and so without a socket.
        dcc.Interval(id="slow", interval=15_000),
    ]
    return dmc.MantineProvider(
        [
            header(person),
            html.Div(
                [navigation(), html.Main([stale(), stopped(), dash.page_container], id="main")], className="frame"
            ),
            review_dialog.modal(),
            dmc.NotificationContainer(id="notices", position="bottom-right", limit=4),
            html.Div(palette(), id="palette-links", hidden=True),
            *stores,
        ],
        theme=THEME,
        defaultColorScheme="auto",
    )


def header(person: Person) -> html.Header:
    """Name, search, live chip, theme switch, person."""
    themes = [
        html.Button(word, type="button", className="theme", **{"data-theme": value, "aria-pressed": "false"})
        for word, value in (("Light", "light"), ("Auto", "auto"), ("Dark", "dark"))
    ]
    menu = html.Button(
        icon("menu"), id="menu", type="button", className="bare", **{"aria-label": "Menu", "aria-expanded": "false"}
    )
    search = html.Button(
        [icon("search"), html.Span("Go to or do…", className="words"), html.Kbd("Ctrl K")],
        id="search",
        type="button",
        **{"aria-label": "Go to or do"},
    )
    chip = html.Span("Connecting", id="chip", className="chip quiet", role="status")
    brand = link([html.Span(className="mark", **{"aria-hidden": "true"}), html.Span("Plimsoll")], "/", "brand")
    tools = html.Div(
        [chip, html.Div(themes, className="themes", role="group", **{"aria-label": "Theme"}), _who(person)]
    )
    return html.Header([menu, brand, search, html.Div(tools, className="tools")])


def _who(person: Person) -> html.Form:
    roles = ", ".join(person.roles)
    name = person.name if person.name == roles else f"{person.name} · {roles}"
    return html.Form(
        [
            html.Span([icon("person"), html.Span(name, className="words")], className="who", title=f"Role {roles}"),
            dcc.Input(type="hidden", name="csrf", value=person.csrf),
            html.Button("Sign out", type="submit", className="bare", id="sign-out"),
        ],
        action="/sign-out",
        method="post",
    )


def listed() -> list[dict[str, Any]]:
    """Pages of the navigation, in order."""
    pages = [page for page in dash.page_registry.values() if page.get("icon")]
    return sorted(pages, key=lambda page: page["order"])


def navigation() -> html.Nav:
    """Links to the pages; the script marks the current one."""
    items = [link([icon(page["icon"]), html.Span(page["name"])], page["relative_path"]) for page in listed()]
    return html.Nav(items, id="nav", **{"aria-label": "Pages"})


def palette() -> list[Any]:
    """What Ctrl-K offers at once; releases are searched for as it is typed."""
    return [link(page["name"], page["relative_path"]) for page in listed()]


def stopped() -> html.Div:
    """What is killed and which breakers are open, above every page."""
    part = safety_banner.PART
    return html.Div([*part.stores(), html.Section(id=part.id, className="stops", **{"aria-label": "What is stopped"})])


def stale() -> html.Div:
    """The banner over a page whose news has stopped."""
    text = "The ledger has stopped answering. What you see is old. Actions are paused until it returns."
    return html.Div([icon("octagon"), text], id="stale", className="refusal", role="alert", hidden=True)
