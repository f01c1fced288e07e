"""Release: what happened, what is true now, what you can do; the journey; the evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from dash import Output, State, callback, dcc, html

from console.actions import SAFE, Button, release_buttons, traffic
from console.formatting import age, clock, line, number, percent, plural, short
from console.kill_switch import Switch
from console.model_now import ModelNow
from console.parts.buttons import action_buttons, release_status
from console.parts.interests import SELDOM
from console.parts.journey_steps import rail
from console.parts.judgement import checks, judged
from console.parts.live_part import Interest, LivePart, Made
from console.parts.measurements import hourly_rate
from console.parts.release_text import state_words, why
from console.parts.safety_banner import switch_panel
from console.parts.widgets import empty, facts, lines_of, page_head, panel, release_link, tone_icon
from console.person_ledger import PersonLedger, ReleaseFile, person_ledger
from lineage import lifecycle
from lineage.state.entities import Release

PAGE = {"path_template": "/release/<name>", "name": "Release", "title": "Release · Plimsoll"}
Json = dict[str, Any]
PART = LivePart("release")
_HISTORY = 14


def layout(name: str | None = None, **_: Any) -> html.Div:
    """The page, about to be filled."""
    return PART.frame(dcc.Store(id="release-name", data=unquote(name or "")))


@callback(
    Output("release", "children"),
    PART.shown_output,
    PART.turn,
    PART.shown,
    State("release-name", "data"),
    running=PART.running,
)
async def refresh(_turn: Json | None, shown: Json | None, name: str) -> Any:
    """Read again when something about this model moved."""
    return await PART.fill(person_ledger(), shown, lambda at: body(at, name))


async def body(at: PersonLedger, name: str) -> Made:
    """The whole page of one release for this person."""
    model = name.rpartition("@")[0]
    file, now, of_release, of_model, sealed = await asyncio.gather(
        at.release(name),
        at.model_now(model),
        at.offers(name),
        at.offers(model),
        at.newest(20, kind="DecisionsSealed", model=model),
    )
    release, switch = file.release, Switch(model, now.model.kill, now)
    report = html.A("Validation report", href=f"/report/{name}", target="_blank") if release.report_digest else None
    evidence = [
        panel("Judgement", *judged(release.judgement)),
        panel("Checks", *checks(file.records), aside=report),
        panel("Where it came from", origin(file)),
        panel("Its records", history(file.records)),
    ]
    side = html.Div([switch_panel(switch, of_model), panel("Journey", rail(release))], className="stack")
    label = release_status(release, now, state_words(release.state))
    offered = release_buttons(name, now, of_release, of_model)
    content = [
        page_head([name, " ", label], f"by {release.author}, trained {clock(release.trained_at)} UTC"),
        boxes(file, now, offered, hourly_rate(sealed)),
        html.Div([side, html.Div(evidence, className="stack")], className="grid side-left"),
    ]
    return content, Interest(SELDOM, (model,))


def boxes(file: ReleaseFile, now: ModelNow, offered: Sequence[Button], hourly: float | None) -> html.Div:
    """The three boxes a person reads first."""
    return html.Div(
        [
            panel("What happened", *happened(file)),
            panel("What is true now", facts(true_now(file.release, now, hourly))),
            panel("What you can do", *doing(file.release, offered)),
        ],
        className="boxes",
    )


def happened(file: ReleaseFile) -> list[Any]:
    """The last step in a sentence, and why the release is where it is."""
    release, last = file.release, file.records[-1] if file.records else None
    if last is None:
        return [html.P("Nothing is on record.")]
    tone, text = line(last)
    said = f"“{last['reason']}”" if last.get("reason") else None
    because = {
        lifecycle.State.QUARANTINED: f"Why: {why(release)}",
        lifecycle.State.REJECTED: f"Why: {why(release)}",
        lifecycle.State.REVIEW: f"The judge: {why(release)}",
    }.get(release.state)
    held = f"Held since {clock(release.hold.at)}: {release.hold.why}" if release.hold else None
    head = html.P([tone_icon(tone), " ", html.Span(text[:1].upper() + text[1:], className="strong")])
    when = age(last["at"], datetime.now(UTC))
    note = html.P(f"{last['actor']['name']}, {when} ago, record #{last['seq']}", className="note")
    return [head, note, *[html.P(extra) for extra in (said, because, held) if extra]]


def true_now(release: Release, now: ModelNow, hourly: float | None) -> list[tuple[str, Any]]:
    """Which release answers, on what grounds, since when."""
    pairs: list[tuple[str, Any]] = [("Traffic", lines_of(traffic(now, hourly)))]
    if release.state is lifecycle.State.REVIEW and release.review:
        due, asked = clock(release.review.due_at), clock(release.review.requested_at)
        pairs.append(("Review due", f"{due} UTC, asked for {asked}"))
    for approval in release.approvals:
        text = f"{approval.decision} by {approval.by}: {approval.reason or 'no reason on record'}"
        pairs.append(("Review", text))
    pairs.append(("Rollback to", release_link(now.model.previous) if now.model.previous else "the baseline"))
    return pairs


def doing(release: Release, offered: Sequence[Button]) -> list[Any]:
    """This person's buttons; the safe one is filled."""
    if not offered:
        state = str(release.state).replace("_", " ")
        return [empty("Nothing to do here.", f"A release that is {state} moves by itself or not at all.")]
    first = next((button.verb for button in offered if button.why_not is None and button.verb in SAFE), None)
    return [action_buttons(offered, filled=None if release.state is lifecycle.State.REVIEW else first)]


def origin(file: ReleaseFile) -> html.Dl:
    """Data, code and bytes."""
    release = file.release
    trained: Json = next((record["data"] for record in file.records if record["kind"] == "ModelTrained"), {})
    data = release.dataset
    metrics = ", ".join(f"{name} {number(value)}" for name, value in release.metrics.items())
    mono = {"className": "mono wrap"}
    uri = f"{data.get('uri', '–')} v{data.get('version', '–')}, {short(data.get('digest'))}"
    return facts(
        [
            ("Bytes", html.Span(release.digest, **mono)),
            ("Data set", html.Span(uri, **mono)),
            ("Family", f"{release.family}, {plural(len(release.features), 'feature')}"),
            ("Threshold", number(release.threshold)),
            ("Metrics", metrics or "–"),
            ("Code", html.Span(short(trained.get("code_digest")), **mono)),
            ("Policy", html.Span(short(release.policy_digest), **mono)),
            ("Run", html.Span(release.run_id or "–", **mono)),
        ]
    )


def history(records: Sequence[Json]) -> html.Ol:
    """The release's latest records, newest first."""
    items = []
    for record in reversed(records[-_HISTORY:]):
        tone, text = line(record)
        by = record["actor"]["name"] + (f": {record['reason']}" if record.get("reason") else "")
        share = record["data"].get("share")
        more = f" ({percent(share)})" if share is not None and "%" not in text else ""
        words = html.Div([f"{text}{more}", html.Div(f"#{record['seq']} {by}", className="note")], className="text")
        items.append(html.Li([html.Span(clock(record["at"]), className="time"), tone_icon(tone), words]))
    return html.Ol(items, className="lines")
