"""The review dialog: what an action changes, before it is done; then the ledger's answer, word for word.

A button anywhere on a page names its verb and subject (`data-verb`, `data-subject`); the script puts them into the
`ask` store, which opens the dialog. The ETag is that of what the dialog shows, the idempotency key is made when it
opens, so that a second press is the same request. Sending reads nothing first: a stop must not wait.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, Output, State, callback, clientside_callback, dcc, html, no_update
from dash.exceptions import PreventUpdate

from console import actions, kill_switch
from console.actions import Preview
from console.formatting import line, subject
from console.kill_switch import Switch
from console.model_now import ModelNow
from console.parts.measurements import hourly_rate
from console.parts.widgets import facts, icon, lines_of
from console.person_ledger import ALL_MODELS, PersonLedger, person_ledger
from console.review import REASON_LEAST, Call
from lineage.errors import PlimsollError
from lineage.rules.views import Action, Offers
from plimsoll.errors import Error, Unavailable

Json = dict[str, Any]
_STOPPED = 500  # models that are counted for what "running" means

clientside_callback(
    ClientsideFunction("plimsoll", "may_send"),
    Output("dialog-go", "disabled"),
    Output("dialog-count", "children"),
    Input("dialog-reason", "value"),
    Input("dialog-state", "data"),
    Input("dialog-busy", "data"),
    Input("chip", "className"),
)
clientside_callback(
    ClientsideFunction("plimsoll", "close_dialog"),
    Output("dialog", "opened", allow_duplicate=True),
    Input("dialog-cancel", "n_clicks"),
    prevent_initial_call=True,
)


@dataclass(frozen=True)
class Shown:
    """What the dialog shows of an action: its preview, the ledger's ETag and action, and a folder to train from."""

    preview: Preview
    action: Action
    etag: int
    folder: str = ""


def modal() -> Any:
    """The dialog, empty and closed."""
    reason = dmc.Textarea(
        id="dialog-reason",
        label="Reason",
        description="Recorded with your name. Say what you looked at.",
        required=True,
        autosize=True,
        minRows=2,
        maxRows=6,
        inputProps={"maxLength": 2_000},
    )
    folder = dmc.TextInput(id="dialog-folder", label="Model folder", description="The folder to train from.")
    buttons = html.Div(
        [
            html.Button("Keep as it is", id="dialog-cancel", type="button", className="button"),
            html.Button("…", id="dialog-go", type="button", className="button filled", disabled=True),
        ],
        className="buttons",
    )
    return dmc.Modal(
        [
            html.Div(id="dialog-body"),
            html.Div(folder, id="dialog-folder-box", hidden=True),
            reason,
            html.P(id="dialog-count", className="note"),
            html.Div(id="dialog-refusal", role="alert"),
            buttons,
            dcc.Store(id="dialog-state"),
            dcc.Store(id="dialog-busy"),
        ],
        id="dialog",
        title="",
        opened=False,
        keepMounted=True,
        size=620,
        transitionProps={"duration": 0},
        overlayProps={"backgroundOpacity": 0.45},
        closeButtonProps={"aria-label": "Close"},
    )


@callback(
    Output("dialog", "opened"),
    Output("dialog", "title"),
    Output("dialog-body", "children"),
    Output("dialog-state", "data"),
    Output("dialog-go", "children"),
    Output("dialog-go", "className"),
    Output("dialog-reason", "value"),
    Output("dialog-refusal", "children"),
    Output("dialog-folder-box", "hidden"),
    Output("dialog-folder", "value"),
    Input("ask", "data"),
    prevent_initial_call=True,
)
async def open_dialog(ask: Json | None) -> Any:
    """Show what the verb would change now, and the ledger's refusal where it would be refused."""
    if not ask or ask.get("verb") not in actions.VERBS | set(kill_switch.VERBS):
        raise PreventUpdate
    verb, about = ask["verb"], ask["subject"]
    tone = "button filled danger" if verb in actions.SAFE else "button filled"
    state: Json = {"verb": verb, "subject": about, "key": uuid.uuid4().hex, "least": REASON_LEAST}
    try:
        shown = await look(person_ledger(), verb, about)
    except (Error, PlimsollError) as error:
        return True, "Not possible", None, None, "…", tone, "", refusal(error.message), True, ""
    state |= {"etag": shown.etag if shown.action.needs_etag else None, "to": shown.action.to}
    why_not = refusal(shown.action.why_not) if shown.action.why_not else None
    preview, retrain = shown.preview, verb == "retrain"
    return (
        True,
        preview.title,
        body(preview),
        state,
        preview.button,
        tone,
        "",
        why_not,
        not retrain,
        shown.folder if retrain else "",
    )


