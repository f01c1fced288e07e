"""Audit: every record of the ledger, filtered by what is in the address, with the chain's verification."""

from __future__ import annotations

import base64
import json
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, Output, State, callback, clientside_callback, dcc, html
from dash.exceptions import PreventUpdate

from console.formatting import clock, line, number, subject
from console.parts.live_part import NOTHING, Interest, LivePart, described
from console.parts.search import search_box
from console.parts.widgets import empty, page_head, panel, release_link, status
from console.person_ledger import person_ledger
from lineage.facts.registry import FACTS
from plimsoll.errors import Error

PAGE = {"path": "/audit", "name": "Audit", "title": "Audit · Plimsoll", "icon": "book", "order": 5}
Json = dict[str, Any]
FILTERS = ("kind", "model", "release", "actor")
BLOCK = 200
_MOST_BLOCK = 1_000
_VERIFY_SECONDS = 600.0
_AT_ONCE = 50_000  # records; verifying more keeps the ledger busy for seconds
_COLUMNS = [
    {"field": "seq", "headerName": "#", "width": 80, "type": "rightAligned"},
    {"field": "when", "headerName": "Time (UTC)", "width": 170},
    {"field": "kind", "headerName": "Kind", "width": 170},
    {"field": "subject", "headerName": "About", "width": 170},
    {"field": "text", "headerName": "What", "flex": 2, "minWidth": 200},
    {"field": "actor", "headerName": "By", "width": 120},
    {"field": "reason", "headerName": "Reason", "flex": 1, "minWidth": 160},
]

#: The rows of the grid: at news the script has the grid ask for its blocks again.
ROWS = LivePart("audit-rows", "schedule_grid")

clientside_callback(
    ClientsideFunction("plimsoll", "filter_audit"),
    Output("audit-query", "data"),
    *[Input(f"audit-{name}", "value") for name in FILTERS],
    State("audit-query", "data"),
)
clientside_callback(
    ClientsideFunction("plimsoll", "regrid"),
    Output("audit-regrid", "data"),
    Input("audit-query", "data"),
    prevent_initial_call=True,
)


def layout(
    kind: str | None = None, model: str | None = None, release: str | None = None, actor: str | None = None, **_: Any
) -> html.Div:
    """The page: filters from the address, grid, detail and verification. Rows are asked for by the grid."""
    given = {"kind": kind, "model": model, "release": release, "actor": actor}
    chosen = {name: value for name, value in given.items() if value}
    badge = html.Div(status("Running", "Verifying the chain"), id="audit-verified", role="status")
    press = html.Button("Verify", id="audit-verify", type="button", className="button")
    stores = [dcc.Store(id="audit-query", data=chosen), dcc.Store(id="audit-regrid"), *ROWS.stores()]
    head = page_head("Audit", "every record of the ledger, newest first", html.Div([badge, press], className="badge"))
    records = panel("Records", grid(), aside=html.Span(id="audit-count"), id=ROWS.id)
    return html.Div([*stores, head, filters(chosen), html.Div([records, detail()], className="stack")])


def filters(chosen: dict[str, str]) -> html.Div:
    """Four filters whose values are in the address; models and releases are searched for as they are typed."""
    kinds = sorted({*FACTS, *([chosen["kind"]] if "kind" in chosen else [])})
    boxes: list[Any] = [
        dmc.Select(
            id="audit-kind",
            label="Kind",
            data=kinds,
            value=chosen.get("kind"),
            clearable=True,
            searchable=True,
            clearButtonProps={"aria-label": "Clear kind"},
        ),
        search_box("audit-model", "Model", chosen.get("model")),
        search_box("audit-release", "Release", chosen.get("release")),
        dmc.TextInput(id="audit-actor", label="By", value=chosen.get("actor", ""), debounce=400),
    ]
    return html.Div([html.Div(box) for box in boxes], className="filters")


def grid() -> Any:
    """The grid in blocks of 200 rows; one request at a time, or it would lose blocks."""
    return dag.AgGrid(
        id="audit-grid",
        rowModelType="infinite",
        columnDefs=_COLUMNS,
        defaultColDef={"sortable": False, "resizable": True, "suppressMovable": True},
        dashGridOptions={
            "theme": {"function": "gridTheme(themeQuartz)"},
            "cacheBlockSize": BLOCK,
            "maxBlocksInCache": 10,
            "maxConcurrentDatasourceRequests": 1,
            "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
            "rowHeight": 34,
            "headerHeight": 34,
            "enableCellTextSelection": True,
        },
        style={"height": "min(520px, 62vh)", "width": "100%"},
    )


def detail() -> html.Section:
    """The panel that a chosen record fills."""
    text = "Choose a row to read the whole record as it is stored."
    return panel("Record", html.Div(empty("No record is chosen.", text), id="audit-detail"), className="detail")


def row(record: Json) -> Json:
    """A record as a row of the grid; the whole record rides along for the detail."""
    _, text = line(record)
    return {
        "seq": record["seq"],
        "when": record["at"][:19].replace("T", " "),
        "kind": record["kind"],
        "subject": subject(record),
        "text": text,
        "actor": record["actor"]["name"],
        "reason": record.get("reason") or "",
        "record": record,
    }


