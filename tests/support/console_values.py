"""Constants and small values of the history: policy, checks, judgements, a manual clock."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

Json = dict[str, Any]
FEATURES = ["LIMIT_BAL", "AGE", "EDUCATION", "PAY_0", "PAY_2", "BILL_AMT1", "PAY_AMT1", "UTILISATION"]
CHECKS = {
    "beats_baseline_and_champion": "Beats the baseline and the champion",
    "group_fairness": "Treats groups alike",
    "no_protected_features": "Uses no protected feature",
    "artefact_complete_and_signed": "Artefact is complete and signed",
}
POLICY: Json = {
    "validation": {"checks": list(CHECKS)},
    "canary": {"steps": [0.25], "alpha": 0.05, "minimum_subjects": 150, "deadline_minutes": 60},
    "review": {"required": True, "sla_hours": 24},
    "rollout": {"steps": [0.5, 1.0], "minimum_subjects": 50},
    "monitor": {"drift": {"window": 600, "limit_share": 0.3, "feature_limit": 0.1, "retrain": True}},
}


class TickingClock:
    """A clock that a story moves by hand."""

    def __init__(self, start: datetime) -> None:
        self.at = start

    def __call__(self) -> datetime:
        self.at += timedelta(milliseconds=40)
        return self.at

    def later(self, **span: float) -> None:
        self.at += timedelta(**span)

    def stamp(self, **back: float) -> str:
        return (self.at - timedelta(**back)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def digest(*parts: Any) -> str:
    return "sha256:" + hashlib.sha256(repr(parts).encode()).hexdigest()


def judged(verdict: str, share: float, clock: TickingClock, wrong: float = 0.021) -> Json:
    """A judgement with the three metrics of the policy."""

    def metric(name: str, title: str, champion: float, challenger: float, **limits: float) -> Json:
        def arm(rate: float, n: int) -> Json:
            return {"n": n, "events": int(rate * n), "rate": rate, "interval": [max(0, rate - 0.012), rate + 0.012]}

        bad = "limit" in limits and challenger > limits["limit"]
        return {
            "metric": name,
            "title": title,
            "verdict": "ABORT" if bad else verdict if verdict != "ABORT" else "ADVANCE",
            "champion": arm(champion, 1_352),
            "challenger": arm(challenger, 448),
            "evidence": 24.1,
            "why": "the lower bound is over the limit" if bad else "the upper bound is under the limit",
            "ratio_limit": None,
            "limit": None,
        } | limits

    metrics = [
        metric("errors", "Errors", 0.001, 0.004, limit=0.03),
        metric("slow", "Slow answers", 0.012, 0.016, limit=0.10),
        metric("wrong_decisions", "Wrong decisions", 0.018, wrong, limit=0.04, ratio_limit=1.5),
    ]
    reasons = {
        "ADVANCE": ["all three metrics are inside their limits with 448 subjects"],
        "HOLD": ["96 of 150 subjects seen"],
        "ABORT": [f"wrong decisions {wrong:.1%} (limit 4.0%)"],
    }[verdict]
    return {
        "verdict": verdict,
        "reasons": reasons,
        "share": share,
        "at": clock.stamp(),
        "seconds": 540,
        "metrics": metrics,
        "sample_ratio": {"expected": share, "observed": share - 0.002, "e_value": 0.7, "ok": True},
        "policy": POLICY["canary"],
    }
