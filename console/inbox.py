"""What waits for this person: the first thing the console shows. Pure: state, records, person and time in; rows out.

Only what this role can act on, worst first. A row says one reason with its number and limit, one calm sentence, its
age, and offers exactly one verb.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from console import safety_text as stops
from console.formatting import NB, moment, number, percent, span
from lineage.rules.roles import PEOPLE_MAY

Json = dict[str, Any]
#: How long a quarantined or rejected release stays on the list of those who have to act on it.
RECENT = timedelta(hours=24)
#: An alert is closed by a later measurement of the same thing that is no longer bad.
_CLOSES = {"DriftMeasured": ("drift", ("ok",)), "FairnessMeasured": ("fairness", ("ok",))}


@dataclass(frozen=True)
class Need:
    """One row. `status` is one of the seven words; `rank` orders (smaller is worse); `at` is when it began."""

    status: str
    subject: str
    what: str
    calm: str
    at: str
    verb: str
    href: str
    rank: int


def needs(state: Json, records: list[Json], name: str, role: str, now: datetime) -> list[Need]:
    """Rows for this person, worst first, older before newer.

    Args:
        state: the ledger's fold.
        records: AlertRaised, DriftMeasured and FairnessMeasured, any order.
    """
    rows: list[Need] = []
    state = state | {"models": {model: stops.view(state, model) for model in state["models"]}}
    for release in state["releases"].values():
        model = state["models"].get(release["model"], {})
        rows += _of_release(release, model, name, role, now)
    for model in state["models"].values():
        rows += _failed_jobs(model, name, role)
        rows += _open_breakers(model, role)
    rows += _releases_to_confirm(state, name, role)
    rows += _open_alerts(state, records, role)
    return sorted(rows, key=lambda row: (row.rank, row.at))


def _of_release(release: Json, model: Json, name: str, role: str, now: datetime) -> list[Need]:
    state = release["state"]
    href = f"/release/{release['release']}"
    if state == "review" and role == "validator" and name != release["author"]:
        return [_review(release, model, now)]
    if state in ("approved", "registered") and model.get("stopped"):
        return []  # nothing takes traffic until two people let go
    if state == "approved" and role == "operator":
        by = release["approvals"][-1]["by"] if release["approvals"] else "a second person"
        return [_row("Waiting for you", release, f"Approved by {by}, waits to be promoted", "Promote", href, 4)]
    if state == "registered" and role == "operator" and not model.get("challenger"):
        calm = "Every check passed. No customers see it yet."
        if model.get("shadow") == release["release"]:
            calm = "It scores in the shadow. No customers see it yet."
        return [_row("Waiting for you", release, "Registered, waits for its canary", "Start", href, 5, calm)]
    if state in ("canary", "rollout") and release.get("hold") and role == "operator":
        return [_held(release, model)]
    if state == "quarantined" and _recent(release, now) and (role in ("operator", "validator") or _mine(release, name)):
        return [_row("Blocked", release, f"Quarantined: {reason(release)}", "Look", href, 0, _back_with(model))]
    if state == "rejected" and _recent(release, now) and _mine(release, name):
        calm = "No customers were affected." if not release.get("canary_started_at") else _back_with(model)
        return [_row("Failed", release, f"Rejected: {reason(release)}", "Look", href, 2, calm)]
    return []


def _releases_to_confirm(state: Json, name: str, role: str) -> list[Need]:
    """Kill switches whose release somebody else has asked for."""
    if role not in PEOPLE_MAY["KillSwitchReleased"]:
        return []
    rows = []
    for whose, kill in stops.switches(state):
        if kill["asked_by"] in (None, name):
            continue
        what = f"{kill['asked_by']} asks to release the kill switch: {kill['asked_reason']}"
        calm = f"{stops.killed(kill)}."
        href = "/" if whose == stops.ALL else _page_of(state["models"][whose])
        rows.append(Need("Waiting for you", whose, what, calm, kill["asked_at"], "Look", href, 1))
    return rows


def _open_breakers(model: Json, role: str) -> list[Need]:
    """Models whose champion does not answer on some replica, for operators."""
    told = stops.breakers(model)
    if not told or role != "operator":
        return []
    since = min(str(one["since"]) for one in model["breakers"].values())
    calm = "It tries the champion again by itself. Roll back or kill it if it does not come back."
    what = f"Breaker open: {'; '.join(told)}"
    return [Need("Failed", model["model"], what, calm, since, "Look", _page_of(model), 1)]


def _page_of(model: Json) -> str:
    return f"/release/{model['champion']}" if model.get("champion") else "/releases"


def _row(status: str, release: Json, what: str, verb: str, href: str, rank: int, calm: str = "") -> Need:
    at = release["steps"][-1]["at"] if release["steps"] else release["trained_at"]
    return Need(status, release["release"], what, calm or f"By {release['author']}.", at, verb, href, rank)


def _mine(release: Json, name: str) -> bool:
    return bool(release["author"] == name)


def _recent(release: Json, now: datetime) -> bool:
    return bool(release["steps"]) and now - moment(release["steps"][-1]["at"]) <= RECENT


def _back_with(model: Json) -> str:
    return _answers(model) if model.get("stopped") else f"All traffic is back with {_champion(model)}."


def _champion(model: Json) -> str:
    return str(model.get("champion") or "the baseline")


def _answers(model: Json) -> str:
    """Who answers customers meanwhile."""
    if model.get("stopped"):
        return f"Killed: {stops.answers(model['stopped'])}."
    return f"{model.get('champion') or 'The baseline'} goes on answering."


def _review(release: Json, model: Json, now: datetime) -> Need:
    review = release["review"] or {}
    at, due = review.get("requested_at") or release["trained_at"], review.get("due_at")
    left = (moment(due) - now).total_seconds() if due else None
    if left is None:
        when = "no due time on record"
    else:
        when = f"due in {span(left)}" if left >= 0 else f"overdue by {span(-left)}"
    status, rank = ("Waiting for you", 3) if left is None or left >= 0 else ("Blocked", 1)
    what = f"Review {when}: {evidence(release)}"
    meanwhile = (
        _answers(model) if model.get("stopped") else f"It carries {percent(release.get('share'))} while it waits."
    )
    calm = f"By {release['author']}. {meanwhile}"
    return Need(status, release["release"], what, calm, at, "Review", f"/release/{release['release']}", rank)


def _held(release: Json, model: Json) -> Need:
    hold = release["hold"]
    href = f"/release/{release['release']}"
    rest = _answers(model) if model.get("stopped") else f"{model.get('champion') or 'The baseline'} answers the rest."
    calm = f"Held at {percent(release.get('share'))}. {rest}"
    at = hold.get("at") or release.get("stepped_at") or release["trained_at"]
    return Need("Warning", release["release"], f"Canary held: {hold['why']}", calm, at, "Look", href, 6)


def reason(release: Json) -> str:
    """Why a release stands where it stands, in one clause."""
    reasons = (release.get("judgement") or {}).get("reasons") or []
    failed = [check for check, seen in (release.get("checks") or {}).items() if seen["status"] != "pass"]
    if reasons:
        return str(reasons[0])
    decided = [a for a in release.get("approvals", []) if a["decision"] == "reject"]
    if decided:
        return f"by {decided[-1]['by']}" + (f", {decided[-1]['reason']}" if decided[-1].get("reason") else "")
    return f"failed {', '.join(failed).replace('_', ' ')}" if failed else "see its records"


def evidence(release: Json) -> str:
    """The metric closest to its limit with both numbers; a reason in words where there is none."""
    judgement = release.get("judgement") or {}
    close = [
        (rate / limit, metric, rate, limit) for metric in judgement.get("metrics", []) for rate, limit in _pair(metric)
    ]
    if not close:
        return "; ".join(judgement.get("reasons", [])[:1]) or "no judgement on record"
    _, metric, rate, limit = max(close, key=lambda one: one[0])
    title = str(metric.get("title") or metric["metric"])
    return f"{title[:1].lower()}{title[1:]} {percent(rate)} (limit {percent(limit)})"


def _pair(metric: Json) -> list[tuple[float, float]]:
    """The challenger's rate with its absolute limit, and with its limit relative to the champion; none without data."""
    rate = (metric.get("challenger") or {}).get("rate")
    if rate is None:
        return []
    beside = (metric.get("champion") or {}).get("rate")
    relative = metric["ratio_limit"] * beside if metric.get("ratio_limit") and beside else None
    return [(rate, limit) for limit in (metric.get("limit"), relative) if limit]