@callback(
    Output("audit-grid", "getRowsResponse"),
    Output("audit-count", "children"),
    ROWS.shown_output,
    Input("audit-grid", "getRowsRequest"),
    State("audit-query", "data"),
    running=ROWS.running,
    prevent_initial_call=True,
)
async def rows(request: Json | None, chosen: dict[str, str] | None) -> Any:
    """One block of rows; only known filters and a capped block reach the ledger."""
    if not request:
        raise PreventUpdate
    start = max(0, int(request["startRow"]))
    limit = min(_MOST_BLOCK, max(1, int(request["endRow"]) - start))
    wanted = {name: value for name, value in (chosen or {}).items() if name in FILTERS and value}
    try:
        page = await person_ledger().records(limit, start, **wanted)
    except Error as error:
        return {"rowData": [], "rowCount": 0}, error.message, described(0, NOTHING)
    found = [row(record) for record in page["records"]]
    shows = Interest(
        frozenset({wanted["kind"]} if "kind" in wanted else FACTS), (wanted["model"],) if "model" in wanted else None
    )
    answer = {"rowData": found, "rowCount": page["total"]}
    return answer, f"{number(page['total'])} records", described(page["head"], shows)


@callback(Output("audit-detail", "children"), Input("audit-grid", "selectedRows"), prevent_initial_call=True)
async def show(selected: list[Json] | None) -> Any:
    """The chosen record."""
    if not selected:
        raise PreventUpdate
    record = selected[0]["record"]
    about = release_link(record["release"]) if record.get("release") else subject(record)
    text = json.dumps(record, indent=2, ensure_ascii=False)
    try:
        shown: Any = proved(await person_ledger().get(f"/v1/proof/{record['seq']}"))
    except Error as error:
        shown = html.P(error.message, className="note")
    return [
        html.P([f"#{record['seq']} {record['kind']} · ", about]),
        shown,
        html.Pre(text, tabIndex=0, role="region", **{"aria-label": "Record as JSON"}),
    ]


def proved(bundle: Json) -> html.P:
    """What leads from the record to a checkpoint that others have, and the proof to take away."""
    seen = ", which the witness has cosigned" if bundle["witness_vkey"] else ""
    text = f"{len(bundle['proof'])} hashes lead to the checkpoint of {number(bundle['size'])} records{seen}. "
    content = base64.b64encode(json.dumps(bundle, indent=1).encode()).decode()
    name = f"record-{bundle['index'] + 1}.json"
    link = html.A("Download the proof", href=f"data:application/json;base64,{content}", download=name)
    return html.P([text, link], className="note")


@callback(
    Output("audit-verified", "children"),
    Input("audit-verify", "n_clicks"),
    running=[(Output("audit-verify", "disabled"), True, False)],
)
async def verify(clicks: int | None) -> Any:
    """Let the ledger verify itself, at each press, and at the page's opening where that takes a moment only."""
    at = person_ledger()
    try:
        if not clicks and (records := (await at.records(1))["total"]) > _AT_ONCE:
            return not_verified(records)
        answer = (await at.client.send(at.person.token, "GET", "/v1/verify", timeout=_VERIFY_SECONDS)).json()
        health = await at.get("/healthz")
    except Error as error:
        return [status("Warning", "Not verified"), html.Span(f" {error.message}", className="note")]
    return [*verified(answer), html.Br(), *cosigned(health["witness"]), *missing(health.get("missing_segments", 0))]


def not_verified(records: int) -> list[Any]:
    """The badge of a record that is too long to be verified each time that the page is opened."""
    note = f" {number(records)} records take the ledger a while; press the button"
    return [status("Queued", "Not verified yet"), html.Span(note, className="note")]


def cosigned(witness: Json | None) -> list[Any]:
    """The badge of the witness: how much of the record another party vouches for."""
    if witness is None:
        return [status("Warning", "No witness"), html.Span(" no other party has seen this record", className="note")]
    if witness["refused"]:
        return [status("Blocked", "The witness refuses"), html.Span(f" {witness['refused']}", className="ink-bad")]
    text = f" {number(witness['cosigned_size'])} records, {number(witness['lag'])} to come"
    if witness["unreachable_since"]:
        text += f"; it does not answer since {clock(witness['unreachable_since'])} UTC"
        return [status("Warning", "Cosigned by the witness"), html.Span(text, className="note")]
    return [status("Passed", "Cosigned by the witness"), html.Span(text, className="note")]


def missing(segments: int) -> list[Any]:
    """The badge of decision segments that are on record and could not be used; nothing where there is none."""
    if not segments:
        return []
    note = f" {number(segments)} decision segments cannot be read; `plimsoll audit verify` names them"
    return [html.Br(), status("Blocked", "Segments missing"), html.Span(note, className="ink-bad")]


def verified(answer: Json) -> list[Any]:
    """The badge: verified or not, how many records, when, and what is wrong."""
    when = html.Span(
        f" {number(answer['records'])} records, {clock(answer['at'])} UTC, {answer['seconds']:.1f} s", className="note"
    )
    if answer["ok"]:
        return [status("Passed", "Chain verified"), when]
    return [status("Blocked", "Verification failed"), html.Span(f" {answer['why']}", className="ink-bad"), when]
