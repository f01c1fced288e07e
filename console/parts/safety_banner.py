"""What is stopped, on every page: a red line for each kill switch, another for each breaker, and the switch itself."""

from __future__ import annotations

from typing import Any

from dash import Input, Output, callback, html
from dash.exceptions import PreventUpdate

from console import kill_switch as switch
from console import safety_text as stops
from console.formatting import plural
from console.ledger_client import desk
from console.parts.widgets import actions, button, icon, panel, release_link
from console.session import Person
from plimsoll.errors import Error

Json = dict[str, Any]
ID = "stops"
_MOST = 4  # lines of each kind; the pages of the models show the rest
_LETS_GO = ("ask-release", "confirm-release")


@callback(Output(ID, "children"), Input("news", "data"))
async def refresh(_news: Json | None) -> Any:
    """Read again at any news; while the ledger is silent what was read last stays."""
    at = desk()
    try:
        return banner(await at.state(), at.person)
    except Error as error:
        raise PreventUpdate from error


def banner(state: Json, person: Person) -> list[Any]:
    """A line for each switch that is pulled, with the button that lets go, then for each model with open breakers."""
    pulled = [_killed(whose, kill, person) for whose, kill in stops.switches(state)]
    broken = [_broken(model) for _, model in sorted(state["models"].items()) if model.get("breakers")]
    return [*_some(pulled, "kill switch", "kill switches"), *_some(broken, "model", "models with open breakers")]


def switch_panel(subject: str, state: Json, person: Person) -> html.Section:
    """The kill switch of a model, or of all: how it stands, and this person's buttons."""
    kill, whose = switch.kill_of(state, subject), switch.name_of(subject)
    parts: list[Any] = []
    if kill is None:
        parts.append(html.P(f"Not pulled: {whose} may answer." if subject != switch.EVERYBODY else "Not pulled."))
    else:
        parts += [html.P(stops.killed(kill), className="strong"), html.P(f"“{kill['reason']}”")]
        parts.append(html.P(stops.waiting(kill)))
    if subject != switch.EVERYBODY:
        parts += _beside(state, subject)
    return panel("Kill switch", *parts, actions(switch.options(subject, kill, person.name, person.role)))


def _beside(state: Json, name: str) -> list[Any]:
    """What else keeps the champion from answering, and what scores in the shadow."""
    model, parts = state["models"][name], []
    if state["kill"]:
        parts.append(html.P(f"All models: {stops.killed(state['kill'])}", className="strong"))
    parts += [html.P([icon("octagon", "ink-bad"), f" Breaker open: {text}."]) for text in stops.breakers(model)]
    if model.get("shadow"):
        parts.append(html.P([icon("clock", "ink-info"), " ", release_link(model["shadow"]), " scores in the shadow."]))
    return parts


def _killed(whose: str, kill: Json, person: Person) -> html.Div:
    subject = switch.EVERYBODY if whose == stops.ALL else whose
    offered = [one for one in switch.options(subject, kill, person.name, person.role) if one.verb in _LETS_GO]
    words = [html.Span(f"{whose[:1].upper()}{whose[1:]} " if whose == stops.ALL else f"{whose} ", className="subject")]
    why = html.P(f"“{kill['reason']}”. {stops.waiting(kill)}")
    said = html.Div([html.P([*words, stops.killed(kill)], className="strong"), why])
    buttons = [button(one, filled=False) for one in offered if one.why_not is None]
    return html.Div([icon("octagon"), said, *buttons], className="stop killed")


def _broken(model: Json) -> html.Div:
    name = html.Span(model["model"], className="subject")
    said = [html.P([name, f" breaker open, {text}"]) for text in stops.breakers(model)]
    return html.Div([icon("triangle"), html.Div(said)], className="stop broken")


def _some(rows: list[html.Div], one: str, many: str) -> list[html.Div]:
    if len(rows) <= _MOST:
        return rows
    more = f"and {plural(len(rows) - _MOST, f'more {one}', f'more {many}')}; see the models"
    return [*rows[:_MOST], html.Div([icon("octagon"), html.P(more)], className="stop killed")]
