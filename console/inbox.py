"""Rows of what waits for this person, the first thing that the console shows: the ledger's inbox items in words. Pure.

A row says one reason with its number and limit, one calm sentence, its age, and offers exactly one verb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from console import safety_text
from console.formatting import NB, moment, number, percent, span
from console.judgement_text import evidence, reasons
from lineage.rules.views import Item, Standing
from lineage.state.entities import Approval

#: Where an alert is looked at; others on the page of the release, or of the model's records.
_PAGES = {"drift": "/drift", "fairness": "/fairness"}


@dataclass(frozen=True)
class Row:
    """One row. `status` is one of the words of status; `at` is when it began."""

    status: str
    subject: str
    what: str
    calm: str
    at: str
    verb: str
    href: str


def rows(items: Sequence[Item], now: datetime) -> list[Row]:
    """The items as rows, in their order; an item of a kind that is not known here is left out."""
    made = (_row(item, now) for item in items)
    return [row for row in made if row is not None]


def _row(item: Item, now: datetime) -> Row | None:
    if item.about is not None and item.release is not None:
        return _of_release(item, item.about, item.release, now)
    if item.kill is not None:
        return _release_to_confirm(item)
    if item.breakers:
        return _open_breakers(item)
    if item.job is not None:
        return _failed_job(item)
    return _alert(item) if item.alert is not None else None


def _of_release(item: Item, about: Standing, release: str, now: datetime) -> Row | None:
    href, by, wait = f"/release/{release}", f"By {about.author}.", "Waiting for you"
    match item.kind:
        case "review":
            return _review(item, about, release, now)
        case "approved":
            what = f"Approved by {about.approved_by or 'a second person'}, waits to be promoted"
            return Row(wait, release, what, by, item.at, "Promote", href)
        case "registered":
            copies = "It scores in the shadow." if about.shadow else "Every check passed."
            calm = f"{copies} No customers see it yet."
            return Row(wait, release, "Registered, waits for its canary", calm, item.at, "Start", href)
        case "held":
            rest = _answers(item) if item.stopped else f"{item.champion or 'The baseline'} answers the rest."
            calm = f"Held at {percent(about.share)}. {rest}"
            return Row("Warning", release, f"Canary held: {about.held}", calm, item.at, "Look", href)
        case "quarantined":
            what = f"Quarantined: {_why(about)}"
            return Row("Blocked", release, what, _traffic_back(item), item.at, "Look", href)
        case "rejected":
            calm = _traffic_back(item) if about.had_traffic else "No customers were affected."
            return Row("Failed", release, f"Rejected: {_why(about)}", calm, item.at, "Look", href)
    return None


def _review(item: Item, about: Standing, release: str, now: datetime) -> Row:
    left = (moment(about.due_at) - now).total_seconds() if about.due_at else 0.0
    when = f"due in {span(left)}" if left >= 0 else f"overdue by {span(-left)}"
    meanwhile = _answers(item) if item.stopped else f"It carries {percent(about.share)} while it waits."
    word = "Waiting for you" if left >= 0 else "Blocked"
    what, calm = f"Review {when}: {evidence(about.judgement)}", f"By {about.author}. {meanwhile}"
    return Row(word, release, what, calm, item.at, "Review", f"/release/{release}")


def _release_to_confirm(item: Item) -> Row | None:
    kill = item.kill
    if kill is None:
        return None
    what = f"{kill.asked_by} asks to release the kill switch: {kill.asked_reason}"
    href = "/" if item.model is None else _page_of(item)
    calm = f"{safety_text.killed(kill)}."
    return Row("Waiting for you", item.model or safety_text.ALL, what, calm, item.at, "Look", href)


def _open_breakers(item: Item) -> Row:
    what = f"Breaker open: {'; '.join(safety_text.breakers(item.breakers))}"
    calm = "It tries the champion again by itself. Roll back or kill it if it does not come back."
    return Row("Failed", item.model or "", what, calm, item.at, "Look", _page_of(item))


def _failed_job(item: Item) -> Row | None:
    job = item.job
    if job is None:
        return None
    what = f"Training job {job.request} {job.status}: {job.message or 'no message'}"
    href = f"/audit?kind=JobFinished&model={item.model}"
    return Row("Failed", item.model or "", what, _answers(item), item.at, "Look", href)


def _alert(item: Item) -> Row | None:
    alert = item.alert
    if alert is None:
        return None
    page = _PAGES.get(alert.alert)
    href = f"{page}?model={item.model}" if page else _page_of(item)
    calm = "Retraining has been asked for." if item.requested else _answers(item)
    word = "Failed" if alert.severity == "page" else "Warning"
    return Row(word, item.model or "", alert.summary, calm, item.at, "Look", href)


def _page_of(item: Item) -> str:
    return f"/release/{item.release}" if item.release else f"/releases?model={item.model}"


def _traffic_back(item: Item) -> str:
    return _answers(item) if item.stopped else f"All traffic is back with {item.champion or 'the baseline'}."


def _answers(item: Item) -> str:
    """Which release answers customers meanwhile."""
    if item.stopped:
        return f"Killed: {safety_text.answers(item.stopped)}."
    return f"{item.champion or 'The baseline'} goes on answering."


def _why(about: Standing) -> str:
    return why_stopped(reasons(about.judgement), about.rejected, about.failed_checks)


def why_stopped(judged: list[str], rejected: Approval | None, failed_checks: Sequence[str]) -> str:
    """Why a release went no further, in one clause: by the judge, by a person, or by its checks."""
    if judged:
        return judged[0]
    if rejected is not None:
        return f"by {rejected.by}" + (f", {rejected.reason}" if rejected.reason else "")
    return f"failed {', '.join(failed_checks).replace('_', ' ')}" if failed_checks else "see its records"


def headline(total: int, items: Sequence[Item], now: datetime) -> str:
    """`3 items · oldest 3 h`."""
    if not items:
        return "Nothing waits for you"
    oldest = max((now - moment(item.at)).total_seconds() for item in items)
    return f"{number(total)}{NB}item{'s' if total > 1 else ''} · oldest {span(oldest)}"
