"""Where a release is, in a few words. Pure."""

from __future__ import annotations

from console.formatting import clock, percent, plural
from console.inbox import why_stopped
from console.judgement_text import reasons
from console.model_now import ModelNow
from lineage.lifecycle import State
from lineage.state.entities import Release, ReleaseSummary


def where(release: ReleaseSummary, now: ModelNow) -> str:
    """Where a release is: its share, what it waits for, since when."""
    share, stopped = percent(release.share), now.stopped
    carries = "killed" if stopped else f"carries {share}"
    if now.model.shadow == release.release:
        return "In the shadow, scores copies"
    match release.state:
        case State.CANARY | State.ROLLOUT if stopped:
            return f"{release.state.capitalize()} {share}, killed"
        case State.CANARY:
            return f"Canary {share}" + (", held" if release.hold else "")
        case State.REVIEW:
            return f"In review, due {clock(release.review.due_at if release.review else None)}, {carries}"
        case State.ROLLOUT:
            return f"Rollout {share}"
        case State.CHAMPION if stopped:
            return "Killed, nobody answers" if stopped == "nothing" else "Killed, the baseline answers"
        case State.CHAMPION:
            return f"{percent(1 - now.model.share)} since {clock(release.promoted_at)}"
        case State.APPROVED:
            return f"Approved, waits to be promoted, {carries}"
        case State.TRAINED:
            return f"Validating, {plural(len(release.checks), 'check')} done"
        case _:
            return state_words(release.state)


def state_words(state: State) -> str:
    """A state as words: `Rolled back`."""
    return str(state).replace("_", " ").capitalize()


def why(release: Release) -> str:
    """Why a release is where it is, in one clause."""
    rejected = next((one for one in reversed(release.approvals) if one.decision == "reject"), None)
    failed = [name for name, outcome in release.checks.items() if outcome.status != "pass"]
    return why_stopped(reasons(release.judgement), rejected, failed)
