"""How numbers, times and facts read on a screen. Pure; every function gives plain text.

A no-break space stands between a number and its unit, so that "2.9 %" never breaks over two lines.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

NB = "\u00a0"
Json = dict[str, Any]


def moment(stamp: str) -> datetime:
    """An ISO time stamp of the ledger as an aware UTC time."""
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).astimezone(UTC)


def clock(stamp: str | None) -> str:
    """`14:05` in UTC, with the date in front when it was not today."""
    if not stamp:
        return "–"
    at = moment(stamp)
    today = datetime.now(UTC).date()
    return f"{at:%H:%M}" if at.date() == today else f"{at.day}{NB}{at:%b %H:%M}"


def span(seconds: float) -> str:
    """A length of time in its two largest units: `12 s`, `3 min`, `1 h 32 min`, `4 d 2 h`."""
    seconds = max(0, int(seconds))
    if seconds < 60:
        return f"{seconds}{NB}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 60:
        return f"{minutes}{NB}min"
    if hours < 24:
        rest = minutes % 60
        return f"{hours}{NB}h" + (f"{NB}{rest}{NB}min" if rest else "")
    rest = hours % 24
    return f"{days}{NB}d" + (f"{NB}{rest}{NB}h" if rest else "")


def age(stamp: str | None, now: datetime) -> str:
    """How long ago a stamp was."""
    return span((now - moment(stamp)).total_seconds()) if stamp else "–"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as `2.9 %`; whole numbers carry no decimals."""
    if value is None:
        return "–"
    text = f"{value * 100:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{NB}%"


def number(value: Any) -> str:
    """A number as a person reads it: thousands apart, three significant digits for fractions."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def interval(pair: list[float] | None, digits: int = 1) -> str:
    """An interval of shares as `1.2 – 3.4 %`."""
    if not pair:
        return "–"
    low, high = (percent(edge, digits).removesuffix(f"{NB}%") for edge in pair)
    return f"{low}{NB}–{NB}{high}{NB}%"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 release`, `2 releases`."""
    return f"{count:,}{NB}{one if count == 1 else many or one + 's'}"


def short(digest: str | None) -> str:
    """A digest's first twelve hex digits."""
    return (digest or "–").removeprefix("sha256:")[:12]


def subject(record: Json) -> str:
    """What a record is about: the release where there is one, else the model, else all models or the platform."""
    everybody = "all models" if record["kind"].startswith("Kill") else "platform"
    return record.get("release") or record.get("model") or everybody


