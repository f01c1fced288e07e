"""Write what this version leaves behind: a home, a backup of it, and what was true of both.

    python -m tests.earlier.record 0.1.0

Run it once before a release. Later versions have to open, verify, replay and roll back what it wrote
(`test_earlier_versions.py`); a file of a version that was released is never written again.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from lineage.backup.create import create
from lineage.settings import Settings
from plimsoll import Refused
from serve.controller.live_fairness import disparities
from serve.intent import Intention
from serve.monitor import drift_intentions, fairness_intentions, window_frame
from tests.support.bank import FIRST, MODEL, SECOND, THIRD, Bank, folder_of_a_model, open_bank
from tests.support.earlier_versions import PLACE
from tests.support.model_folder import customers
from training.tracking import Tracker
from validators.drift.measure import measure_drift
from validators.replay import replay

#: Made from the log, or of one machine, and large.
LEFT_OUT = ("mlflow", "feast", "lineage.duckdb*", "lock", "*.lock")


def seal(bank: Bank) -> None:
    bank.decision_log.take()
    for segment in bank.decision_log.next_segments():
        bank.state(Intention("DecisionsSealed", segment.model, segment.data, about_release=False), key=segment.name)
    bank.decision_log.sealed(lambda process: True)


def measure(bank: Bank, champion: str) -> None:
    """Drift and fairness of the champion, as the controller measures them."""
    release = bank.release(champion)
    policy = release.terms
    latest = bank.decision_log.latest(release, policy.monitor.drift.window).records
    folder = bank.settings.artefacts / release.digest.removeprefix("sha256:")
    window = window_frame(release.features, latest)
    measured = measure_drift(pl.read_parquet(folder / "reference.parquet"), window, policy, champion)
    for intention in drift_intentions(bank.model, release, [], measured):
        bank.state(intention)
    grouping = release.terms.validation.limits["group_fairness"]
    for found in disparities(bank.settings, MODEL, latest, release.terms.monitor.fairness, grouping):
        for intention in fairness_intentions(bank.model, found.to_dict(champion, "live")):
            bank.state(intention)


def release_two(bank: Bank, tracker: Tracker) -> None:
    """Three releases are registered; the first two become champion, one after the other."""
    asked = bank.person("scientist").retrain(MODEL, str(bank.folder), "the first release")["seq"]
    for seed, request in ((3, asked), (4, None), (5, None)):
        candidate = bank.train(tracker, seed, request=request)
        assert bank.validate(candidate).passed
        bank.register(candidate, tracker)
    for release in (FIRST, SECOND):
        bank.bring_to_review(release)
        bank.approve(release)
        bank.bring_to_championship(release)


def live_a_little(bank: Bank) -> None:
    """Sealed decisions, drift, fairness, a refusal, the kill switch, the shadow, a hold and an open alert."""
    town = customers(4000)
    bank.serve_customers(320, town)
    seal(bank)
    measure(bank, SECOND)
    poorer = town.tail(300).with_columns(income=pl.col("income") * 0.3, debt=500 + pl.col("debt") * 0.5)
    bank.serve_customers(300, poorer)
    seal(bank)
    measure(bank, SECOND)
    for attempt in (lambda: bank.person("scientist").canary(THIRD, "mine is good"),):
        try:
            attempt()
        except Refused as refused:
            assert refused.code == "role"  # noqa: PT017  the refusal goes on record, that is what it is here for
    bank.operator.kill(MODEL, "scores look wrong")
    bank.operator.ask_kill_release(MODEL, "it was the branch, not the model")
    bank.person("validator").release_kill(MODEL, "I looked too")
    bank.operator.start_shadow(THIRD, "watch it first")
    bank.operator.stop_shadow(THIRD, "seen enough")
    bank.auditor.hold("7", "a complaint is open")
    bank.serve_customers(60)
    seal(bank)


def truths(bank: Bank) -> dict[str, Any]:
    """What has to be said of this home for ever."""
    verified = bank.auditor.verify()
    assert verified["ok"], verified
    sealed = [pl.read_parquet(path) for path in sorted(bank.settings.decisions.rglob("*.parquet"))]
    ids = [str(one) for frame in sealed for one in frame["decision_id"].drop_nulls().head(12)]
    replays = {}
    for name in ids:
        found = replay(bank.operator.decision(name, "to replay it"), bank.settings)
        assert found.ok, found
        replays[name] = found.to_dict()["recorded"]
    model = bank.model
    asof = bank.auditor.asof(MODEL, seq=verified["records"])
    return {
        "records": verified["records"],
        "root": verified["root"],
        "segments": verified["segments"],
        "bundles": verified["bundles"],
        "states": {release["release"]: release["state"] for release in bank.auditor.releases(MODEL)},
        "model": {"champion": model.champion, "previous": model.previous, "challenger": model.challenger},
        "alerts": [alert.name for alert in model.alerts],
        "kinds": sorted({record["kind"] for record in bank.auditor.audit(limit=1000)}),
        "decisions": replays,
        "asof": {name: asof[name] for name in sorted(asof) if name not in ("at", "now")},
        "hour": bank.clock().isoformat(),
        "passwords": bank.passwords,
    }


def main(version: str) -> None:
    """Write `VERSION.tar.xz`, once."""
    target = PLACE / f"{version}.tar.xz"
    if target.exists():
        sys.exit(f"{target.name} is there already; what a version left behind is never written again")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        settings = Settings(home=place / "home")
        with open_bank(place / "home", folder=folder_of_a_model(place / "model")) as bank:
            with Tracker(bank.settings) as tracker:
                release_two(bank, tracker)
            live_a_little(bank)
            told = truths(bank)
        for name in ("mlflow", "feast"):
            shutil.rmtree(settings.root / name, ignore_errors=True)
        create(settings, place / "backup")
        (place / "truths.json").write_text(json.dumps(told, indent=1))
        with tarfile.open(target, "w:xz") as archive:
            ignored = shutil.ignore_patterns(*LEFT_OUT)

            def kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
                name = Path(info.name).name
                return None if ignored("", [name]) else info

            for name in ("home", "backup", "model", "truths.json"):
                archive.add(place / name, name, filter=kept)
    sys.stdout.write(f"{target.name}: {target.stat().st_size:,} bytes, {told['records']} records\n")


if __name__ == "__main__":
    main(sys.argv[1])
