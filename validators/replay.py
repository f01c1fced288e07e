"""Replay one recorded decision with the bundle named by its digest: the same bits, or exactly what is missing.

It needs a record as the ledger service returns it, a folder of artefacts and this code; no running platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from lineage.errors import TamperedError, UnavailableError
from lineage.settings import Settings
from validators.scoring.bundle import Bundle
from validators.scoring.port import Scorer
from validators.scoring.reasons import adverse_reasons
from validators.scoring.verified_read import load_verified

Grade = Literal["bit-identical", "numerically equal", "decision-equal", "different"]
BASELINE = "baseline"
_NEARLY = 1e-9  # scores are probabilities


@dataclass(frozen=True)
class ModelAnswer:
    """The answer of a model: score and threshold as hexadecimal floats, exact to the bit, and codes of reasons."""

    score: str
    threshold: str
    decision: str
    adverse: bool
    reasons: list[str]


@dataclass(frozen=True)
class Replay:
    """The outcome of a replay. Where something is missing there is no grade."""

    decision_id: str
    release: str
    digest: str
    scorer: str
    grade: Grade | None
    recorded: ModelAnswer | None = None
    recomputed: ModelAnswer | None = None
    differences: list[str] = field(default_factory=list)
    missing: list[dict[str, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Only the same bits are a pass."""
        return self.grade == "bit-identical"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self) | {"ok": self.ok}


def replay(decision: Mapping[str, Any], settings: Settings) -> Replay:
    """Recompute a decision.

    Args:
        decision: as `GET /v1/decisions/{id}` returns it to an account that may read personal data.
    """
    scorer = BASELINE if decision["role"] == BASELINE else "model"
    about = (str(decision["decision_id"]), str(decision["release"]), str(decision["digest"]), scorer)
    missing = _missing_of_the_person(decision["subject"])
    bundle = None
    try:
        bundle = load_recorded(str(decision["digest"]), settings)
    except TamperedError as error:
        missing.append({"what": error.field or "bundle", "why": error.message})
    except UnavailableError as error:
        missing.append({"what": "bundle", "why": error.message})
    if bundle is None or missing:
        return Replay(*about, grade=None, missing=missing)
    recorded, recomputed = recorded_in(decision), recompute(decision, bundle)
    then, now = asdict(recorded), asdict(recomputed)
    differences = [f"{name}: {then[name]} on record, {now[name]} now" for name in then if then[name] != now[name]]
    return Replay(*about, _grade(recorded, recomputed), recorded, recomputed, differences)


def load_recorded(digest: str, settings: Settings) -> Bundle:
    """The bundle of a digest, verified before any of it is parsed.

    Raises:
        UnavailableError: it is not here.
        TamperedError: the bytes are not those of the digest (`field` is digest), or the signature does not hold
            (signature).
    """
    folder = settings.artefacts / digest.removeprefix("sha256:")
    if not folder.is_dir():
        raise UnavailableError(f"bundle {digest[:19]}… is not among the artefacts; put it back from a backup")
    return load_verified(folder, digest, settings)


def recorded_in(decision: Mapping[str, Any]) -> ModelAnswer:
    """The answer on record."""
    return ModelAnswer(
        float(decision["score"]).hex(),
        float(decision["threshold"]).hex(),
        str(decision["decision"]),
        bool(decision["adverse"]),
        list(decision["subject"]["reasons"]),
    )


def recompute(decision: Mapping[str, Any], bundle: Bundle) -> ModelAnswer:
    """Score the recorded features again, with the model or baseline that answered then.

    Raises:
        TamperedError: the record has another number of features than the bundle.
    """
    by_baseline = decision["role"] == BASELINE
    scorer = bundle.baseline if by_baseline else bundle.model
    row = np.array([decision["subject"]["features"]], dtype=np.float64)
    if row.shape != (1, scorer.width):
        raise TamperedError(f"the record holds {row.shape[-1]} features; the bundle takes {scorer.width}")
    score = float(scorer.score(row)[0])
    threshold = float(bundle.baseline_threshold if by_baseline else bundle.threshold)
    adverse = score >= threshold
    wanted = bundle.spec.explain == "always" or (adverse and bundle.spec.explain == "adverse")
    requested = bool(decision["subject"]["reasons"])  # a caller may request the reasons of any decision
    reasons = _reasons(bundle, scorer, row) if wanted or requested else []
    answer = bundle.spec.adverse if adverse else bundle.spec.favourable
    return ModelAnswer(score.hex(), threshold.hex(), answer, adverse, reasons)


def _reasons(bundle: Bundle, scorer: Scorer, row: Any) -> list[str]:
    contributions = scorer.contributions(row)
    if not np.isfinite(contributions).all():
        return []
    return [reason["code"] for reason in adverse_reasons(bundle, contributions, scorer)]


def _missing_of_the_person(subject: Mapping[str, Any]) -> list[dict[str, str]]:
    match subject["standing"]:
        case "readable" | "plain":
            return []
        case "erased":
            erased = subject.get("erased") or {}
            record = f" (record {erased['record']})" if erased.get("record") else ""
            return [{"what": "key", "why": f"the person was erased{record}; the features can no longer be read"}]
        case "withheld":
            return [{"what": "role", "why": str(subject["why"])}]
    return [{"what": "key", "why": "the vault has no key of this person; put the vault back from a backup"}]


def _grade(recorded: ModelAnswer, recomputed: ModelAnswer) -> Grade:
    if recorded == recomputed:
        return "bit-identical"
    same = (recorded.decision, recorded.adverse) == (recomputed.decision, recomputed.adverse)
    pairs = ((recorded.score, recomputed.score), (recorded.threshold, recomputed.threshold))
    near = all(abs(float.fromhex(one) - float.fromhex(other)) <= _NEARLY for one, other in pairs)
    if same and near and recorded.reasons == recomputed.reasons:
        return "numerically equal"
    return "decision-equal" if same else "different"
