"""Processes of a platform are found after a crash and ended; those of others are not touched."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from console.terminal import processes
from lineage.settings import Settings

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(300)"]
#: Starts a child that outlives it.
PARENT = """
import subprocess
child = subprocess.Popen(["sleep", "300"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
"""


@pytest.fixture
def settings(settings: Settings) -> Iterator[Settings]:
    settings.root.mkdir(parents=True)
    yield settings
    processes.end(processes.of_platform(settings), grace=2.0)


def foreign(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "300"], env=environment)


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_what_was_started_is_remembered_found_and_ended(settings: Settings) -> None:
    process = processes.start("sleeper", SLEEP, settings, {"EXTRA": "1"})
    assert processes.recorded(settings) == {"sleeper": process}
    assert process in processes.of_platform(settings)
    assert process.environ()[processes.MARK] == str(settings.root)
    assert process.environ()["EXTRA"] == "1"
    assert os.getsid(process.pid) == process.pid, "closing the terminal does not end it"
    processes.end([process])
    assert gone(process)
    assert processes.recorded(settings) == {}
    processes.remove_records(settings)
    assert list(settings.run.iterdir()) == []


def test_an_orphan_is_found_by_its_mark(settings: Settings) -> None:
    environment = processes.marked(settings, {})
    parent = subprocess.run([sys.executable, "-c", PARENT], env=environment, capture_output=True, check=True)
    orphan = psutil.Process(int(parent.stdout))
    assert orphan in processes.of_platform(settings)
    assert processes.wait_until_gone(settings) == []
    assert gone(orphan)


def test_processes_of_others_are_left_alone(settings: Settings, tmp_path: Path) -> None:
    other = Settings(home=tmp_path / "other")
    strangers = [foreign(dict(os.environ)), foreign(processes.marked(other, {}))]
    mine = processes.start("mine", SLEEP, settings, {})
    try:
        found = {process.pid for process in processes.of_platform(settings)}
        assert mine.pid in found
        assert not found & {stranger.pid for stranger in strangers}
        assert os.getpid() not in found
        processes.wait_until_gone(settings)
        assert gone(mine)
        assert [stranger.poll() for stranger in strangers] == [None, None]
    finally:
        for stranger in strangers:
            stranger.kill()
            stranger.wait()


def test_a_process_id_that_was_given_to_somebody_else_is_not_ours(settings: Settings) -> None:
    stranger = foreign(dict(os.environ))
    settings.run.mkdir(parents=True)
    entry = {"pid": stranger.pid, "started": 1.0, "name": "ledger"}
    (settings.run / "ledger.process").write_bytes(orjson.dumps(entry))
    try:
        assert processes.recorded(settings) == {}
        assert stranger.pid not in {process.pid for process in processes.of_platform(settings)}
    finally:
        stranger.kill()
        stranger.wait()


def test_a_later_session_of_the_same_number_is_not_ours(settings: Settings) -> None:
    stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
    settings.run.mkdir(parents=True)
    entry = {"pid": stranger.pid, "started": psutil.Process(stranger.pid).create_time() - 3_600.0, "name": "ray"}
    (settings.run / "ray.process").write_bytes(orjson.dumps(entry))
    try:
        assert stranger.pid not in {process.pid for process in processes.of_platform(settings)}
    finally:
        stranger.kill()
        stranger.wait()


def test_another_platform_that_a_process_of_ours_started_is_not_ours(settings: Settings, tmp_path: Path) -> None:
    environment = processes.marked(Settings(home=tmp_path / "other"), {})
    code = f"import subprocess; subprocess.Popen(['sleep', '300'], env={environment!r}).wait()"
    mine = processes.start("mine", [sys.executable, "-c", code], settings, {})
    while not (children := mine.children()):
        assert mine.is_running()
    child = children[0]
    while child.is_running() and child.name() != "sleep":
        pass
    try:
        assert processes.of_platform(settings) == [mine]
    finally:
        child.kill()


def test_a_ray_that_the_shell_names_is_not_passed_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    assert not {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"} & set(processes.marked(settings, {}))
    assert processes.marked(settings, {"RAY_ADDRESS": "127.0.0.1:2"})["RAY_ADDRESS"] == "127.0.0.1:2"


def test_a_stubborn_process_is_ended_after_its_grace(settings: Settings) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
    )
    process = processes.start("deaf", [sys.executable, "-c", code], settings, {})
    while "deaf" not in processes.tail(settings, "deaf"):
        assert process.is_running()
    processes.end([process], grace=0.1)
    assert gone(process)


def test_output_goes_to_a_log_and_its_end_is_told(settings: Settings) -> None:
    assert processes.tail(settings, "nobody") == ""
    process = processes.start("talker", [sys.executable, "-c", "[print(n) for n in range(50)]"], settings, {})
    process.wait(20)
    assert processes.tail(settings, "talker", 3) == "47\n48\n49"


def test_whether_a_port_is_taken() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert not processes.listening("127.0.0.1", port)
        assert processes.holder("127.0.0.1", port) is None
        server.listen()
        assert processes.listening("127.0.0.1", port)
        assert processes.holder("127.0.0.1", port) == psutil.Process()
        assert not processes.is_free("127.0.0.1", port)
    assert processes.is_free("127.0.0.1", port)


def test_telemetry_of_libraries_is_off(settings: Settings) -> None:
    environment = processes.marked(settings, {})
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["DO_NOT_TRACK"] == "true"
