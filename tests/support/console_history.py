"""A realistic history on a real ledger: champion, canary in review, quarantined release, drift alert, failed job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from starlette.testclient import TestClient

from lineage.accounts.credentials import Credentials
from lineage.digest import digest_file, digest_folder
from lineage.rules.draft import Draft
from lineage.rules.roles import MACHINES_MAY
from lineage.service.app import create_app
from lineage.settings import Settings
from lineage.signing import sign
from plimsoll.ledger import Ledger
from tests.support.accounts import in_era
from tests.support.console_values import CHECKS, FEATURES, POLICY, TickingClock, digest, judged
from tests.support.sample_facts import OPERATOR

Json = dict[str, Any]
CREDIT, FRAUD, SIGNAL = "credit-default", "card-fraud", "fx-signal"


@contextmanager
def history_writer(settings: Settings, passwords: dict[str, str], hours: float = 3.2) -> Iterator[HistoryWriter]:
    """A writer on the home of `settings`; the ledger is closed afterwards, so that a service can open it."""
    clock = TickingClock(datetime.now(UTC) - timedelta(hours=hours))
    with TestClient(create_app(settings, clock=clock)) as client:
        ledger = Ledger("http://testserver", settings.token("controller"), transport=client._transport)
        trainer = Ledger("http://testserver", settings.token("trainer"), transport=client._transport)
        at = HistoryWriter(ledger, trainer, clock, settings, client)
        at.passwords = passwords
        yield at


class HistoryWriter:
    """Records the verbs as facts, by the controller or by people where the rules require one."""

    def __init__(
        self, ledger: Ledger, trainer: Ledger, clock: TickingClock, settings: Settings, client: TestClient
    ) -> None:
        self.ledger, self.trainer = ledger, trainer
        self.clock = clock
        self.settings = settings
        self.client = client
        self.passwords: dict[str, str] = {}
        self.bundles: dict[tuple[str, int], str] = {}

    def record(self, kind: str, model: str, about: str | None = None, /, **data: Any) -> Json:
        if "from_" in data:
            data["from"] = data.pop("from_")
        if kind == "CanaryStarted" or (kind == "RolloutStepped" and data["share"] < 1):
            return self._by_operator(kind, model, about, data)
        machine = self.ledger if "controller" in MACHINES_MAY[kind] else self.trainer
        return machine.append(kind, model=model, release=about, data=data)

    def _by_operator(self, kind: str, model: str, about: str | None, data: Json) -> Json:
        """A step that only a person takes, with the values of this history in place of those of the policy."""
        ledger = self.client.app.state.context.ledger  # type: ignore[attr-defined]
        draft = Draft(kind, in_era(ledger.state, kind, OPERATOR), data, model, about, "evidence looks sound")
        record: Json = ledger.append(draft)
        return record

    def train(
        self, model: str, author: str, seed: int, *, failed: str | None = None, request: int | None = None
    ) -> str:
        data = {"uri": f"datasets/{model}", "version": seed, "digest": digest(model, "data", seed)}
        self.record("DatasetPinned", model, dataset=model, rows=30_000, columns=[*FEATURES, "default"], **data)
        record = self.record(
            "ModelTrained",
            model,
            author=author,
            request=request,
            run_id=digest(model, seed)[7:39],
            family="boosted_trees",
            params={"max_depth": 5, "eta": 0.08},
            metrics={"auc": 0.781, "brier": 0.136},
            dataset=data,
            digest=self.bundle(model, seed),
            signature_key=digest("key"),
            code_digest=digest("code", seed),
            environment_digest=digest("env"),
            seed=seed,
            policy=POLICY,
            policy_digest=digest(POLICY),
            features=FEATURES,
            threshold=0.31,
            seconds=41.2,
            fingerprint=digest(model, "fingerprint", seed),
        )
        release = str(record["release"])
        for name, title in CHECKS.items():
            self.clock.later(seconds=4)
            self.check(model, release, name, title, ok=name != failed)
        if failed:
            self.record("CandidateRejected", model, release, failed=[failed], report_digest=digest("report", release))
            return release
        self.record("CandidateValidated", model, release, checks=list(CHECKS), report_digest=digest("report", release))
        self.record(
            "ReleaseRegistered",
            model,
            release,
            digest=self.bundles[model, seed],
            mlflow_version=str(seed),
            fingerprint=digest(model, "fingerprint", seed),
        )
        return release

    def check(self, model: str, release: str, name: str, title: str, *, ok: bool) -> None:
        finding = {
            "name": "ratio of favourable rates, SEX" if "fair" in name else "difference of AUC to champion",
            "observed": 0.74 if not ok else 0.91,
            "limit": 0.8,
            "relation": ">=",
            "interval": [0.69, 0.79] if not ok else [0.88, 0.94],
            "n": 9_000,
            "ok": ok,
            "detail": "4,412 and 4,588 applicants",
        }
        self.record(
            "CheckCompleted",
            model,
            release,
            check=name,
            code="PLM-" + name[:4].upper(),
            title=title,
            status="pass" if ok else "fail",
            findings=[finding],
            policy_digest=digest(POLICY),
            seconds=1.2,
        )

    def canary(self, model: str, release: str, control: str) -> None:
        self.record("CanaryStarted", model, release, share=0.25, salt=digest(release)[7:23], control=control)

    def review(self, model: str, release: str, *, due_hours: float = 24.0) -> None:
        self.clock.later(minutes=9)
        due = self.clock.stamp(hours=-due_hours)
        self.record("ReviewRequested", model, release, judgement=judged("ADVANCE", 0.25, self.clock), due_at=due)

    def approve(self, release: str, reason: str = "Evidence read, all metrics inside their limits") -> None:
        """Approve with a validator's own session: no service may record this step."""
        self.decide("validator", release, "approve", reason)

    def decide(self, name: str, release: str, decision: str, reason: str) -> Json:
        sent = {"name": name, "password": self.passwords[name]}
        token = self.client.post("/v1/session", json=sent).json()["token"]
        bearer = {"Authorization": f"Bearer {token}"}
        etag = self.client.get(f"/v1/releases/{release}", headers=bearer).headers["etag"]
        headers = bearer | {"If-Match": etag, "Idempotency-Key": digest(release, decision)[7:40]}
        body = {"decision": decision, "reason": reason}
        answer: Json = self.client.post(f"/v1/releases/{release}/review", json=body, headers=headers).json()
        return answer

    def bundle(self, model: str, seed: int) -> str:
        """A signed folder with one file: enough for the ledger to verify it."""
        folder = self.settings.artefacts / f"{model}-{seed}"
        folder.mkdir(parents=True)
        said = {"model": model, "seed": seed, "family": "boosted_trees", "threshold": 0.31}
        said |= {"policy_digest": digest(POLICY), "features": [{"name": name} for name in FEATURES]}
        (folder / "release.json").write_text(json.dumps(said))
        found = digest_folder(folder)
        folder = folder.rename(folder.with_name(found.removeprefix("sha256:")))
        sign(folder, self.settings)
        self.bundles[model, seed] = found
        return found

    def promote(self, model: str, release: str, seed: int, replaced: str | None) -> None:
        for share in (0.5, 1.0):
            self.clock.later(minutes=6)
            self.record("RolloutStepped", model, release, share=share, judgement=judged("ADVANCE", share, self.clock))
        golden = {"count": 32, "matched": 32, "digest": digest("golden", release)}
        self.record(
            "ReleasePromoted", model, release, digest=self.bundles[model, seed], replaced=replaced, golden=golden
        )
        if replaced:
            self.record("ChampionRetired", model, replaced, replaced_by=release)

    def seal(self, model: str, releases: dict[str, int], seconds: float = 60.0) -> None:
        start = self.clock.stamp()
        self.clock.later(seconds=seconds)
        name = start.replace(":", "").replace("+", "")
        uri = f"decisions/{model}/{name}.parquet"
        path = self.settings.root / uri
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = {name: [repr(releases)] for name in ("type", "decision_id", "at", "model")}
        pl.DataFrame(rows).write_parquet(path)
        self.record(
            "DecisionsSealed",
            model,
            segment=name,
            uri=uri,
            digest=digest_file(path),
            rows=sum(releases.values()),
            outcomes=sum(releases.values()) // 3,
            from_=start,
            to=self.clock.stamp(),
            releases=releases,
        )

    def drift(self, model: str, release: str, level: float) -> Json:
        weights = (1.9, 0.2, 0.35, 1.3, 0.9, 0.5, 0.15, 0.6)
        features = [
            {
                "feature": name,
                "score": round(level * weight * 0.1, 4),
                "method": "PSI",
                "limit": 0.1,
                "drifted": level * weight * 0.1 > 0.1,
            }
            for name, weight in zip(FEATURES, weights, strict=True)
        ]
        share = sum(one["drifted"] for one in features) / len(features)
        return self.record(
            "DriftMeasured",
            model,
            release=release,
            window={"rows": 600, "from": self.clock.stamp(minutes=5), "to": self.clock.stamp()},
            features=features,
            share_drifted=share,
            limit=0.3,
            verdict="drift" if share > 0.3 else "ok",
            report_digest=digest("drift", level),
        )

    def fairness(self, model: str, release: str, stage: str, rates: dict[str, tuple[int, float | None]]) -> None:
        known = [rate for _, rate in rates.values() if rate is not None]
        ratio = min(known) / max(known) if len(known) > 1 else None
        groups = [
            {
                "group": name,
                "n": n,
                "favourable_rate": rate,
                "interval": [rate - 0.03, rate + 0.03] if rate is not None else None,
            }
            for name, (n, rate) in rates.items()
        ]
        self.record(
            "FairnessMeasured",
            model,
            release=release,
            stage=stage,
            attribute="SEX" if len(groups) < 3 else "EDUCATION",
            groups=groups,
            ratio=ratio,
            ratio_interval=[ratio - 0.04, ratio + 0.04] if ratio else None,
            limit=0.8,
            verdict="not_enough_data" if ratio is None else "ok" if ratio >= 0.8 else "breach",
        )


