"""Feast's own receiver shows the way from the data to the model to the decisions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lineage.openlineage.events import Translator
from lineage.openlineage.outbox import Outbox
from tests.support.lineage_receiver import SECONDS, all_of, drain
from tests.support.ports import free_port
from tests.support.sample_facts import MODEL, FactWriter, ManualClock

FEATURE_STORE = """\
project: credit
registry: registry.db
provider: local
entity_key_serialization_version: 3
openlineage:
  consumer:
    enabled: true
    connection_string: sqlite:///{path}
"""


@pytest.fixture(scope="module")
def feast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Feast's lineage server, a process of its own; its address."""
    repository, port = tmp_path_factory.mktemp("features"), free_port()
    (repository / "feature_store.yaml").write_text(FEATURE_STORE.format(path=repository / "lineage.db"))
    program = str(Path(sys.executable).with_name("feast"))
    command = [program, "-c", str(repository), "serve_lineage", "-h", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {"FEAST_USAGE": "False"}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=repository)
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line)
        if "Uvicorn running" in line:
            break
    else:
        pytest.fail("".join(said))
    reader = threading.Thread(target=server.stderr.read, daemon=True)  # or it would stop when the pipe is full
    reader.start()
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(SECONDS)
    reader.join(SECONDS)
    server.stderr.close()


def ask(feast: str, path: str) -> Any:
    reply = httpx.get(f"{feast}/api/v1/lineage/openlineage{path}", trust_env=False, timeout=SECONDS)
    reply.raise_for_status()
    return reply.json()


def edges(graph: dict[str, Any]) -> set[tuple[str, str]]:
    return {(edge["source_name"], edge["target_name"]) for edge in graph["edges"]}


@pytest.fixture
def shown(feast: str, writer: FactWriter, folder: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> str:
    """The journey of a release, from its data to its decisions, delivered to Feast."""
    place = {"uri": "file:///srv/datasets/credit-default", "version": 3, "digest": "sha256:data"}
    request = writer.record("RetrainRequested")["seq"]
    writer.record("JobStarted", request=request)
    writer.record("DatasetPinned", **place)
    clock.later(seconds=9)
    release = writer.train(request=request, dataset=place)
    writer.check(release)
    writer.record("CandidateValidated", release)
    writer.record("ReleaseRegistered", release, digest=writer.digest(release))
    writer.record("JobFinished", request=request, status="succeeded")
    writer.promote(writer.rollout(writer.approve(writer.to_review(writer.canary(release)))))
    for kind in ("DecisionsSealed", "DriftMeasured", "FairnessMeasured"):
        writer.record(kind)
    monkeypatch.setenv("OPENLINEAGE_URL", feast)
    outbox = Outbox.of_user(writer.ledger.records, folder)
    drain(outbox)
    assert outbox.state()["dead"] == 0
    assert outbox.state()["sent"] == len(all_of(writer.ledger))
    return feast


def test_feast_shows_the_way_from_the_data_to_the_model_to_the_decisions(shown: str) -> None:
    graph = ask(shown, "/graph")
    assert edges(graph) >= {
        ("/srv/datasets/credit-default", f"{MODEL}.train"),
        (f"{MODEL}.train", f"{MODEL}.model"),
        (f"{MODEL}.model", f"{MODEL}.validate"),
        (f"{MODEL}.model", f"{MODEL}.rollout"),
        (f"{MODEL}.rollout", f"{MODEL}.route"),
        (f"{MODEL}.route", f"{MODEL}.serve"),
        (f"{MODEL}.serve", f"{MODEL}.decisions"),
        (f"{MODEL}.decisions", f"{MODEL}.monitor"),
        (f"{MODEL}.retrain", f"{MODEL}.train"),
        ("/srv/datasets/credit-default", "uci"),
    }
    nodes = {node["name"]: node for node in graph["nodes"]}
    data = nodes["/srv/datasets/credit-default"]
    assert [field["name"] for field in data["schema"]["fields"]] == ["LIMIT_BAL", "default"]
    assert data["facets"]["version"]["datasetVersion"] == "3"
    assert nodes[f"{MODEL}.model"]["facets"]["datasetType"]["datasetType"] == "MODEL"


def test_feast_leads_from_a_model_back_to_its_data(shown: str) -> None:
    graph = ask(shown, f"/graph/dataset/plimsoll/{MODEL}.model?direction=upstream")
    assert ("/srv/datasets/credit-default", f"{MODEL}.train") in edges(graph)
    assert {node["namespace"] for node in graph["nodes"] if node["type"] == "dataset"} == {"file", "plimsoll"}


def test_feast_shows_the_runs_and_who_began_them(shown: str, writer: FactWriter) -> None:
    found = {run["job_name"]: run for run in ask(shown, "/runs?limit=500")["runs"]}
    translator = Translator(writer.ledger.records)
    retrain = translator.run_id(MODEL, "retrain", 1)
    assert {name.removeprefix(f"{MODEL}."): run["state"] for name, run in found.items()} == dict.fromkeys(
        ("retrain", "train", "validate", "rollout", "serve", "monitor"), "COMPLETE"
    )
    tree = ask(shown, f"/runs/{translator.run_id(MODEL, 'train', f'{MODEL}@1')}/tree")
    assert {run["run_id"] for run in tree["runs"]} >= {translator.run_id(MODEL, "validate", f"{MODEL}@1")}
    assert found[f"{MODEL}.train"]["parent_run_id"] == retrain


def test_feast_takes_an_event_twice_without_a_second_run(shown: str, writer: FactWriter, tmp_path: Path) -> None:
    before = {run["run_id"] for run in ask(shown, "/runs?limit=500")["runs"]}
    again = tmp_path / "again"
    again.mkdir()
    drain(Outbox.of_user(writer.ledger.records, again))
    assert {run["run_id"] for run in ask(shown, "/runs?limit=500")["runs"]} == before
