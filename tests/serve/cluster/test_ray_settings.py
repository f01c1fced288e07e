"""How Ray is started: everything on loopback, telemetry off, two platforms beside each other."""

from __future__ import annotations

import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lineage.settings import Settings
from serve.cluster.haproxy_wrapper import Door
from serve.cluster.ray_settings import (
    block_of,
    door_of,
    prepare,
    ray_environment,
    ray_start_command,
    token_file,
    wrapper_file,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "var", ray_tmp=tmp_path / "ray")


def test_every_listener_is_bound_to_loopback_and_needs_a_token(settings: Settings) -> None:
    environment = ray_environment(settings)
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    command = ray_start_command(settings)
    assert "--dashboard-host=127.0.0.1" in command
    assert "--node-ip-address=127.0.0.1" in command


def test_two_platforms_of_one_host_share_no_port() -> None:
    one, other = Settings(), Settings(ray_port=6499, ray_dashboard_port=8365, gateway_port=8100)

    def ports(settings: Settings) -> set[str]:
        values = [value for name, value in ray_environment(settings).items() if name.endswith("PORT")]
        values += [part.partition("=")[2] for part in ray_start_command(settings) if "port=" in part]
        return {value for value in values if value not in ("0", "False", "True")}

    mine = {port for port in ports(one) if port.isdigit() and int(port) >= 20_000}
    theirs = {port for port in ports(other) if port.isdigit() and int(port) >= 20_000}
    assert len(mine) > 10
    assert not mine & theirs
    assert max(int(port) for port in mine | theirs) < 32_768
    assert block_of(one) != block_of(other)


def test_the_token_is_made_once_and_is_secret(settings: Settings) -> None:
    prepare(settings)
    first = token_file(settings).read_text()
    prepare(settings)
    assert token_file(settings).read_text() == first
    assert stat.S_IMODE(token_file(settings).stat().st_mode) == 0o600


def test_what_ray_starts_in_place_of_haproxy_becomes_haproxy_in_the_same_process(
    settings: Settings, tmp_path: Path
) -> None:
    prepare(settings)
    door = Door.read(wrapper_file(settings).with_name("door.json"))
    assert door == door_of(settings)
    assert Path(door.binary).is_file()
    told = tmp_path / "told"
    told.write_text('#!/bin/sh\necho "$$" "$@"\n')
    told.chmod(0o700)
    replace(door, binary=str(told)).write(wrapper_file(settings).with_name("door.json"))
    process = subprocess.Popen([str(wrapper_file(settings)), "-v"], stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=30)
    assert said.split() == [str(process.pid), "-v"]


def test_importing_it_does_not_import_ray() -> None:
    code = "import serve.cluster.ray_settings, sys; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
