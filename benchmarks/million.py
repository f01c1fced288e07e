"""A generated log of some years of a bank: 500 models, each with successive releases, monitored in between.

Every record satisfies the rules of release at its place; times, names and digests are invented.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from lineage.clock import stamp
from lineage.log.signing_key import signer_at
from lineage.log.writer import Log
from lineage.settings import Settings

RECORDS, MODELS, RELEASES, CHECKS = 1_000_000, 500, 8, 12
SECONDS = 13  # between two records
_GROUP = 5_000
Json = dict[str, Any]
_START = datetime(2026, 1, 1, tzinfo=UTC)
_PLATFORM, _CONTROLLER, _TRAINER = ("ledger", "platform"), ("controller", "service"), ("trainer", "service")
_OPERATOR, _VALIDATOR = ("operator", "operator"), ("validator", "validator")
_POLICY: Json = {
    "validation": {"checks": [f"check_{number}" for number in range(CHECKS)]},
    "canary": {"steps": [0.1, 0.25]},
    "review": {"required": True},
    "rollout": {"steps": [0.5, 1.0]},
}
_JUDGEMENT: Json = {"verdict": "ADVANCE", "reasons": ["enough was seen"], "share": 0.25, "seconds": 12.5}
_GOLDEN: Json = {"count": 32, "matched": 32}
Fact = tuple[str, str, str | None, tuple[str, str], Json]  # kind, model, release, actor, data


def build(settings: Settings, count: int = RECORDS, releases: int = RELEASES) -> int:
    """Write a log of `count` records that the rules of release would let pass; return its bytes.

    Args:
        releases: of each model.
    """
    log = Log(settings.log_folder, signer=signer_at(settings.log_key))
    list(log.replay())
    facts = islice(_facts(count, releases), count)
    number = 0
    while group := list(islice(facts, _GROUP)):
        for fact in group:
            number += 1
            log.stage(_envelope(number, fact))
        log.commit()
    log.close()
    return sum(path.stat().st_size for path in settings.log_folder.glob("*.jsonl"))


def _envelope(number: int, fact: Fact) -> Json:
    kind, model, release, (name, role), data = fact
    return {
        "at": stamp(_START + timedelta(seconds=SECONDS * number)),
        "kind": kind,
        "model": model,
        "release": release,
        "actor": {"name": name, "role": role},
        "reason": "the evidence is sound" if role not in ("service", "platform") else None,
        "data": data,
        "key": hashlib.md5(
            b"%d" % number, usedforsecurity=False
        ).hexdigest(),  # in the form of the client's random keys
    }


def _facts(count: int, releases: int) -> Iterator[Fact]:
    """Each model gets release after release; between two of them it is watched."""
    life = sum(1 for number in range(1, releases + 1) for _ in _life("m", number)) * MODELS
    ticks = max(1, -(-(count - life) // (releases * MODELS)))
    names = [f"model-{number:03d}" for number in range(MODELS)]
    for number in range(1, releases + 1):
        for name in names:
            yield from _life(name, number)
        for tick in range(ticks):
            for name in names:
                yield _watched(name, f"{name}@{number}", tick)


def _life(model: str, number: int) -> Iterator[Fact]:
    release, before = f"{model}@{number}", f"{model}@{number - 1}" if number > 1 else None
    digest = _digest(release)

    def fact(kind: str, actor: tuple[str, str], **data: Any) -> Fact:
        return kind, model, release, actor, data

    yield fact("ModelTrained", _TRAINER, **_trained(digest))
    for check in _POLICY["validation"]["checks"]:
        yield fact("CheckCompleted", _TRAINER, **_checked(check))
    checks = _POLICY["validation"]["checks"]
    yield fact("CandidateValidated", _TRAINER, checks=checks, report_digest=_digest("report"))
    yield fact("ReleaseRegistered", _TRAINER, digest=digest, mlflow_version=str(number), fingerprint=digest)
    yield fact("CanaryStarted", _OPERATOR, share=0.1, salt="0123456789abcdef", control=before or "baseline")
    yield fact("CanaryStepped", _CONTROLLER, share=0.25, judgement=_JUDGEMENT)
    yield fact("ReviewRequested", _CONTROLLER, judgement=_JUDGEMENT, due_at=stamp(_START))
    yield fact("ReviewDecided", _VALIDATOR, decision="approve", digest=digest)
    yield fact("RolloutStepped", _OPERATOR, share=0.5, judgement=_JUDGEMENT)
    yield fact("RolloutStepped", _CONTROLLER, share=1.0, judgement=_JUDGEMENT)
    yield fact("ReleasePromoted", _CONTROLLER, digest=digest, replaced=before, golden=_GOLDEN, judgement=None)
    if before:
        yield "ChampionRetired", model, before, _CONTROLLER, {"replaced_by": release}


def _watched(model: str, release: str, tick: int) -> Fact:
    """Facts about live traffic, mostly sealed decisions."""
    kind = (
        "DecisionsSealed",
        "DriftMeasured",
        "DecisionsSealed",
        "FairnessMeasured",
        "DecisionsSealed",
        "RouteApplied",
    )
    at = stamp(_START + timedelta(minutes=tick))
    data: dict[str, Json] = {
        "DecisionsSealed": {
            "segment": f"20260101T000000-{tick:06d}",
            "uri": f"decisions/{model}/20260101T000000-{tick:06d}.parquet",
            "digest": _digest(f"{release} {tick}"),
            "rows": 5_000,
            "outcomes": 120,
            "from": at,
            "to": at,
            "releases": {release: 5_000},
        },
        "DriftMeasured": {
            "release": release,
            "window": {"rows": 5_000, "from": at, "to": at},
            "features": [
                {"feature": f"PAY_{number}", "score": 0.04, "method": "PSI", "limit": 0.1, "drifted": False}
                for number in range(6)
            ],
            "share_drifted": 0.0,
            "limit": 0.3,
            "verdict": "ok",
            "report_digest": None,
        },
        "FairnessMeasured": {
            "release": release,
            "stage": "live",
            "attribute": "SEX",
            "groups": [{"group": group, "n": 2_500, "favourable_rate": 0.7, "interval": [0.6, 0.8]} for group in "12"],
            "ratio": 0.9,
            "ratio_interval": [0.85, 0.95],
            "limit": 0.8,
            "verdict": "ok",
            "erased": 0,
        },
        "RouteApplied": {
            "version": tick,
            "champion": release,
            "challenger": None,
            "share": 0.0,
            "replicas": 2,
            "milliseconds": 17.0,
        },
    }
    return kind[tick % len(kind)], model, None, _CONTROLLER, data[kind[tick % len(kind)]]


def _trained(digest: str) -> Json:
    return {
        "author": "scientist",
        "request": None,
        "run_id": "4b1c",
        "family": "boosted_trees",
        "params": {"max_depth": 4},
        "metrics": {"auc": 0.78},
        "dataset": {"uri": "datasets/credit-default", "version": 3, "digest": _digest("data")},
        "digest": digest,
        "signature_key": _digest("key"),
        "code_digest": _digest("code"),
        "environment_digest": _digest("environment"),
        "seed": 7,
        "policy": _POLICY,
        "policy_digest": _digest("policy"),
        "features": [f"PAY_{number}" for number in range(6)],
        "threshold": 0.31,
        "seconds": 12.5,
        "fingerprint": digest,
    }


def _checked(check: str) -> Json:
    finding = {"name": "difference of AUC", "observed": 0.02, "limit": 0.0, "relation": ">=", "ok": True}
    about = {"code": "PLM-1", "title": "Beats the baseline", "status": "pass", "findings": [finding]}
    return {"check": check, "policy_digest": _digest("policy"), "seconds": 0.5, **about}


def _digest(of: str) -> str:
    return "sha256:" + hashlib.sha256(of.encode()).hexdigest()
