"""Operations on a running platform: the terminal, killed processes, a Ray job by hand, no remains after `down`."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

from console.terminal import processes
from console.terminal.replay import Replay
from lineage.private_folders import open_to_others
from lineage.verify import verify_ledger
from plimsoll import AsyncClient, Client, Unavailable
from tests.support.demo_platform import ROOT, Platform, settings_of
from training.holdout import holdout_rows

MODEL = "credit-default"


def _gateways(platform: Platform) -> list[psutil.Process]:
    ours = processes.of_platform(platform.settings)
    return [process for process in ours if "ServeReplica:gateway:Gateway" in " ".join(process.cmdline())]


def test_status_and_doctor_are_content(platform: Platform) -> None:
    assert platform.command("status").returncode == 0
    doctor = platform.command("doctor", "--json")
    wrong = [finding for finding in json.loads(doctor.stdout) if not finding["ok"]]
    assert (doctor.returncode, wrong) == (0, [])


def test_every_listener_is_on_loopback_but_the_one_that_ray_does_not_let_us_move(platform: Platform) -> None:
    exposed = set()
    for process in processes.of_platform(platform.settings):
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.ip.removeprefix("::ffff:") not in (
                "127.0.0.1",
                "::1",
            ):
                exposed.add(" ".join(process.cmdline())[:40])
    assert all("ServeReplica" in name for name in exposed), exposed


def test_nothing_that_the_platform_keeps_is_open_to_other_accounts(platform: Platform) -> None:
    settings = platform.settings
    kept = [settings.root, settings.witness_home.resolve()]
    everything = [path for folder in kept for path in (folder, *folder.rglob("*"))]
    assert [str(path) for path in everything if open_to_others(path)] == []
    assert not open_to_others(settings.ray_tmp), "Ray opens its own folder, which lies in this one"
    assert settings.ray_sessions.is_dir()


def test_audit_verify_passes_and_names_a_changed_record(platform: Platform, tmp_path: Path) -> None:
    verified = platform.command("audit", "verify", "--json")
    assert verified.returncode == 0, verified.stdout
    copy = tmp_path / "var"
    shutil.copytree(platform.settings.log_folder, copy / "ledger" / "log")
    segment = next((copy / "ledger" / "log").glob("*.jsonl"))
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[9] = lines[9].replace(b'"actor"', b'"Actor"', 1)
    segment.write_bytes(b"".join(lines))
    found = verify_ledger(settings_of(platform.environment | {"PLIMSOLL_HOME": str(copy)}))
    assert found.problems[0]["record"] in (10, 11)


@pytest.mark.parametrize(
    "victims",
    [("replica",), ("controller",), ("ledger",), ("replica", "controller")],  # the last: a new replica knows no routes
    ids="-".join,
)
def test_a_killed_process_costs_no_request(platform: Platform, victims: tuple[str, ...]) -> None:
    rows = holdout_rows(ROOT / "examples" / "credit_default")
    with platform.machine("client") as client:
        replay = Replay(client, MODEL, rows, rate=40.0)
        before = {process.pid for process in _gateways(platform)}
        with platform.person("auditor") as auditor:
            head = auditor.audit(order="newest", limit=1)[0]["seq"]
        replay.start()
        try:
            for victim in victims:
                _kill(platform, victim)
            for victim in victims:
                _until_whole(platform, before, victim, head)
            _until_answered(replay, replay.tally.sent + 40)
        finally:
            tally = replay.stop()
    assert tally.failed == 0, tally.failures
    champions = [name for name, state in platform.summary["releases"].items() if state == "champion"]
    assert set(tally.releases) <= set(champions)


@pytest.mark.parametrize(
    ("words", "gateways", "kept"),
    [(("redeploy",), 2, 0), (("scale", "3"), 3, 2), (("scale", "2"), 2, 2)],
    ids=["redeployed", "more", "fewer"],
)
def test_other_processes_cost_no_request(platform: Platform, words: tuple[str, ...], gateways: int, kept: int) -> None:
    rows = holdout_rows(ROOT / "examples" / "credit_default")
    before = {process.pid for process in _gateways(platform)}
    with platform.machine("client") as client:
        replay = Replay(client, MODEL, rows, rate=40.0)
        replay.start()
        try:
            changed = platform.command(*words, "--json")
            _until_answered(replay, replay.tally.sent + 40)
        finally:
            tally = replay.stop()
    assert changed.returncode == 0, changed.stderr
    assert json.loads(changed.stdout)["replicas"] == gateways
    assert tally.failed == 0, tally.failures
    after = {process.pid for process in _gateways(platform)}
    assert (len(after), len(after & before)) == (gateways, kept)


def _until_answered(replay: Replay, number: int) -> None:
    deadline = time.monotonic() + 60
    while replay.tally.sent < number:
        assert time.monotonic() < deadline, replay.tally
        time.sleep(0.05)


def test_frames_and_many_at_a_time_are_answered_as_one_by_one(platform: Platform) -> None:
    rows = holdout_rows(ROOT / "examples" / "credit_default")[:300]
    frame = pl.DataFrame([row["features"] | {"customer": row["key"]} for row in rows])
    with platform.machine("client") as client:
        one_by_one = [client.decide(MODEL, row["features"], key=row["key"]).score for row in rows[:40]]
        found = client.decide_frame(MODEL, frame, key="customer")
    assert found["score"].to_list()[:40] == one_by_one
    assert (found.height, found["decision_id"].n_unique()) == (300, 300)

    async def at_once() -> list[float]:
        token = platform.settings.token("client")
        async with AsyncClient(token, gateway=platform.settings.gateway_url) as client:
            asked = (client.decide(MODEL, row["features"], key=row["key"]) for row in rows[:40])
            return [decision.score for decision in await asyncio.gather(*asked)]

    assert asyncio.run(at_once()) == one_by_one


def _kill(platform: Platform, victim: str) -> None:
    if victim == "replica":
        _gateways(platform)[0].kill()
    elif victim == "ledger":
        processes.recorded(platform.settings)["ledger"].kill()
    else:
        ours = processes.of_platform(platform.settings)
        next(process for process in ours if "ray::Controller" in " ".join(process.cmdline())).kill()


_RETURNS = {"controller": "ControllerStarted", "ledger": "LedgerOpened"}


def _recorded(service: Client, head: int, kind: str) -> bool:
    try:
        return bool(service.audit(after=head, kind=kind, wait=1.0))
    except Unavailable:  # the ledger is the one that was killed
        return False


def _until_whole(platform: Platform, before: set[int], victim: str, head: int) -> None:
    """Wait for what proves recovery: a new replica that runs the route, a new epoch, a ledger that answers."""
    deadline = time.monotonic() + 90
    with platform.machine("controller") as service:
        while time.monotonic() < deadline:
            if victim == "replica":
                after = {process.pid for process in _gateways(platform)}
                if len(after) == len(before) and after != before:
                    return
            elif _recorded(service, head, _RETURNS[victim]):
                return
    raise AssertionError(f"{victim} did not come back")


def test_training_works_as_a_ray_job_by_hand(platform: Platform) -> None:
    exports = platform.command("env").stdout
    command = f"{exports}\nray job submit --working-dir . -- python -m training.pipeline examples/credit_default"
    path = f"{Path(sys.executable).parent}:{platform.environment['PATH']}"
    done = subprocess.run(
        ["sh", "-c", f"{command} --trials 1 --seed 4711"],
        cwd=ROOT,
        env=platform.environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    registered = re.search(r"^(credit-default@\d+) registered after", done.stdout, re.MULTILINE)
    assert registered, done.stdout[-3000:]
    with platform.person("auditor") as auditor:
        assert auditor.release(registered[1])["state"] == "registered"
        # Drift was told once and answered once, whoever was killed and came back meanwhile.
        assert len(auditor.audit(kind="RetrainRequested", actor="controller")) == 1
