"""A second platform on the same host: it starts, answers and stops without touching the first."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from console.terminal import processes
from console.terminal.preflight import ports_in_use
from console.terminal.replay import Replay
from tests.support.demo_platform import ROOT, Platform, settings_of
from training.holdout import holdout_rows


@pytest.fixture
def second(platform: Platform) -> Iterator[Platform]:
    """A home of its own with the ports of the first platform; with a long TMPDIR, as some hosts have."""
    folder = Path(tempfile.mkdtemp(prefix="pb-"))
    long = folder / ("t" * 100)
    long.mkdir()
    environment = platform.environment | {
        "PLIMSOLL_HOME": str(folder / "var"),
        "PLIMSOLL_GATEWAY_REPLICAS": "1",
        "TMPDIR": str(long),
    }
    second = replace(platform, environment=environment, settings=settings_of(environment))
    try:
        yield second
    finally:
        moved(second).command("down")
        shutil.rmtree(folder, ignore_errors=True)


def moved(platform: Platform) -> Platform:
    """The same home with default ports, all of them moved by one setting to where they are free."""
    own = {name: value for name, value in platform.environment.items() if not name.endswith("_PORT")}
    for offset in range(5_000, 9_000, 100):
        environment = own | {"PLIMSOLL_PORT_OFFSET": str(offset)}
        settings = settings_of(environment)
        if not ports_in_use(settings) or processes.of_platform(settings):
            return replace(platform, environment=environment, settings=settings)
    raise AssertionError("no offset with free ports")


def gcs_of_a_job(platform: Platform) -> str:
    """The Ray that a job runs on: Ray resolves `auto` for it, looking at every raylet of the host."""
    program = "import ray; ray.init(); print('gcs', ray.get_runtime_context().gcs_address)"
    submit = f"{platform.command('env').stdout}\nray job submit -- python -c {shlex.quote(program)}"
    path = f"{Path(sys.executable).parent}:{platform.environment['PATH']}"
    environment = platform.environment | {"PATH": path}
    done = subprocess.run(
        ["sh", "-c", submit], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    found = re.search(r"^gcs (\S+)$", done.stdout, re.MULTILINE)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return found[1]


def test_a_second_platform_starts_and_stops_beside_the_first(platform: Platform, second: Platform) -> None:
    refused = second.command("up")
    assert refused.returncode == 1
    assert f"port {platform.settings.ledger_port} (ledger service) is in use by process" in refused.stderr
    assert f"platform in {platform.settings.root}; set PLIMSOLL_LEDGER_PORT" in refused.stderr
    assert not second.settings.root.exists(), "nothing was started"
    wrong = [one["what"] for one in json.loads(second.command("doctor", "--json").stdout) if not one["ok"]]
    assert {"Ledger service", "Operations console"} <= set(wrong), "the first platform's services are not its own"

    second = moved(second)
    rows = holdout_rows(ROOT / "examples" / "credit_default")
    first_before = processes.recorded(platform.settings)
    with platform.machine("client") as client:
        replay = Replay(client, "credit-default", rows, rate=10.0)
        replay.start()
        try:
            started = second.command("up", "--json")
            assert started.returncode == 0, started.stderr
            one, other = (set(processes.of_platform(each.settings)) for each in (platform, second))
            assert len(other) > 20
            assert not one & other
            ready = f"{second.settings.gateway_url}/v2/health/ready"
            assert httpx.get(ready, timeout=10.0, trust_env=False).is_success
            for each in (platform, second):
                assert each.command("status").returncode == 0
                found = json.loads(each.command("doctor", "--json").stdout)
                assert [finding for finding in found if not finding["ok"]] == []

            assert gcs_of_a_job(second) == f"{second.settings.host}:{second.settings.ray_port}"

            assert second.command("down").returncode == 0
            assert processes.of_platform(second.settings) == []
            assert [one for one in other if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
            assert ports_in_use(second.settings) == []
        finally:
            tally = replay.stop()
    assert (tally.failed, tally.sent > 100) == (0, True), tally.failures
    assert processes.recorded(platform.settings) == first_before
    assert platform.command("status").returncode == 0
