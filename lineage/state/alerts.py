"""Alerts that are open: what each is about, and which fact closes it.

| alert | about | closed by |
|---|---|---|
| drift | the release | a drift measurement of that release that is ok; another champion |
| fairness | the attribute | a live measurement of it and of the same release that is ok; another champion |
| rollback_not_proven | the release that was reinstated | `ChampionReinstated` of it; another champion |
| signing_key_revoked | the release whose signing key is revoked | another champion |
| environment_not_reproduced | the release | `EnvironmentReproduced` of it, all golden rows matched |
| any other | as stated | `AlertClosed` |

Too little data closes nothing, nor does a measurement at validation: it says nothing about live traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
DRIFT, FAIRNESS, ROLLBACK = "drift", "fairness", "rollback_not_proven"
ENVIRONMENT, SIGNING_KEY = "environment_not_reproduced", "signing_key_revoked"
#: Closed by what the ledger records anyway; `AlertClosed` is refused for these.
BY_EVIDENCE = frozenset({DRIFT, FAIRNESS, ROLLBACK, ENVIRONMENT, SIGNING_KEY})
#: About what customers get from the champion: another champion closes them.
_OF_CHAMPION = frozenset({DRIFT, FAIRNESS, ROLLBACK, SIGNING_KEY})


@dataclass(frozen=True)
class Alert:
    """An open alert. `about` is its subject, `release` the release it concerns where there is one."""

    alert: str
    about: str | None
    release: str | None
    severity: str
    summary: str
    at: str
    seq: int
    closes: str

    @property
    def name(self) -> str:
        """Kind and subject in one text."""
        return f"{self.alert} {self.about}" if self.about else self.alert


def raised(record: Record, champion: str | None) -> Alert:
    """The alert of an `AlertRaised` record.

    Args:
        champion: of the model when it was raised; the alert concerns it where the fact names no release.
    """
    data, model = record["data"], record["model"]
    alert, about, release = data["alert"], data.get("about"), data.get("release")
    if about is not None and about.startswith(f"{model}@"):
        release = about
    release = release or champion
    closes = _closes(alert, about, release)
    return Alert(alert, about, release, data["severity"], data["summary"], record["at"], record["seq"], closes)


def _closes(alert: str, about: str | None, release: str | None) -> str:
    replaced = f"or when {release} is no longer the champion"
    match alert:
        case "drift":
            return f"a drift measurement of {about or release} that is ok, {replaced}"
        case "fairness":
            return f"a live fairness measurement of {release} by {about} that is ok, {replaced}"
        case "rollback_not_proven":
            return f"golden rows of {release} that match on every replica, {replaced}"
        case "signing_key_revoked":
            return f"another champion than {release}"
        case "environment_not_reproduced":
            return f"golden rows of {about} that match in this environment"
        case _:
            return "the service that raised it, once its cause is gone"


def closed_by(alert: Alert, record: Record) -> bool:
    """Whether this record of the same model closes the alert."""
    data, kind = record["data"], record["kind"]
    match alert.alert:
        case "drift":
            measured = kind == "DriftMeasured" and data["release"] == (alert.about or alert.release)
            return bool(measured and data["verdict"] == "ok")
        case "fairness":
            measured = kind == "FairnessMeasured" and data["attribute"] == alert.about
            live = measured and data["stage"] == "live" and data["release"] == alert.release
            return bool(live and data["verdict"] == "ok")
        case "rollback_not_proven":
            return bool(kind == "ChampionReinstated" and record["release"] == alert.release)
        case "signing_key_revoked":
            return False  # another champion closes it
        case "environment_not_reproduced":
            proven = kind == "EnvironmentReproduced" and data["release"] == alert.about
            return bool(proven and data["golden"]["matched"] == data["golden"]["count"] > 0)
        case _:
            return kind == "AlertClosed" and (data["alert"], data["about"]) == (alert.alert, alert.about)


def still_open(alerts: list[Alert], champion: str | None) -> list[Alert]:
    """The alerts that a change of champion leaves open."""
    return [one for one in alerts if one.alert not in _OF_CHAMPION or one.release == champion]
