"""A home folder with many models, each with a real signed bundle that answers as champion.

Every fact went through the rules of release, so the platform starts with it as with any other; the evidence that the
facts cite is invented; bundles, digests and signatures are real.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.serving import model as shape
from lineage.clock import now, stamp
from lineage.digest import digest_folder, digest_of
from lineage.ledger import Ledger
from lineage.log.signing_key import signer_at
from lineage.policy import Policy
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.settings import Settings
from lineage.signing import key_name, make_keys, sign
from validators.policy import check_policy
from validators.scoring.bundle import GOLDEN_FILE, REFERENCE_FILE, SPEC_FILE, Explain, load_bundle
from validators.scoring.golden import answer

Json = dict[str, Any]
_CHECK = "artefact_complete_and_signed"
_GOLDEN_ROWS, _REFERENCE_ROWS, _WRITERS = 32, 250, 16
_TRAINER, _CONTROLLER = Actor("trainer", "service"), Actor("controller", "service")
_OPERATOR, _VALIDATOR = Actor("operator", "operator"), Actor("validator", "validator")
#: No score cache, and drift measured hourly, so that only answering is measured.
_POLICY: Json = {
    "validation": {"checks": [_CHECK]},
    "canary": {"steps": [0.25]},
    "rollout": {"steps": [1.0]},
    "monitor": {"drift": {"every_seconds": 3600}, "fairness": {"every_seconds": 3600}},
    "serving": {"cache": False},
}


@dataclass(frozen=True)
class Champion:
    """A release that answers as champion.

    Attributes:
        digest: of its bundle.
        score: of the first of `model.rows(1, seed=5)`, which identifies the release in a reply.
        before: release and digest of its predecessors, the oldest first.
    """

    model: str
    release: str
    digest: str
    score: float
    before: tuple[tuple[str, str], ...] = ()


def build_home(
    settings: Settings,
    models: int,
    *,
    explain: Explain = "never",
    releases: int = 1,
    policy: Mapping[str, Any] | None = None,
) -> list[Champion]:
    """Fill a home that holds no ledger yet: models `model-000` and up, each with `releases` releases, all promoted.

    Args:
        explain: which decisions have reasons; adverse ones are a fifth of `model.rows`.
        policy: tables that replace those of the benchmark's policy.

    Returns:
        The champion of each model.
    """
    agreed = check_policy(_POLICY | dict(policy or {}))
    make_keys(settings)
    settings.artefacts.mkdir(parents=True, exist_ok=True)
    reference = _reference(settings)
    policy_digest = digest_of(agreed.to_dict())

    def make(number: int) -> Json:
        return _bundle(settings, f"model-{number % models:03d}", number, explain, policy_digest, reference)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # training releases the interpreter's lock
        made = list(pool.map(make, range(models * releases)))
    reference.unlink()
    key, ledger = key_name(settings), Ledger(settings.log_folder, signer=signer_at(settings.log_key))
    try:
        with ThreadPoolExecutor(_WRITERS) as pool:
            lives = (made[number::models] for number in range(models))
            return list(pool.map(lambda bundles: _live(ledger, bundles, agreed, key), lives))
    finally:
        ledger.close()


def _bundle(settings: Settings, name: str, number: int, explain: Explain, policy_digest: str, reference: Path) -> Json:
    """Write, digest and sign a bundle; return what the facts say about it."""
    booster = shape.varied(number)
    threshold = shape.threshold_of(booster)
    files = {REFERENCE_FILE: reference.read_bytes()}
    spec = describe(name, explain, threshold, policy_digest)
    digest, score = write_bundle(settings, bytes(booster.save_raw("ubj")), spec, files)
    return {"model": name, "digest": digest, "threshold": threshold, "score": score}


def write_bundle(settings: Settings, model: bytes, spec: Json, files: Mapping[str, bytes]) -> tuple[str, float]:
    """Write, digest and sign a bundle.

    Args:
        model: a booster in UBJ.
        spec: content of release.json, by `describe`.
        files: further ones, by name.

    Returns:
        The digest, and the score of the first golden row.
    """
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=settings.artefacts))
    draft.chmod(0o755)
    ones, none = [1.0] * shape.WIDTH, [0.0] * shape.WIDTH
    baseline = {"intercept": -1.0, "coefficients": [0.1] * shape.WIDTH, "means": none, "scales": ones}
    written = {"model.ubj": model, "baseline.json": json.dumps(baseline).encode(), SPEC_FILE: json.dumps(spec).encode()}
    for name, content in (written | dict(files)).items():
        (draft / name).write_bytes(content)
    golden = answer(load_bundle(draft), [named(row) for row in shape.rows(_GOLDEN_ROWS, seed=5)])
    (draft / GOLDEN_FILE).write_text(json.dumps(golden))
    digest = digest_folder(draft)
    final = draft.rename(settings.artefacts / digest.removeprefix("sha256:"))
    sign(final, settings)
    return digest, float.fromhex(golden[0]["score"])


def named(row: Any) -> dict[str, float]:
    """A row by feature name."""
    return dict(zip(shape.NAMES, (float(value) for value in row), strict=True))


def describe(name: str, explain: Explain, threshold: float, policy_digest: str) -> Json:
    """Content of release.json for a model over `model.NAMES`."""
    number = {"type": "number", "minimum": None, "maximum": None, "categories": None}
    return {
        "schema": 1,
        "model": name,
        "family": "boosted_trees",
        "artefact": "model.ubj",
        "baseline": {"family": "logistic", "artefact": "baseline.json"},
        "features": [{"name": feature, **number} for feature in shape.NAMES],
        "threshold": threshold,
        "baseline_threshold": 0.5,
        "favourable": "approve",
        "adverse": "decline",
        "explain": explain,
        "reasons_most": 4,
        "reasons": {feature: {"code": f"R-{feature}", "text": f"Because of {feature}"} for feature in shape.NAMES},
        "policy_digest": policy_digest,
        "entity": "customer",
    }


def _reference(settings: Settings) -> Path:
    """Reference rows for drift, the same for all models."""
    drawn = shape.rows(_REFERENCE_ROWS, seed=11)
    frame = pl.DataFrame(drawn, schema=list(shape.NAMES)).with_columns(score=pl.lit(0.5))
    path = settings.root / REFERENCE_FILE
    frame.write_parquet(path)
    return path


def _live(ledger: Ledger, bundles: list[Json], policy: Policy, key: str) -> Champion:
    """Facts of each release up to its promotion."""
    before: list[tuple[str, str]] = []
    for bundle in bundles:
        release = _promoted(ledger, bundle, policy, key, before[-1][0] if before else None)
        before.append((release, bundle["digest"]))
    last, (release, digest) = bundles[-1], before[-1]
    return Champion(last["model"], release, digest, last["score"], tuple(before[:-1]))


def _promoted(ledger: Ledger, bundle: Json, policy: Policy, key: str, replaces: str | None) -> str:
    name, digest, terms = bundle["model"], bundle["digest"], policy.to_dict()
    trained = _trained(bundle, terms, key)
    release = str(ledger.append(Draft("ModelTrained", _TRAINER, trained, name))["release"])
    judgement = {
        "verdict": "ADVANCE",
        "reasons": ["enough was seen"],
        "share": 0.25,
        "at": stamp(now()),
        "seconds": 1.0,
    }

    def state(kind: str, actor: Actor, **data: Any) -> None:
        reason = None if actor.role == "service" else "the evidence is sound"
        ledger.append(Draft(kind, actor, data, name, release, reason))

    check = {"check": _CHECK, "code": "PLM-4", "title": "Complete and signed", "status": "pass", "seconds": 0.1}
    finding = {"name": "golden rows", "observed": 32, "limit": 32, "relation": ">=", "ok": True}
    state("CheckCompleted", _TRAINER, **check, findings=[finding], policy_digest=trained["policy_digest"])
    state("CandidateValidated", _TRAINER, checks=[_CHECK], report_digest=digest_of("report"))
    state("ReleaseRegistered", _TRAINER, digest=digest, mlflow_version="1", fingerprint=digest)
    state("CanaryStarted", _OPERATOR, share=0.25, salt=f"salt of {release}", control=replaces or "baseline")
    state("ReviewRequested", _CONTROLLER, judgement=judgement, due_at=stamp(now()))
    state("ReviewDecided", _VALIDATOR, decision="approve", digest=digest)
    state("RolloutStepped", _OPERATOR, share=1.0, judgement=judgement)
    golden = {"count": _GOLDEN_ROWS, "matched": _GOLDEN_ROWS, "digest": digest}
    state("ReleasePromoted", _CONTROLLER, digest=digest, replaced=replaces, golden=golden, judgement=judgement)
    if replaces:
        data = {"replaced_by": release}
        ledger.append(Draft("ChampionRetired", _CONTROLLER, data, name, replaces))
    return release


def _trained(bundle: Json, policy: Json, key: str) -> Json:
    return {
        "author": "scientist",
        "request": None,
        "run_id": "4b1c",
        "family": "boosted_trees",
        "params": {"max_depth": shape.DEPTH, "trees": shape.TREES},
        "metrics": {"auc": 0.9},
        "dataset": {"uri": "datasets/drawn", "version": 1, "digest": digest_of("drawn")},
        "digest": bundle["digest"],
        "signature_key": key,
        "code_digest": digest_of("code"),
        "environment_digest": digest_of("environment"),
        "seed": 7,
        "policy": policy,
        "policy_digest": digest_of(policy),
        "features": list(shape.NAMES),
        "threshold": bundle["threshold"],
        "seconds": 0.7,
        "fingerprint": bundle["digest"],
    }
