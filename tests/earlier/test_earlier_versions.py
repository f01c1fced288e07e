"""Homes and backups of earlier versions open, verify, replay and roll back."""

from __future__ import annotations

import asyncio
import base64
import json
import tarfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lineage.backup.restore import restore
from lineage.examiner import verify as examiner
from lineage.log.merkle import Tree, leaf_hash
from lineage.settings import Settings
from lineage.verify import verify_ledger
from serve import rollback
from serve.controller.effects import golden_here
from serve.controller.environments import Environments
from serve.controller.reconciler import Reconciler
from tests.support.bank import FIRST, MODEL, SECOND, Bank, Stage, open_bank
from tests.support.earlier_versions import PLACE, VERSIONS
from validators.environment import environment_digest
from validators.replay import replay

Json = dict[str, Any]


@pytest.fixture(scope="module", params=VERSIONS)
def left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with `home`, `backup`, `model` and `truths.json` as that version wrote them."""
    place = tmp_path_factory.mktemp("left")
    with tarfile.open(PLACE / f"{request.param}.tar.xz") as archive:
        archive.extractall(place, filter="data")
    return place


@pytest.fixture(scope="module")
def truths(left: Path) -> Json:
    told: Json = json.loads((left / "truths.json").read_text())
    return told


@pytest.fixture
def bank(left: Path, truths: Json, tmp_path: Path) -> Iterator[Bank]:
    """The platform of today on a copy of the home of then."""
    hour = datetime.fromisoformat(truths["hour"])
    stage = Stage(left / "home", hour, truths["passwords"], left / "model", crowds=100)
    with open_bank(tmp_path / "home", stage) as bank:
        yield bank


def test_there_is_one_of_every_version() -> None:
    assert {"0.1.0", "0.2.0"} <= set(VERSIONS)


def test_the_home_as_it_lies_verifies(left: Path, truths: Json) -> None:
    found = verify_ledger(Settings(home=left / "home"))
    assert (found.problems, found.records) == ([], truths["records"])
    assert (found.root, found.segments, found.bundles) == (truths["root"], truths["segments"], truths["bundles"])


def test_an_examiner_needs_nothing_of_ours(left: Path, truths: Json) -> None:
    facts: Json = {}
    examiner.verify_log(facts, None, None, left / "home" / "ledger" / "log")
    root = base64.b64decode(facts["checkpoint"]["root"]).hex()
    assert (facts["records"], root) == (truths["records"], truths["root"])


def test_the_backup_is_restored_and_verifies(left: Path, truths: Json, tmp_path: Path) -> None:
    restored = restore(left / "backup", Settings(home=tmp_path / "home"))
    assert (restored.records, restored.lost) == (truths["records"], [])
    assert verify_ledger(Settings(home=tmp_path / "home")).ok


def test_it_opens_and_says_what_it_said(bank: Bank, truths: Json) -> None:
    assert {one["release"]: one["state"] for one in bank.auditor.releases(MODEL)} == truths["states"]
    model = dict(truths["model"])
    alerts = model.pop("alerts", None) or truths["alerts"]  # 0.1.0 listed them with the rest of the model
    assert {name: getattr(bank.model, name) for name in model} == model
    assert [alert.name for alert in bank.model.alerts] == alerts
    asof = bank.auditor.asof(MODEL, seq=truths["records"])
    assert {name: asof[name] for name in truths["asof"]} == truths["asof"]
    after = bank.auditor.verify()
    assert (after["ok"], after["records"] > truths["records"]) == (True, True)


def test_what_was_appended_since_leaves_every_earlier_line_as_it_was(bank: Bank, truths: Json) -> None:
    tree = Tree()
    lines = (bank.settings.log_folder / "000000000001.jsonl").read_bytes().splitlines()
    assert len(lines) > truths["records"]
    for line in lines[: truths["records"]]:
        tree.append(leaf_hash(line))
    assert tree.root().hex() == truths["root"]


def test_every_decision_replays_bit_for_bit(bank: Bank, truths: Json) -> None:
    assert len(truths["decisions"]) > 10
    for name, recorded in truths["decisions"].items():
        found = replay(bank.operator.decision(name, "to replay it"), bank.settings)
        assert (found.grade, found.to_dict()["recomputed"]) == ("bit-identical", recorded)


def test_its_champion_rolls_back_to_the_one_before(bank: Bank) -> None:
    bank.operator.rollback(MODEL, "complaints from branch 12")
    assert bank.model.champion == FIRST
    table = bank.routes()
    assert {answer.release for answer in bank.serve_customers(40)} == {FIRST}
    assert bank.registry.has_acked(table.order)
    done = rollback.rolled_back(bank.model, bank.view.releases, bank.clock(), 2)
    assert done is not None
    bank.state(done)
    golden = golden_here(bank.settings, bank.release(FIRST).digest)
    assert golden["matched"] == golden["count"] > 0
    data = {"golden": golden, "milliseconds": 1.0}
    bank.controller.append("ChampionReinstated", data=data, release=FIRST)
    assert {name: bank.release(name).state for name in (FIRST, SECOND)} == {
        FIRST: "champion",
        SECOND: "rolled_back",
    }
    assert bank.auditor.verify()["ok"]


def test_its_releases_can_go_on(bank: Bank) -> None:
    bank.start_canary("small-credit@3")
    bank.serve_customers(50)
    assert bank.tick() is not None
    bank.operator.abort("small-credit@3", "seen enough")
    assert bank.release("small-credit@3").state == "quarantined"


async def prove_here(bank: Bank) -> None:
    """What the controller does in its ticks, until nothing is under way."""
    reconciler = Reconciler(bank.settings, bank.controller, SimpleNamespace(), bank.decision_log, bank.jobs)  # type: ignore[arg-type]
    environments = Environments(reconciler)
    for _ in range(3):
        reconciler.view = bank.view
        environments.tick()
        await asyncio.gather(*reconciler._busy.values())


def test_its_releases_are_proven_in_this_environment_and_that_is_on_record(bank: Bank) -> None:
    asyncio.run(prove_here(bank))
    facts = bank.auditor.audit(kind="EnvironmentReproduced")
    assert {fact["data"]["release"] for fact in facts} == {FIRST, SECOND}
    assert len(facts) == 2, "each once"
    for fact in facts:
        data = fact["data"]
        assert data["golden"]["matched"] == data["golden"]["count"] > 0
        assert data["environment"] == environment_digest() != data["trained_in"]
    assert bank.model.reproduced == {name: (environment_digest(),) for name in (FIRST, SECOND)}
    assert bank.auditor.verify()["ok"]


def test_a_release_that_does_not_answer_as_it_did_raises_an_alert(bank: Bank) -> None:
    folder = bank.settings.artefacts / bank.release(SECOND).digest.removeprefix("sha256:")
    folder.chmod(0o755)
    (folder / "model.ubj").chmod(0o644)
    (folder / "model.ubj").write_bytes(b"{}")
    asyncio.run(prove_here(bank))
    alerts = [alert for alert in bank.model.alerts if alert.alert == "environment_not_reproduced"]
    assert [(alert.about, alert.severity) for alert in alerts] == [(SECOND, "page")]
    assert {fact["data"]["release"] for fact in bank.auditor.audit(kind="EnvironmentReproduced")} == {FIRST}
