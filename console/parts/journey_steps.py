"""The step rail: the eight verbs of the journey, each with its state and time, for one release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dash import html

from console.formatting import clock, percent
from console.parts.widgets import icon
from lineage.lifecycle import JOURNEY

Json = dict[str, Any]

_ENDED = {"rejected", "quarantined", "rolled_back", "retired"}
_NOW = {
    "trained": "validate",
    "validated": "register",
    "registered": "canary",
    "canary": "canary",
    "review": "review",
    "approved": "promote",
    "rollout": "promote",
    "champion": "monitor",
    "rolling_back": "rollback",
}
_BAD_KINDS = {"CandidateRejected", "CanaryAborted", "ReleaseRolledBack"}
_WORDS = {"done": "done", "now": "under way", "bad": "stopped here", "todo": "to come", "none": "not needed"}


@dataclass(frozen=True)
class Step:
    """One verb on the rail. `state` is done, now, bad, todo or none (was not and will not be taken)."""

    verb: str
    state: str
    at: str | None
    note: str


def steps(release: Json) -> list[Step]:
    """The rail of a release, from its own history."""
    state = release["state"]
    return [_step(verb.name, set(verb.facts), release, state) for verb in JOURNEY]


def _step(verb: str, kinds: set[str], release: Json, state: str) -> Step:
    mine = [step for step in release["steps"] if step["kind"] in kinds]
    at = mine[-1]["at"] if mine else None
    note = _note(verb, release, mine)
    if _stopped(verb, mine, release):
        return Step(verb, "bad", at, note)
    if _NOW.get(state) == verb:
        return Step(verb, "now", at, note)
    if verb == "monitor":
        return Step(verb, "done" if release.get("promoted_at") else _later(state), release.get("promoted_at"), note)
    if mine and (verb != "rollback"):
        return Step(verb, "done", at, note)
    return Step(verb, "none" if verb == "rollback" else _later(state), at, note)


def _later(state: str) -> str:
    return "none" if state in _ENDED or state == "champion" else "todo"


def _stopped(verb: str, mine: list[Json], release: Json) -> bool:
    if verb == "review" and release["state"] == "rejected":
        return any(approval["decision"] == "reject" for approval in release.get("approvals", []))
    return bool(mine) and mine[-1]["kind"] in _BAD_KINDS


def _note(verb: str, release: Json, mine: list[Json]) -> str:
    if verb in ("canary", "promote") and mine and (share := mine[-1].get("share")) is not None:
        return percent(share)
    if verb == "validate":
        checks = release.get("checks") or {}
        passed = sum(check["status"] == "pass" for check in checks.values())
        return f"{passed} of {len(checks)} checks passed" if checks else ""
    if verb == "review" and release.get("approvals"):
        last = release["approvals"][-1]
        return f"{'approved' if last['decision'] == 'approve' else 'rejected'} by {last['by']}"
    if verb == "train":
        return f"by {release['author']}"
    return ""


def rail(release: Json) -> html.Ol:
    """The rail as a list; the step under way is marked for eyes and for screen readers."""
    marks = {"done": "tick", "now": "clock", "bad": "cross", "todo": "dot", "none": "dash"}
    items = []
    for step in steps(release):
        current = {"aria-current": "step"} if step.state == "now" else {}
        words = [html.Span(step.verb, className="verb"), html.Span(f", {_WORDS[step.state]}", className="hidden")]
        time = html.Span(clock(step.at), className="time") if step.at else None
        note = html.Span(step.note, className="note") if step.note else None
        ring = html.Span(icon(marks[step.state]), className="ring")
        items.append(
            html.Li([ring, html.Div([html.Div([*words, time]), note])], className=f"step {step.state}", **current)
        )
    return html.Ol(items, className="rail", **{"aria-label": "Journey of the release"})


def progress(release: Json) -> html.Span:
    """The rail in one line of six bars, from train to promote."""
    line = steps(release)[:6]
    done = sum(step.state == "done" for step in line)
    bars = [html.Span(className=f"bar {step.state}") for step in line]
    return html.Span(bars, className="progress", role="img", **{"aria-label": f"{done} of {len(line)} steps done"})
