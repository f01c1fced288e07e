"""What is stopped, on every page: a red line for each kill switch, another for each breaker, and the switch itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from dash import Output, callback, html

from console import kill_switch, safety_text
from console.formatting import clock, plural
from console.kill_switch import Switch
from console.model_now import ModelNow
from console.parts.buttons import action_button, action_buttons
from console.parts.interests import OF_STOPS, OF_WITNESS
from console.parts.live_part import Interest, LivePart, Made
from console.parts.widgets import icon, panel, release_link
from console.person_ledger import ALL_MODELS, PersonLedger, person_ledger
from lineage.rules.views import Offers
from lineage.state.entities import ModelSummary
from lineage.state.keys import Away
from lineage.state.safety import Kill
from lineage.state.views import ModelsPage

Json = dict[str, Any]
_MOST = 4  # lines of each kind; the pages of the models show the rest
_READ = 100  # models that are looked through for those lines
PART = LivePart("stops")


@callback(Output("stops", "children"), PART.shown_output, PART.turn, PART.shown, running=PART.running)
async def refresh(_turn: Json | None, shown: Json | None) -> Any:
    """Read again when a switch or a breaker moved."""
    return await PART.fill(person_ledger(), shown, read_banner)


async def read_banner(at: PersonLedger) -> Made:
    """What is stopped now, with this person's actions on the switches that are shown."""
    page = await at.stopped(_READ)
    subjects = [_subject(whose) for whose, _ in safety_text.switches(page.kill, page.models)[:_MOST]]
    offers = await asyncio.gather(*(at.offers(subject) for subject in subjects))
    return banner(page, dict(zip(subjects, offers, strict=True))), Interest(OF_STOPS | OF_WITNESS)


def _subject(whose: str) -> str:
    return ALL_MODELS if whose == safety_text.ALL else whose


def banner(page: ModelsPage, offers: Mapping[str, Offers]) -> list[Any]:
    """A line for each switch that is pulled, with the button that lets go, then for each model with open breakers."""
    pulled = safety_text.switches(page.kill, page.models)
    lines = [_killed(whose, kill, offers.get(_subject(whose))) for whose, kill in pulled[:_MOST]]
    broken = [model for model in sorted(page.models, key=lambda one: one.model) if model.breakers]
    own = sum(1 for whose, _ in pulled if whose != safety_text.ALL)
    unseen = page.total - sum(1 for model in page.models if model.kill or model.breakers)
    rest = max(0, own + (page.kill is not None) + unseen - _MOST)
    more = [_more(plural(rest, "more kill switch", "more kill switches"))] if rest else []
    opened = [_broken(model) for model in broken[:_MOST]]
    hidden = len(broken) - len(opened)
    text = plural(hidden, "more model with open breakers", "more models with open breakers")
    away = [_away(page.away)] if page.away else []
    return [*lines, *more, *opened, *([_more(text)] if hidden else []), *away]


def switch_panel(switch: Switch, offers: Offers) -> html.Section:
    """The kill switch of a model, or of all: how it stands, and this person's buttons."""
    kill, parts = switch.kill, []
    if kill is None:
        parts.append(html.P("Not pulled." if switch.now is None else f"Not pulled: {switch.name} may answer."))
    else:
        parts += [html.P(safety_text.killed(kill), className="strong"), html.P(f"“{kill.reason}”")]
        parts.append(html.P(safety_text.waiting(kill)))
    if switch.now is not None:
        parts += _beside(switch.now)
    return panel("Kill switch", *parts, action_buttons(kill_switch.buttons(switch, offers)))


def answering(now: ModelNow) -> str:
    """Which release of a model answers, in a sentence."""
    if now.stopped:
        return f"Killed: {safety_text.answers(now.stopped)}"
    return f"{now.model.champion or 'The baseline'} answers"


def _beside(now: ModelNow) -> list[Any]:
    """What else keeps the champion from answering, and what scores in the shadow."""
    parts: list[Any] = []
    if now.kill_of_all:
        parts.append(html.P(f"All models: {safety_text.killed(now.kill_of_all)}", className="strong"))
    opened = safety_text.breakers(now.model.breakers)
    parts += [html.P([icon("octagon", "ink-bad"), f" Breaker open: {text}."]) for text in opened]
    if now.model.shadow:
        shadow = release_link(now.model.shadow)
        parts.append(html.P([icon("clock", "ink-info"), " ", shadow, " scores in the shadow."]))
    return parts


def _killed(whose: str, kill: Kill, offers: Offers | None) -> html.Div:
    shown = f"{whose[:1].upper()}{whose[1:]} " if whose == safety_text.ALL else f"{whose} "
    words = [html.Span(shown, className="subject"), safety_text.killed(kill)]
    why = html.P(f"“{kill.reason}”. {safety_text.waiting(kill)}")
    offered = kill_switch.buttons(Switch(_subject(whose), kill), offers) if offers else []
    lets_go = [one for one in offered if one.verb in kill_switch.LETS_GO and one.why_not is None]
    buttons = [action_button(one, filled=False) for one in lets_go]
    return html.Div(
        [icon("octagon"), html.Div([html.P(words, className="strong"), why]), *buttons], className="stop killed"
    )


def _away(away: Away) -> html.Div:
    words = f"The witness is away since {clock(away.since)} UTC: records after {away.cosigned:,} are not witnessed"
    why = "The log was opened without being compared with what the witness saw. " if away.at_opening else ""
    said = [html.P(words, className="strong"), html.P(f"{why}{away.why}")]
    return html.Div([icon("triangle"), html.Div(said)], className="stop broken")


def _broken(model: ModelSummary) -> html.Div:
    name = html.Span(model.model, className="subject")
    said = [html.P([name, f" breaker open, {text}"]) for text in safety_text.breakers(model.breakers)]
    return html.Div([icon("triangle"), html.Div(said)], className="stop broken")


def _more(text: str) -> html.Div:
    return html.Div([icon("octagon"), html.P(f"and {text}; see the models")], className="stop killed")
