"""Records of the ledger as single lines for the demo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from console.formatting import subject

Record = dict[str, Any]
_QUIET = frozenset(
    {"SignedIn", "DecisionsSealed", "RouteApplied", "PasswordReset", "ControllerStarted", "ActionRefused"}
)


def narrate(record: Record) -> str | None:
    """The record as one line; None for kinds that are not shown."""
    kind = record["kind"]
    if kind in _QUIET:
        return None
    about = subject(record)
    detail = _DETAILS[kind](record["data"]) if kind in _DETAILS else ""
    return f"{record['at'][11:19]} {about}: {kind}" + (f", {detail}" if detail else "")


def _trained(data: dict[str, Any]) -> str:
    metrics = ", ".join(f"{name} {value:.3f}" for name, value in list(data["metrics"].items())[:3])
    return f"{metrics}, fingerprint {data['fingerprint'].removeprefix('sha256:')[:12]}, {data['seconds']:.1f} s"


def _judged(data: dict[str, Any]) -> str:
    reasons = (data.get("judgement") or {}).get("reasons", [])
    why = data.get("why") or "; ".join(reasons[:2])
    share = f"{data['share']:.0%}" if "share" in data else ""
    return ", ".join(part for part in (share, why) if part)


def _drift(data: dict[str, Any]) -> str:
    if data["share_drifted"] is None:
        return str(data["verdict"])
    drifted = sum(bool(feature["drifted"]) for feature in data["features"])
    return f"{data['verdict']}: {drifted} of {len(data['features'])} features beyond their limit"


def _fairness(data: dict[str, Any]) -> str:
    ratio = "too few people" if data["ratio"] is None else f"ratio {data['ratio']:.3f}, limit {data['limit']}"
    return f"{data['attribute']} {data['stage']}: {data['verdict']}, {ratio}"


def _golden(data: dict[str, Any]) -> str:
    return f"{data['golden']['matched']} of {data['golden']['count']} golden vectors match"


_DETAILS: dict[str, Callable[[dict[str, Any]], str]] = {
    "DatasetPinned": lambda d: f"version {d['version']}, {d['rows']} rows",
    "ModelTrained": _trained,
    "CheckCompleted": lambda d: f"{d['check']}: {d['status']}",
    "CandidateRejected": lambda d: f"failed: {', '.join(d['failed'])}",
    "CanaryStarted": lambda d: f"{d['share']:.0%} against {d['control']}",
    "CanaryStepped": _judged,
    "CanaryHeld": _judged,
    "CanaryAborted": _judged,
    "ReviewRequested": _judged,
    "ReviewDecided": lambda d: str(d["decision"]),
    "RolloutStepped": lambda d: f"{d['share']:.0%}",
    "ReleasePromoted": _golden,
    "ChampionReinstated": _golden,
    "DriftMeasured": _drift,
    "FairnessMeasured": _fairness,
    "AlertRaised": lambda d: str(d["summary"]),
    "AlertClosed": lambda d: f"{d['alert']} {d['about'] or ''}".strip(),
    "EnvironmentReproduced": lambda d: f"{d['release']} in another environment, {_golden(d)}",
    "RulesActivated": lambda d: f"era {d['era']}, {d['software']}",
    "RetrainRequested": lambda d: str(d["why"]),
    "JobStarted": lambda d: f"Ray job {d['job_id']}",
    "JobFinished": lambda d: str(d["status"]),
    "RollbackOrdered": lambda d: f"to {d['to']}",
    "KillSwitchPulled": lambda d: {"baseline": "the baseline answers", "nothing": "nothing is answered"}[d["answer"]],
    "KillReleaseRequested": lambda _: "a second person has to confirm",
    "BreakerOpened": lambda d: f"{d['cause'].replace('_', ' ')} on replica {d['replica']}",
    "BreakerClosed": lambda d: f"{d['cause']} on replica {d['replica']} after {d['seconds']:.0f} s",
    "ReleaseRolledBack": lambda d: f"{d['replicas']} replicas, {d['milliseconds']:.0f} ms",
}
