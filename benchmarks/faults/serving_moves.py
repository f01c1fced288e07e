"""Route changes during a load: every change is a lawful fact, recorded by an account that may.

A release is trained (its bytes are real and signed), registered, given some canary shares, approved by a second person,
rolled out at some more and promoted; some are aborted on the way, some rolled back afterwards. The real controller
publishes the routes, retires champions and proves rollbacks meanwhile.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.faults.serving_stage import Bank, Fact, until
from benchmarks.serving.model import WIDTH, xgb
from lineage.clock import now, stamp
from lineage.digest import digest_folder, digest_of
from lineage.settings import Settings
from lineage.signing import sign
from validators.policy import check_policy
from validators.scoring.bundle import GOLDEN_FILE, load_bundle
from validators.scoring.golden import answer

WHY = "the evidence is sound"
_RARELY = 10_000_000
_ROWS, _TREES = 400, 20
_ABORTS, _ROLLS_BACK = 0.03, 0.5  # chances: of a release at each step, and of a champion
_PATIENCE = 90.0


def steady(steps: int) -> dict[str, Any]:
    """Tables of a policy under which only the run changes shares: the judge never has enough evidence.

    Args:
        steps: of the canary, up to half of all customers, and again of the rollout.
    """
    shares = [round(0.5 * number / steps, 4) for number in range(1, steps + 1)]
    return {
        "canary": {
            "steps": shares,
            "minimum_subjects": _RARELY,
            "deadline_minutes": 60 * 24 * 90,
            "slow": {"milliseconds": 60_000, "absolute_limit": 1.0},
            "errors": {"absolute_limit": 1.0},
        },
        "rollout": {"steps": [round(0.5 + share, 4) for share in shares], "minimum_subjects": _RARELY},
    }


def new_bytes(settings: Settings, digest: str, seed: int) -> str:
    """Write and sign a copy of the bundle with another small model; return its digest."""
    draft = settings.artefacts / f"draft-{seed}"
    shutil.copytree(settings.artefacts / digest.removeprefix("sha256:"), draft)
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(_ROWS, WIDTH))
    outcomes = (inputs[:, 0] + draw.normal(size=_ROWS) > 1).astype(int)
    options = {"objective": "binary:logistic", "max_depth": 3, "seed": seed, "nthread": 1, "verbosity": 0}
    xgb.train(options, xgb.DMatrix(inputs, outcomes), _TREES).save_model(draft / "model.ubj")
    golden = [row["features"] for row in json.loads((draft / GOLDEN_FILE).read_bytes())]
    (draft / GOLDEN_FILE).write_text(json.dumps(answer(load_bundle(draft), golden)))
    made = digest_folder(draft)
    final = settings.artefacts / made.removeprefix("sha256:")
    draft.rename(final)
    sign(final, settings)
    return made


@dataclass
class Mover:
    """Iterator over route changes of one model; each item is the fact of one change.

    Attributes:
        spare: digests of bundles not yet released.
        steps: shares of the canary, and again of the rollout.
    """

    bank: Bank
    model: str
    spare: list[str]
    steps: int
    seed: int = 1

    def __iter__(self) -> Iterator[Fact]:
        rng = random.Random(f"{self.model} {self.seed}")
        while self.spare:
            release = self._registered(self.spare.pop())
            yield from self._life(release, rng)

    def _life(self, release: str, rng: random.Random) -> Iterator[Fact]:
        for step in self._steps(release):
            yield step
            if rng.random() < _ABORTS and step["kind"] != "ReleasePromoted":
                yield self.bank.operator.abort(release, "no longer wanted")
                return
        if rng.random() < _ROLLS_BACK:
            yield self.bank.operator.rollback(self.model, "it was better before")
            self._until_proven()

    def _steps(self, release: str) -> Iterator[Fact]:
        bank, view = self.bank, self.bank.service.release(release)
        first, *others = view["policy"]["rollout"]["steps"]
        yield bank.operator.canary(release, WHY)
        for share in view["policy"]["canary"]["steps"][1:]:
            yield self._state("CanaryStepped", release, share=share, judgement=_judgement(share))
        due = stamp(now())
        self._state("ReviewRequested", release, judgement=_judgement(first), due_at=due)
        bank.validator.review(release, "approve", WHY)
        yield bank.operator.promote(release, WHY)
        for share in others:
            yield self._state("RolloutStepped", release, share=share, judgement=_judgement(share))
        yield self._promoted(release, view["digest"])

    def _promoted(self, release: str, digest: str) -> Fact:
        replaced = self.bank.service.model(self.model)["champion"]
        golden = {"count": 1, "matched": 1, "digest": digest}
        data = {"digest": digest, "replaced": replaced, "golden": golden, "judgement": _judgement(1.0)}
        return self._state("ReleasePromoted", release, **data)

    def _registered(self, digest: str) -> str:
        """A release with these bytes, made as the champion was, under a policy of many small steps."""
        champion = self.bank.service.model(self.model)["champion"]
        known = self.bank.service.release(champion)["facts"]
        trained = next(fact for fact in known if fact["kind"] == "ModelTrained")["data"]
        checks = [fact["data"] for fact in known if fact["kind"] == "CheckCompleted"]
        policy = check_policy(trained["policy"] | steady(self.steps)).to_dict()
        terms = {"policy": policy, "policy_digest": digest_of(policy)}
        made = trained | terms | {"digest": digest, "fingerprint": digest}
        trainer = self.bank.trainer
        release = str(trainer.append("ModelTrained", model=self.model, data=made)["release"])
        for check in checks:
            passed = check | {"policy_digest": terms["policy_digest"]}
            trainer.append("CheckCompleted", release=release, data=passed)
        names = [check["check"] for check in checks]
        report = {"checks": names, "report_digest": digest_of("report")}
        trainer.append("CandidateValidated", release=release, data=report)
        registered = {"digest": digest, "mlflow_version": "1", "fingerprint": digest}
        trainer.append("ReleaseRegistered", release=release, data=registered)
        return release

    def _state(self, kind: str, release: str, **data: Any) -> Fact:
        return self.bank.service.append(kind, release=release, data=data)

    def _until_proven(self) -> None:
        """Wait until the controller has replayed the golden rows; only then may the next release follow."""
        until(lambda: self.bank.service.model(self.model)["rollback"] is None, _PATIENCE)


def take_turns(movers: list[Mover]) -> Iterator[Fact]:
    """Changes of all models in turn, until no bundle is left."""
    lives = [iter(mover) for mover in movers]
    while lives:
        for life in list(lives):
            try:
                yield next(life)
            except StopIteration:
                lives.remove(life)


def spares(settings: Settings, digest: str, count: int, first: int) -> list[str]:
    """Write `count` new bundles; return their digests."""
    return [new_bytes(settings, digest, first + number) for number in range(count)]


def _judgement(share: float) -> Fact:
    return {"verdict": "ADVANCE", "reasons": ["as the run wants"], "share": share, "at": stamp(now()), "seconds": 1.0}
