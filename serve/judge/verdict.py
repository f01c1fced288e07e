"""Judge of a canary: ADVANCE, HOLD or ABORT from the evidence, valid at any time and any number of looks.

- Every metric of the policy is one gate with an equal part of alpha (Bonferroni), so the probability that a
  harmless challenger is ever aborted is at most alpha.
- A gate with `ratio_limit` aborts on proof that the challenger's rate is above the champion's and passes on proof that
  it is below `ratio_limit` times the champion's. One with `absolute_limit` aborts on proof that the challenger's rate
  is above the limit and passes on proof that it is below.
- A bet between arms is scored twice, with the share that assigned the subjects and with the exposure that was observed,
  and the lesser gain counts: valid if either share is right, and not inflated by outcomes of one arm only.
- No data, stale data, too few subjects, a skewed split or NaN is HOLD, never ADVANCE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from math import exp, isnan, log
from typing import Any, Literal

from lineage.policy import Canary, MetricLimit
from serve.judge.evidence import ARMS, CHALLENGER, CHAMPION, Count, Evidence, Stratum
from serve.judge.sequential import (
    log_e_multinomial,
    log_e_rate_above,
    log_e_rate_below,
    log_e_ratio_above,
    log_e_ratio_below,
    rate_interval,
)

Verdict = Literal["ADVANCE", "HOLD", "ABORT"]
METRICS = {"errors": "Errors", "slow": "Slow answers", "wrong_decisions": "Wrong decisions"}
_MOST = 1e9  # larger e-values are reported as this; JSON has no infinity


@dataclass(frozen=True)
class Gate:
    """Result of one metric."""

    metric: str
    verdict: Verdict
    champion: Count
    challenger: Count
    ratio_limit: float | None
    limit: float | None
    evidence: dict[str, float]
    why: str


@dataclass(frozen=True)
class Judgement:
    """A verdict with everything needed to reproduce it."""

    verdict: Verdict
    reasons: list[str]
    share: float
    at: datetime
    seconds: float
    gates: list[Gate]
    sample_ratio: dict[str, Any]
    policy: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON form for facts."""
        alpha = self.policy["alpha_of_each_gate"]
        return {
            "verdict": self.verdict,
            "reasons": self.reasons,
            "share": self.share,
            "at": self.at.isoformat(),
            "seconds": round(self.seconds, 3),
            "metrics": [_gate_dict(gate, alpha) for gate in self.gates],
            "sample_ratio": self.sample_ratio,
            "policy": self.policy,
        }


def judge(
    evidence: Evidence,
    canary: Canary,
    now: datetime,
    *,
    started: datetime | None = None,
    minimum: int | None = None,
    proven: bool = False,
) -> Judgement:
    """Judge the evidence at `now`.

    Args:
        evidence: counts of the rollout.
        canary: limits and constants from the release's policy.
        now: the moment of judging; data older than `stale_seconds` is stale.
        started: when the canary began, to say how long it took.
        minimum: subjects that each arm must have at this share; `minimum_subjects` of the policy when absent.
        proven: every gate has passed before, on record. What an e-process has once proven stays proven (Ville's
            inequality bounds its maximum), and at 100 % there is no control arm; harm still ends the release.
    """
    minimum = canary.minimum_subjects if minimum is None else minimum
    alpha = canary.alpha / len(METRICS)
    gates = [_gate(metric, getattr(canary, metric), evidence, alpha, canary.prior_strength) for metric in METRICS]
    if proven:
        gates = [_as_proven(gate) for gate in gates]
    ratio = _sample_ratio(evidence, canary)
    harm = [gate.why for gate in gates if gate.verdict == "ABORT"]
    doubts = _doubts(evidence, canary, now, minimum) + ([] if ratio["ok"] else [ratio["why"]])
    doubts += [gate.why for gate in gates if gate.verdict == "HOLD"]
    verdict: Verdict = "ABORT" if harm else "HOLD" if doubts else "ADVANCE"
    constants = canary.model_dump(mode="json") | {
        "alpha_of_each_gate": alpha,
        "alpha_split": f"Bonferroni over {len(METRICS)} gates",
        "minimum_subjects_here": minimum,
    }
    seconds = (now - started).total_seconds() if started else 0.0
    reasons = harm or doubts or [gate.why for gate in gates]
    return Judgement(verdict, reasons, evidence.share, now, seconds, gates, ratio, constants)


def _doubts(evidence: Evidence, canary: Canary, now: datetime, minimum: int) -> list[str]:
    doubts = []
    for arm in ARMS if evidence.share < 1.0 else (CHALLENGER,):
        latest = evidence.latest.get(arm)
        if latest is None:
            doubts.append(f"no decision of the {arm}'s arm has been seen")
        elif (now - latest).total_seconds() > canary.stale_seconds:
            doubts.append(f"the {arm}'s arm was silent for more than {canary.stale_seconds:g} s")
        if evidence.active(arm) < minimum:
            doubts.append(f"the {arm}'s arm has met fewer than {minimum} subjects at this share")
    return doubts


