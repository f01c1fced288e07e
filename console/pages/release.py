"""Release: what happened, what is true now, what you can do; the journey; the evidence."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from dash import Input, Output, State, callback, dcc, html

from console import safety_text as stops
from console.actions import SAFE, options, traffic
from console.formatting import age, clock, line, number, percent, plural, short
from console.inbox import reason
from console.ledger_client import Desk, desk
from console.parts.frame import fill, frame
from console.parts.journey_steps import rail
from console.parts.judgement import checks, judgement
from console.parts.safety_banner import switch_panel
from console.parts.widgets import (
    actions,
    empty,
    facts,
    lines_of,
    page_head,
    panel,
    release_link,
    standing,
    tone_icon,
)
from console.review_dialog import hourly_rate

PAGE = {"path_template": "/release/<name>", "name": "Release", "title": "Release · Plimsoll"}
Json = dict[str, Any]
_HISTORY = 14


def layout(name: str | None = None, **_: Any) -> html.Div:
    """The page, filled."""
    wanted = unquote(name or "")
    return frame("release", dcc.Store(id="release-name", data=wanted))


@callback(Output("release", "children"), Input("news", "data"), State("release-name", "data"))
async def refresh(news: Json | None, name: str) -> Any:
    """Read again when something about this model moved."""
    return await fill(body, desk(), name, news=news, about=name.rpartition("@")[0])


async def body(at: Desk, name: str) -> list[Any]:
    """The whole page of one release for this person."""
    owner = name.rpartition("@")[0]
    release, state, page = await asyncio.gather(
        at.get(f"/v1/releases/{name}"), at.state(), at.newest(20, kind="DecisionsSealed", model=owner)
    )
    model, sealed = stops.view(state, owner), page["records"]
    label = standing(release, model, release["state"].replace("_", " ").capitalize())
    report = (
        html.A("Validation report", href=f"/report/{name}", target="_blank") if release.get("report_digest") else None
    )
    evidence = [
        panel("Judgement", *judgement(release)),
        panel("Checks", *checks(release["facts"]), aside=report),
        panel("Where it came from", origin(release)),
        panel("Its records", history(release)),
    ]
    side = html.Div([switch_panel(owner, state, at.person), panel("Journey", rail(release))], className="stack")
    return [
        page_head([name, " ", label], f"by {release['author']}, trained {clock(release['trained_at'])} UTC"),
        boxes(release, model, at, hourly_rate(sealed)),
        html.Div([side, html.Div(evidence, className="stack")], className="grid side-left"),
    ]


def boxes(release: Json, model: Json, at: Desk, hourly: float | None) -> html.Div:
    """The three boxes a person reads first."""
    return html.Div(
        [
            panel("What happened", *happened(release)),
            panel("What is true now", facts(true_now(release, model, hourly))),
            panel("What you can do", *doing(release, model, at)),
        ],
        className="boxes",
    )


def happened(release: Json) -> list[Any]:
    """The last step in a sentence, and why it stands there."""
    last = release["facts"][-1] if release["facts"] else None
    if last is None:
        return [html.P("Nothing is on record.")]
    tone, text = line(last)
    now = datetime.now(UTC)
    said = f"“{last['reason']}”" if last.get("reason") else None
    why = {
        "quarantined": f"Why: {reason(release)}",
        "rejected": f"Why: {reason(release)}",
        "review": f"The judge: {reason(release)}",
    }.get(release["state"])
    held = f"Held since {clock(release['hold'].get('at'))}: {release['hold']['why']}" if release.get("hold") else None
    head = html.P([tone_icon(tone), " ", html.Span(text[:1].upper() + text[1:], className="strong")])
    note = html.P(f"{last['actor']['name']}, {age(last['at'], now)} ago, record #{last['seq']}", className="note")
    return [head, note, *[html.P(extra) for extra in (said, why, held) if extra]]


def true_now(release: Json, model: Json, hourly: float | None) -> list[tuple[str, Any]]:
    """Who answers, on what grounds, since when."""
    pairs: list[tuple[str, Any]] = [("Traffic", lines_of(traffic(model, hourly)))]
    review = release.get("review")
    if release["state"] == "review" and review:
        pairs.append(("Review due", f"{clock(review['due_at'])} UTC, asked for {clock(review['requested_at'])}"))
    for approval in release.get("approvals", []):
        text = f"{approval['decision']} by {approval['by']}: {approval.get('reason') or 'no reason on record'}"
        pairs.append(("Review", text))
    pairs.append(("Rollback to", release_link(model.get("previous")) if model.get("previous") else "the baseline"))
    return pairs


def doing(release: Json, model: Json, at: Desk) -> list[Any]:
    """This person's buttons; the safe one is filled."""
    offered = options(release, model, at.person.name, at.person.role)
    if not offered:
        return [
            empty(
                "Nothing to do here.",
                f"A release that is {release['state'].replace('_', ' ')} moves by itself or not at all.",
            )
        ]
    first = next((option.verb for option in offered if option.why_not is None and option.verb in SAFE), None)
    return [actions(offered, filled=None if release["state"] == "review" else first)]


def origin(release: Json) -> html.Dl:
    """Data, code and bytes."""
    trained: Json = next((fact["data"] for fact in release["facts"] if fact["kind"] == "ModelTrained"), {})
    data = release.get("dataset") or {}
    metrics = ", ".join(f"{name} {number(value)}" for name, value in (release.get("metrics") or {}).items())
    mono = {"className": "mono wrap"}
    return facts(
        [
            ("Bytes", html.Span(release["digest"], **mono)),
            (
                "Data set",
                html.Span(f"{data.get('uri', '–')} v{data.get('version', '–')}, {short(data.get('digest'))}", **mono),
            ),
            ("Family", f"{release.get('family', '–')}, {plural(len(release.get('features') or []), 'feature')}"),
            ("Threshold", number(release.get("threshold"))),
            ("Metrics", metrics or "–"),
            ("Code", html.Span(short(trained.get("code_digest")), **mono)),
            ("Policy", html.Span(short(release.get("policy_digest")), **mono)),
            ("Run", html.Span(release.get("run_id") or "–", **mono)),
        ]
    )


def history(release: Json) -> html.Ol:
    """The release's latest records, newest first."""
    items = []
    for record in reversed(release["facts"][-_HISTORY:]):
        tone, text = line(record)
        by = record["actor"]["name"] + (f": {record['reason']}" if record.get("reason") else "")
        share = record["data"].get("share")
        more = f" ({percent(share)})" if share is not None and "%" not in text else ""
        words = html.Div([f"{text}{more}", html.Div(f"#{record['seq']} {by}", className="note")], className="text")
        items.append(html.Li([html.Span(clock(record["at"]), className="time"), tone_icon(tone), words]))
    return html.Ol(items, className="lines")
