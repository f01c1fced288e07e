"""The review sheet: what an action changes, before it is done; then the ledger's answer, word for word.

A button anywhere on a page names its verb and subject (`data-verb`, `data-subject`); the script puts them into the
`ask` store, which opens the sheet. The etag is that of what the sheet shows, the idempotency key is made when it opens,
so that a second press is the same request.
"""

from __future__ import annotations

import uuid
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, Output, State, callback, clientside_callback, dcc, html, no_update
from dash.exceptions import PreventUpdate

from console import actions as verbs
from console import kill_switch as switch
from console import safety_text as stops
from console.formatting import line, moment, subject
from console.ledger_client import Desk, desk
from console.parts.widgets import facts, icon, lines_of
from console.review import REASON_LEAST, Call
from plimsoll.errors import Error, Unavailable

Json = dict[str, Any]
#: Stopping must always be possible: these are sent without the etag, as the ledger allows.
ALWAYS = frozenset({"abort", "rollback"}) | switch.STOPS

clientside_callback(
    ClientsideFunction("plimsoll", "may_send"),
    Output("sheet-go", "disabled"),
    Output("sheet-count", "children"),
    Input("sheet-reason", "value"),
    Input("sheet-state", "data"),
    Input("sheet-busy", "data"),
    Input("chip", "className"),
)
clientside_callback(
    ClientsideFunction("plimsoll", "close_sheet"),
    Output("sheet", "opened", allow_duplicate=True),
    Input("sheet-cancel", "n_clicks"),
    prevent_initial_call=True,
)


def modal() -> Any:
    """The sheet, empty and closed."""
    reason = dmc.Textarea(
        id="sheet-reason",
        label="Reason",
        description="Recorded with your name. Say what you looked at.",
        required=True,
        autosize=True,
        minRows=2,
        maxRows=6,
        inputProps={"maxLength": 2_000},
    )
    folder = dmc.TextInput(id="sheet-folder", label="Model folder", description="The folder to train from.")
    buttons = html.Div(
        [
            html.Button("Keep as it is", id="sheet-cancel", type="button", className="button"),
            html.Button("…", id="sheet-go", type="button", className="button filled", disabled=True),
        ],
        className="buttons",
    )
    return dmc.Modal(
        [
            html.Div(id="sheet-body"),
            html.Div(folder, id="sheet-folder-box", hidden=True),
            reason,
            html.P(id="sheet-count", className="note"),
            html.Div(id="sheet-refusal", role="alert"),
            buttons,
            dcc.Store(id="sheet-state"),
            dcc.Store(id="sheet-busy"),
        ],
        id="sheet",
        title="",
        opened=False,
        keepMounted=True,
        size=620,
        transitionProps={"duration": 0},
        overlayProps={"backgroundOpacity": 0.45},
        closeButtonProps={"aria-label": "Close"},
    )


@callback(
    Output("sheet", "opened"),
    Output("sheet", "title"),
    Output("sheet-body", "children"),
    Output("sheet-state", "data"),
    Output("sheet-go", "children"),
    Output("sheet-go", "className"),
    Output("sheet-reason", "value"),
    Output("sheet-refusal", "children"),
    Output("sheet-folder-box", "hidden"),
    Output("sheet-folder", "value"),
    Input("ask", "data"),
    prevent_initial_call=True,
)
async def open_sheet(ask: Json | None) -> Any:
    """Show what the verb would change, as the ledger stands now."""
    if not ask or ask.get("verb") not in verbs.VERBS | switch.VERBS:
        raise PreventUpdate
    verb, subject_ = ask["verb"], ask["subject"]
    tone = "button filled danger" if verb in verbs.SAFE else "button filled"
    state = {"verb": verb, "subject": subject_, "key": uuid.uuid4().hex, "least": REASON_LEAST}
    if verb in switch.VERBS:
        said, etag = await look_at_switch(desk(), verb, subject_)
        return True, said.title, body(said), state | {"etag": etag}, said.button, tone, "", None, True, ""
    release, model, hourly = await look(desk(), subject_)
    said = verbs.sheet(verb, release, model, hourly)
    state |= {"etag": str(model["etag"]), "to": model.get("previous") or "baseline"}
    folder = known_folder(model) if verb == "retrain" else ""
    return True, said.title, body(said), state, said.button, tone, "", None, verb != "retrain", folder