def _gate(metric: str, limit: MetricLimit, evidence: Evidence, alpha: float, strength: float) -> Gate:
    strata = evidence.strata(metric)
    champion, challenger = (_sum([getattr(stratum, arm) for stratum in strata]) for arm in ARMS)
    harm, passed = [], []
    if limit.absolute_limit is not None:
        harm.append(log_e_rate_above(challenger.events, challenger.n, limit.absolute_limit))
        passed.append(log_e_rate_below(challenger.events, challenger.n, limit.absolute_limit))
    if limit.ratio_limit is not None:
        harm.append(_between(strata, log_e_ratio_above, 1.0, strength))
        passed.append(_between(strata, log_e_ratio_below, limit.ratio_limit, strength))
    most, least, need = max(harm), min(passed), -log(alpha)
    verdict: Verdict = "HOLD"
    if most >= need:  # a comparison with NaN is false, so the verdict stays HOLD
        verdict = "ABORT"
    elif least >= need and challenger.n > 0:
        verdict = "ADVANCE"
    numbers = {"harm": _e_value(most), "pass": _e_value(least), "needed": round(1.0 / alpha, 3)}
    why = _why(metric, verdict, limit, challenger)
    return Gate(metric, verdict, champion, challenger, limit.ratio_limit, limit.absolute_limit, numbers, why)


def _as_proven(gate: Gate) -> Gate:
    if gate.verdict != "HOLD":
        return gate
    return replace(
        gate, verdict="ADVANCE", why=f"{METRICS[gate.metric].lower()}: proven before the review, no harm since"
    )


def _between(strata: list[Stratum], bet: Callable[..., Any], limit: float, strength: float) -> float:
    designed = observed = 0.0
    for stratum in strata:
        ours, others = stratum.challenger, stratum.champion
        if not ours.n + others.n:
            continue
        designed += float(bet(ours.events, others.events, stratum.share, limit, strength))
        observed += float(bet(ours.events, others.events, ours.n / (ours.n + others.n), limit, strength))
    return min(designed, observed)


def _sample_ratio(evidence: Evidence, canary: Canary) -> dict[str, Any]:
    """Sample-ratio test: whether the arms have the subjects that their shares give them; if not, requests are lost."""
    log_e, expected, ours, total = 0.0, 0.0, 0, 0
    for stratum in evidence.strata("errors"):
        counts = [stratum.challenger.n, stratum.champion.n]
        log_e += log_e_multinomial(counts, [stratum.share, 1.0 - stratum.share], canary.prior_strength)
        ours, total = ours + counts[0], total + sum(counts)
        expected += stratum.share * sum(counts)
    ok = log_e < -log(canary.sample_ratio_alpha)
    observed = ours / total if total else None
    wanted = expected / total if total else evidence.share
    result = {"expected": round(wanted, 4), "observed": observed and round(observed, 4), "e_value": _e_value(log_e)}
    why = "the split is skewed: the arms do not have the subjects that their shares give them; look for lost requests"
    return result | {"ok": ok} | ({} if ok else {"why": why})


def _why(metric: str, verdict: Verdict, limit: MetricLimit, challenger: Count) -> str:
    title = METRICS[metric].lower()
    if not challenger.n:
        return f"{title}: nothing is known of the challenger yet"
    limits = []
    if limit.absolute_limit is not None:
        limits.append(f"{limit.absolute_limit:.1%} of subjects")
    if limit.ratio_limit is not None:
        limits.append(f"{limit.ratio_limit:g} times the champion's rate")
    bound = " and ".join(limits)
    if verdict == "ABORT":
        beyond = bound if limit.ratio_limit is None else "the champion's rate"
        return f"{title}: the challenger's rate is above {beyond} ({challenger.events} of {challenger.n})"
    if verdict == "ADVANCE":
        return f"{title}: the challenger's rate is below {bound}"
    return f"{title}: not yet proven to be below {bound}"


def _sum(counts: list[Count]) -> Count:
    return Count(sum(count.n for count in counts), sum(count.events for count in counts))


def _e_value(log_e: float) -> float:
    return 0.0 if isnan(log_e) else round(min(exp(min(log_e, 50.0)), _MOST), 6)


def _gate_dict(gate: Gate, alpha: float) -> dict[str, Any]:
    content = asdict(gate) | {"title": METRICS[gate.metric]}
    for arm in (CHAMPION, CHALLENGER):
        count: Count = getattr(gate, arm)
        rate = count.events / count.n if count.n else None
        content[arm] = asdict(count) | {"rate": rate, "interval": rate_interval(count.events, count.n, alpha)}
    return content