def body(preview: Preview) -> html.Div:
    """From, to, effect, open failure and undo."""
    pairs: list[tuple[str, Any]] = [
        ("From", lines_of(preview.before)),
        ("To", lines_of(preview.after)),
        ("Effect", preview.effect),
        ("The judge", preview.failure),
        ("Undo", preview.undo),
    ]
    return facts([(name, value) for name, value in pairs if value])  # of a kill switch no judge says anything


async def look(at: PersonLedger, verb: str, about: str) -> Shown:
    """What the dialog shows of a verb on a release, a model, or all models.

    Raises:
        plimsoll.errors.Error: the ledger does not answer, or has no such subject.
        PreventUpdate: the ledger does not have the verb for this subject.
    """
    if about == ALL_MODELS:
        offers, stopped, models = await asyncio.gather(at.offers(about), at.stopped(_STOPPED), at.models(limit=1))
        own = sum(1 for model in stopped.models if model.kill)
        switch = Switch(about, stopped.kill, None, (models.total - own, own))
        action = _offered(offers, verb)
        return Shown(kill_switch.preview(action, switch), action, offers.etag)
    name = about.rpartition("@")[0] or about
    (model, kill_of_all), offers, sealed = await asyncio.gather(
        at.model(name), at.offers(about), at.newest(20, kind="DecisionsSealed", model=name)
    )
    now, hourly, action = ModelNow(model, kill_of_all), hourly_rate(sealed), _offered(offers, verb)
    if verb in kill_switch.VERBS:
        switch = Switch(about, model.kill, now)
        return Shown(kill_switch.preview(action, switch, hourly), action, offers.etag)
    subject_ = about if "@" in about else model.champion if verb == "rollback" else None
    release = (await at.release(subject_)).release if subject_ else None
    folder = model.last_job.folder if model.last_job else ""
    return Shown(actions.preview(action, about, now, release, hourly), action, offers.etag, folder)


def _offered(offers: Offers, verb: str) -> Action:
    action = offers.get(verb)
    if action is None:
        raise PreventUpdate
    return action


@callback(
    Output("dialog", "opened", allow_duplicate=True),
    Output("dialog-refusal", "children", allow_duplicate=True),
    Output("dialog-state", "data", allow_duplicate=True),
    Output("notices", "sendNotifications"),
    Input("dialog-go", "n_clicks"),
    State("dialog-state", "data"),
    State("dialog-reason", "value"),
    State("dialog-folder", "value"),
    running=[(Output("dialog-busy", "data"), True, False)],
    prevent_initial_call=True,
)
async def act(clicks: int | None, state: Json | None, reason: str | None, folder: str | None) -> Any:
    """Ask the ledger to record the action; show its record, or its refusal as it said it."""
    if not clicks or not state:
        raise PreventUpdate
    try:
        call = call_of(state, reason or "", folder)
        record = await person_ledger().act(call.path, call.body, key=state["key"], etag=state["etag"])
    except Unavailable as error:
        # The same key again: if the ledger did record it, asking again gives that record and no second one.
        said = refusal(f"{error.message} Nothing is known to have changed; pressing again is safe.")
        return no_update, said, no_update, []
    except Error as error:
        again = state | {"key": uuid.uuid4().hex}
        return no_update, refusal(error.message, stale=error.status == 412), again, []
    except ValueError as error:
        return no_update, refusal(str(error)), no_update, []
    return False, None, None, [recorded(record)]


def call_of(state: Json, reason: str, folder: str | None) -> Call:
    """The ledger call that the dialog stands for.

    Raises:
        ValueError: the reason is too short, or a folder is missing.
    """
    if state["verb"] in kill_switch.VERBS:
        return kill_switch.call(state["verb"], state["subject"], reason)
    return actions.call(state["verb"], state["subject"], reason, to=state["to"], folder=folder)


def refusal(message: str, *, stale: bool = False) -> list[Any]:
    """The ledger's own words; after a change by others, a button that reads again."""
    again = html.Button("Read it again", type="button", id="dialog-again", className="button again") if stale else None
    return [html.Div([icon("octagon"), html.Div([html.P(message), again])], className="refusal")]


def recorded(record: Json) -> Json:
    """The notice of a recorded action."""
    _, text = line(record)
    return {
        "action": "show",
        "id": f"record-{record['seq']}",
        "title": f"Recorded as #{record['seq']}",
        "message": f"{subject(record)}: {text}",
        "autoClose": 6000,
        "withCloseButton": True,
        "color": "teal",
    }