def body(said: verbs.Sheet) -> html.Div:
    """From, to, effect, open failure and undo."""
    pairs: list[tuple[str, Any]] = [
        ("From", lines_of(said.before)),
        ("To", lines_of(said.after)),
        ("Effect", said.effect),
        ("The judge", said.failure),
        ("Undo", said.undo),
    ]
    return facts([(name, value) for name, value in pairs if value])  # of a kill switch no judge says anything


async def look(at: Desk, subject_: str) -> tuple[Json, Json, float | None]:
    """Release, model and decisions an hour for what a verb is about; a model's name stands for its champion."""
    state = await at.state()
    if "@" in subject_:
        release = state["releases"][subject_]
        model = stops.view(state, release["model"])
    else:
        model = stops.view(state, subject_)
        nothing = {"release": subject_, "model": subject_, "state": "none", "author": "", "policy": {}}
        release = state["releases"].get(model.get("champion") or "", nothing)
    sealed = (await at.newest(20, model=model["model"], kind="DecisionsSealed"))["records"]
    return release, model, hourly_rate(sealed)


async def look_at_switch(at: Desk, verb: str, subject_: str) -> tuple[verbs.Sheet, str]:
    """The sheet of a kill switch's verb, and the etag of what it shows."""
    state, hourly = await at.state(), None
    if subject_ != switch.EVERYBODY:
        hourly = hourly_rate((await at.newest(20, model=subject_, kind="DecisionsSealed"))["records"])
    return switch.sheet(verb, subject_, state, hourly), str(switch.etag_of(state, subject_))


def hourly_rate(sealed: list[Json]) -> float | None:
    """Decisions an hour over the given DecisionsSealed records (newest first); None when that cannot be told."""
    if len(sealed) < 2:
        return None
    seconds = (moment(sealed[0]["data"]["to"]) - moment(sealed[-1]["data"]["from"])).total_seconds()
    rows = sum(record["data"]["rows"] for record in sealed)
    return rows / seconds * 3600 if seconds > 0 and rows else None


def known_folder(model: Json) -> str:
    """The folder of the model's last training request; empty when none is on record."""
    jobs = sorted(model.get("jobs", {}).items(), key=lambda pair: int(pair[0]))
    return str(jobs[-1][1].get("folder", "")) if jobs else ""


@callback(
    Output("sheet", "opened", allow_duplicate=True),
    Output("sheet-refusal", "children", allow_duplicate=True),
    Output("sheet-state", "data", allow_duplicate=True),
    Output("notices", "sendNotifications"),
    Input("sheet-go", "n_clicks"),
    State("sheet-state", "data"),
    State("sheet-reason", "value"),
    State("sheet-folder", "value"),
    running=[(Output("sheet-busy", "data"), True, False)],
    prevent_initial_call=True,
)
async def act(clicks: int | None, state: Json | None, reason: str | None, folder: str | None) -> Any:
    """Ask the ledger to record the action; show its record, or its refusal as it said it."""
    if not clicks or not state:
        raise PreventUpdate
    at = desk()
    try:
        call = await call_of(at, state, reason or "", folder)
        etag = None if state["verb"] in ALWAYS else state["etag"]
        record = await at.act(call.path, call.body, key=state["key"], etag=etag)
    except Unavailable as error:
        # The same key again: if the ledger did record it, asking again gives that record and no second one.
        return (
            no_update,
            refusal(f"{error.message} Nothing is known to have changed; pressing again is safe."),
            no_update,
            [],
        )
    except Error as error:
        again = state | {"key": uuid.uuid4().hex}
        return no_update, refusal(error.message, stale=error.status == 412), again, []
    except ValueError as error:
        return no_update, refusal(str(error)), no_update, []
    return False, None, None, [recorded(record)]


async def call_of(at: Desk, state: Json, reason: str, folder: str | None) -> Call:
    """The ledger call that the sheet stands for.

    Raises:
        ValueError: the reason is too short, or a folder is missing.
    """
    verb = state["verb"]
    if verb in switch.VERBS:
        return switch.call(verb, state["subject"], reason)  # asks nothing first: a stop must not wait
    release, model, _ = await look(at, state["subject"])
    model = model | {"previous": state["to"]} if verb == "rollback" else model
    return verbs.call(verb, release, model, reason, folder)


def refusal(message: str, *, stale: bool = False) -> list[Any]:
    """The ledger's own words; after a change by others, a button that reads again."""
    again = html.Button("Read it again", type="button", id="sheet-again", className="button again") if stale else None
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
