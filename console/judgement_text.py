"""What the judge recorded about a canary, in words. Pure."""

from __future__ import annotations

from typing import Any

from console.formatting import percent

Json = dict[str, Any]


def verdict(judgement: Json | None) -> str:
    """ADVANCE, HOLD or ABORT; empty where there is no judgement."""
    return str((judgement or {}).get("verdict", ""))


def reasons(judgement: Json | None) -> list[str]:
    """What the judge says, the most important first."""
    return [str(reason) for reason in (judgement or {}).get("reasons") or []]


def evidence(judgement: Json | None) -> str:
    """The metric closest to its limit with both numbers; a reason in words where there is none."""
    close = [
        (rate / limit, metric, rate, limit)
        for metric in (judgement or {}).get("metrics", [])
        for rate, limit in _rates(metric)
    ]
    if not close:
        return "; ".join(reasons(judgement)[:1]) or "no judgement on record"
    _, metric, rate, limit = max(close, key=lambda one: one[0])
    title = str(metric.get("title") or metric["metric"])
    return f"{title[:1].lower()}{title[1:]} {percent(rate)} (limit {percent(limit)})"


def _rates(metric: Json) -> list[tuple[float, float]]:
    """The challenger's rate with its absolute limit, and with its limit relative to the champion; none without data."""
    rate = (metric.get("challenger") or {}).get("rate")
    if rate is None:
        return []
    beside = (metric.get("champion") or {}).get("rate")
    relative = metric["ratio_limit"] * beside if metric.get("ratio_limit") and beside else None
    return [(rate, limit) for limit in (metric.get("limit"), relative) if limit]