#: kind of fact -> (status word's tone, sentence with the fact's own fields)
_LINES: dict[str, tuple[str, str]] = {
    "DatasetPinned": ("quiet", "data set pinned, {rows:,} rows"),
    "ModelTrained": ("info", "trained ({family})"),
    "CheckCompleted": ("info", "check {check}: {status}"),
    "CandidateValidated": ("good", "passed every check"),
    "CandidateRejected": ("bad", "rejected by its checks"),
    "ReleaseRegistered": ("good", "registered"),
    "CanaryStarted": ("info", "canary started at {share:.0%}"),
    "CanaryStepped": ("info", "canary moved to {share:.0%}"),
    "CanaryHeld": ("warn", "held: {why}"),
    "CanaryAborted": ("bad", "quarantined: {why}"),
    "ReviewRequested": ("warn", "waits for a review"),
    "ReviewDecided": ("good", "review: {decision}"),
    "RolloutStepped": ("info", "rollout moved to {share:.0%}"),
    "ReleasePromoted": ("good", "promoted, all traffic"),
    "ChampionRetired": ("quiet", "retired, stands by"),
    "DecisionsSealed": ("quiet", "{rows:,} decisions sealed"),
    "AnswersClosed": ("quiet", "replica {writer} is gone, its answers are counted"),
    "DriftMeasured": ("quiet", "drift measured: {verdict}"),
    "FairnessMeasured": ("quiet", "fairness measured ({stage}): {verdict}"),
    "AlertRaised": ("bad", "{summary}"),
    "AlertClosed": ("good", "alert closed: {alert}"),
    "EnvironmentReproduced": ("quiet", "golden rows answered in another environment"),
    "RulesActivated": ("info", "rules of era {era} in force ({software})"),
    "RetrainRequested": ("info", "retraining asked for: {why}"),
    "RollbackOrdered": ("warn", "rollback ordered to {to}"),
    "ReleaseRolledBack": ("bad", "rolled back in {milliseconds:,.0f} ms"),
    "ChampionReinstated": ("good", "answers again"),
    "KillSwitchPulled": ("bad", "killed, {answer} answers"),
    "KillReleaseRequested": ("warn", "release of the kill switch asked for"),
    "KillSwitchReleased": ("good", "kill switch released by a second person"),
    "BreakerOpened": ("bad", "breaker open on {replica}: {cause}"),
    "BreakerClosed": ("good", "breaker closed on {replica}: {cause}"),
    "ShadowStarted": ("info", "scores in the shadow"),
    "ShadowStopped": ("quiet", "shadow stopped"),
    "HoldPlaced": ("warn", "erasure of a person forbidden"),
    "HoldReleased": ("quiet", "erasure of a person allowed again"),
    "SubjectErased": ("warn", "a person was erased"),
    "KeyRotated": ("warn", "{key} key replaced"),
    "KeyRevoked": ("bad", "{key} key revoked from record {from_record} on"),
    "WitnessAway": ("bad", "the witness is away since {since}: {why}"),
    "WitnessBack": ("good", "the witness is back, {cosigned:,} records cosigned"),
    "PersonalDataRead": ("info", "{read}"),
    "LedgerOpened": ("quiet", "ledger opened, {records:,} records"),
    "AccountRequested": ("warn", "asked to {change} account {name} ({roles})"),
    "AccountRequestWithdrawn": ("quiet", "request {requested} about an account withdrawn"),
    "AccountAdded": ("info", "account {name} added ({roles})"),
    "RolesChanged": ("info", "account {account} has roles {roles}"),
    "AccountDisabled": ("warn", "account {account} disabled"),
    "AccountEnabled": ("info", "account {account} active again"),
    "AccountRecertified": ("quiet", "roles of account {account} confirmed ({roles})"),
    "AccountRecovered": ("bad", "admin {name} recovered on the machine by one person"),
    "RecoveryConfirmed": ("good", "recovery {recovered} confirmed by a second admin"),
    "PasswordReset": ("warn", "password of account {account} reset"),
    "PasswordChosen": ("quiet", "account {account} chose a password"),
    "SignedIn": ("quiet", "account {account} signed in"),
    "SignInsFailed": ("warn", "{failed} sign-ins failed, {turned_away} turned away"),
    "ActionRefused": ("warn", "refused: {message}"),
    "ControllerStarted": ("quiet", "controller started"),
    "JobStarted": ("info", "training job started"),
    "JobFinished": ("good", "training job {status}: {message}"),
    "RouteApplied": ("quiet", "route v{version} on {replicas} replicas"),
}
_BAD_WHEN = {"status": ("fail", "failed", "stopped"), "verdict": ("drift", "breach"), "decision": ("reject",)}


def personal_read(data: Json) -> str:
    """What was looked at, e.g. `looked at 12 decisions about one person; fields about the person shown`."""
    count = data.get("count", 0)
    decisions = "1 decision" if count == 1 else f"{count:,} decisions"
    looked = {
        "decision": f"looked at decision {', '.join(data.get('decision_ids', []))}",
        "history": f"looked at all {decisions} about one person",
        "decisions": f"looked at a list of {decisions}",
        "outcomes": f"looked at outcomes of {decisions}",
        "presence": f"looked whether one person is known: {count:,} data sets",
    }
    shown = "shown" if data.get("fields") == "shown" else "withheld"
    return f"{looked.get(str(data.get('what')), 'looked at personal data')}; fields about the person {shown}"


def line(record: Json) -> tuple[str, str]:
    """One record as `(tone, sentence)`; an unknown kind or field shows the kind itself."""
    tone, sentence = _LINES.get(record["kind"], ("quiet", ""))
    data = record.get("data", {})
    if any(data.get(field) in values for field, values in _BAD_WHEN.items()):
        tone = "bad"
    elif tone == "info" and data.get("status") == "pass":
        tone = "good"
    if isinstance(data.get("roles"), list):
        data = data | {"roles": ", ".join(map(str, data["roles"]))}
    if record["kind"] == "AccountAdded" and "role" in data:  # as recorded before era 3
        data = data | {"name": data["account"], "roles": data["role"]}
    if "cause" in data:
        data = data | {"cause": str(data["cause"]).replace("_", " ")}
    if record["kind"] == "PersonalDataRead":
        data = {"read": personal_read(data)}
    try:
        text = sentence.format(**data)
    except (KeyError, ValueError, TypeError):
        text = ""
    return tone, text or record["kind"]
