"""The steps of the journey: its eight verbs, each with its state and time, for one release."""

from __future__ import annotations

from dataclasses import dataclass

from dash import html

from console.formatting import clock, percent
from console.parts.widgets import icon
from lineage.lifecycle import JOURNEY, State
from lineage.state.entities import ReleaseSummary, Step

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
#: Bars of the journey in one line: how many, their width and the gap between them in pixels, and their colours.
_BARS, _BAR, _GAP = 6, 22, 3
_PITCH = _BAR + _GAP
_COLOURS = {
    "done": "var(--info)",
    "now": "color-mix(in srgb, var(--info) 45%, var(--panel))",
    "bad": "var(--bad)",
    "todo": "var(--line)",
    "none": "var(--line)",
}
_WORDS = {"done": "done", "now": "under way", "bad": "stopped here", "todo": "to come", "none": "not needed"}


@dataclass(frozen=True)
class VerbStep:
    """One verb of the journey. `state` is done, now, bad, todo or none (was not and will not be taken)."""

    verb: str
    state: str
    at: str | None
    note: str


def steps(release: ReleaseSummary) -> list[VerbStep]:
    """The journey of a release, from its own history."""
    return [_step(verb.name, set(verb.facts), release) for verb in JOURNEY]


def _step(verb: str, kinds: set[str], release: ReleaseSummary) -> VerbStep:
    own, state = [step for step in release.steps if step.kind in kinds], release.state
    at, note = own[-1].at if own else None, _note(verb, release, own)
    if _stopped(verb, own, release):
        return VerbStep(verb, "bad", at, note)
    if _NOW.get(state) == verb:
        return VerbStep(verb, "now", at, note)
    if verb == "monitor":
        done = "done" if release.promoted_at else _later(state)
        return VerbStep(verb, done, release.promoted_at, note)
    if own and verb != "rollback":
        return VerbStep(verb, "done", at, note)
    return VerbStep(verb, "none" if verb == "rollback" else _later(state), at, note)


def _later(state: State) -> str:
    return "none" if state in _ENDED or state is State.CHAMPION else "todo"


def _stopped(verb: str, own: list[Step], release: ReleaseSummary) -> bool:
    if verb == "review" and release.state is State.REJECTED:
        return any(approval.decision == "reject" for approval in release.approvals)
    return bool(own) and own[-1].kind in _BAD_KINDS


def _note(verb: str, release: ReleaseSummary, own: list[Step]) -> str:
    if verb in ("canary", "promote") and own and own[-1].share is not None:
        return percent(own[-1].share)
    if verb == "validate":
        passed = sum(check.status == "pass" for check in release.checks.values())
        return f"{passed} of {len(release.checks)} checks passed" if release.checks else ""
    if verb == "review" and release.approvals:
        last = release.approvals[-1]
        return f"{'approved' if last.decision == 'approve' else 'rejected'} by {last.by}"
    return f"by {release.author}" if verb == "train" else ""


def rail(release: ReleaseSummary) -> html.Ol:
    """The journey as a list; the step under way is marked for eyes and for screen readers."""
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


def progress(release: ReleaseSummary) -> html.Span:
    """The journey in one line of six bars, from train to promote."""
    line = steps(release)[:_BARS]
    done = sum(step.state == "done" for step in line)
    # One element with six colours: a list of a hundred releases has to be on screen at once.
    edges = [(index * _PITCH, index * _PITCH + _BAR, _COLOURS[step.state]) for index, step in enumerate(line)]
    stops = ", ".join(f"{colour} {start}px {end}px, transparent {end}px {end + _GAP}px" for start, end, colour in edges)
    return html.Span(
        className="progress",
        style={"backgroundImage": f"linear-gradient(90deg, {stops})"},
        role="img",
        **{"aria-label": f"{done} of {len(line)} steps done"},
    )