def open_accounts(settings: Settings) -> dict[str, str]:
    """Passwords of the four people of a new home."""
    return Credentials(settings).first_start()


def write_history(at: HistoryWriter) -> None:
    """Record the whole history, over about seven hours."""
    first = at.train(CREDIT, "scientist", 1)
    at.canary(CREDIT, first, "baseline")
    at.review(CREDIT, first)
    at.approve(first)
    at.promote(CREDIT, first, 1, None)
    second, third = at.train(CREDIT, "scientist", 2), at.train(CREDIT, "validator", 3)
    at.train(CREDIT, "scientist", 4, failed="group_fairness")
    for step in range(40):
        at.seal(CREDIT, {first: 480 + 30 * (step % 5)}, seconds=180)
        if step % 4 == 0:
            at.drift(CREDIT, first, 0.55 + step / 30)
    at.canary(CREDIT, third, first)
    at.seal(CREDIT, {first: 410, third: 130})
    judgement = judged("ABORT", 0.25, at.clock, wrong=0.062)
    at.record("CanaryAborted", CREDIT, third, why="wrong decisions 6.2% (limit 4.0%)", judgement=judgement)
    fraud = at.train(FRAUD, "scientist", 1)
    at.canary(FRAUD, fraud, "baseline")
    at.record("CanaryHeld", FRAUD, fraud, why="96 of 150 subjects seen", judgement=judged("HOLD", 0.25, at.clock))
    at.canary(CREDIT, second, first)
    for step in range(20):
        at.seal(CREDIT, {first: 380 + 10 * (step % 4), second: 118 + 6 * (step % 3)}, seconds=90)
    last = at.drift(CREDIT, first, 1.7)
    at.record(
        "AlertRaised",
        CREDIT,
        alert="drift",
        severity="ticket",
        summary="50 % of features drifted (limit 30 %)",
        evidence=last["seq"],
    )
    at.fairness(CREDIT, first, "validation", {"female": (4_588, 0.81), "male": (4_412, 0.77)})
    at.fairness(CREDIT, first, "live", {"female": (1_021, 0.80), "male": (988, 0.74)})
    at.fairness(CREDIT, first, "live", {"graduate": (702, 0.83), "university": (911, 0.62), "other": (31, None)})
    asked = at.record(
        "RetrainRequested",
        CREDIT,
        folder="examples/credit_default",
        why="drift",
        author="scientist",
        evidence=last["seq"],
        options={},
    )
    at.record("JobStarted", CREDIT, request=asked["seq"], job_id="raysubmit_1")
    at.record(
        "JobFinished",
        CREDIT,
        request=asked["seq"],
        job_id="raysubmit_1",
        status="failed",
        message="data set has no rows after 2026-11-01",
    )
    own = at.train(SIGNAL, "validator", 1)
    at.canary(SIGNAL, own, "baseline")
    at.review(SIGNAL, own, due_hours=5.0)
    at.review(CREDIT, second)