def _failed_jobs(model: Json, name: str, role: str) -> list[Need]:
    jobs = sorted(model.get("jobs", {}).items(), key=lambda pair: int(pair[0]))
    if not jobs:
        return []
    seq, job = jobs[-1]
    if job["status"] not in ("failed", "stopped") or not (role == "operator" or job.get("author") == name):
        return []
    what = f"Training job {seq} {job['status']}: {job.get('message') or 'no message'}"
    calm = _answers(model)
    href = f"/audit?kind=JobFinished&model={model['model']}"
    return [Need("Failed", model["model"], what, calm, job.get("finished_at") or job["at"], "Look", href, 2)]


def open_alerts(state: Json, records: list[Json]) -> list[Json]:
    """Alerts nothing has answered yet: the newest of each kind and model, unless a later measurement was good again
    or the model has had a new champion since."""
    newest: dict[tuple[str, str], Json] = {}
    for record in sorted(records, key=lambda one: one["seq"]):
        key = (record["model"], record["data"].get("alert", ""))
        if record["kind"] == "AlertRaised":
            newest[key] = record
        elif record["kind"] in _CLOSES:
            word, good = _CLOSES[record["kind"]]
            if record["data"].get("verdict") in good:
                for known in [k for k in newest if k[0] == record["model"] and word in k[1].lower()]:
                    del newest[known]
    return [alert for alert in newest.values() if not _superseded(alert, state)]


def _superseded(alert: Json, state: Json) -> bool:
    kinds = ("ReleasePromoted", "ChampionReinstated")
    return any(
        step["seq"] > alert["seq"] and step["kind"] in kinds
        for release in state["releases"].values()
        if release["model"] == alert["model"]
        for step in release["steps"]
    )


def _open_alerts(state: Json, records: list[Json], role: str) -> list[Need]:
    if role not in ("operator", "validator", "scientist"):
        return []
    rows = []
    for alert in open_alerts(state, records):
        data, model = alert["data"], alert["model"]
        page = data["severity"] == "page"
        if role == "scientist" and "drift" not in data["alert"].lower():
            continue
        asked = state["models"].get(model, {}).get("requests")
        calm = "Retraining has been asked for." if asked else _answers(state["models"].get(model, {}))
        where = "/fairness" if "fair" in data["alert"].lower() else "/drift"
        status, rank = ("Failed", 2) if page else ("Warning", 7)
        href = f"{where}?model={model}"
        rows.append(Need(status, model, data["summary"], calm, alert["at"], "Look", href, rank))
    return rows


def headline(rows: list[Need], now: datetime) -> str:
    """`3 items · oldest 3 h`."""
    if not rows:
        return "Nothing waits for you"
    oldest = max((now - moment(row.at)).total_seconds() for row in rows)
    return f"{number(len(rows))}{NB}item{'s' if len(rows) > 1 else ''} · oldest {span(oldest)}"
