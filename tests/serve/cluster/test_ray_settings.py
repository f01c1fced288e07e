"""How Ray is started: everything on loopback, telemetry off, two platforms beside each other."""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from ray import NodeID

from lineage.settings import RAY_TMP_MAX_BYTES, Settings
from serve.cluster.haproxy_wrapper import IngressConfig
from serve.cluster.listeners import REPLICA_PORTS, RayPort, listeners
from serve.cluster.ray_settings import (
    ingress_config,
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


@pytest.mark.parametrize(
    "moved", [{"port_offset": 100}, {"port_offset": 4_600}, {"ray_port": 6499, "ray_dashboard_port": 8365}], ids=str
)
def test_two_platforms_of_one_host_share_no_port(moved: dict[str, int]) -> None:
    def given(settings: Settings) -> set[int]:
        values = [value for name, value in ray_environment(settings).items() if name.endswith("PORT")]
        values += [part.partition("=")[2] for part in ray_start_command(settings) if "port=" in part]
        return {int(value) for value in values} - {0}

    own = {"ledger_port": 7499, "witness_port": 7498, "gateway_port": 8100, "console_port": 8150}
    one, other = Settings(), Settings(**moved, **({} if "port_offset" in moved else own))  # type: ignore[arg-type]
    mine, theirs = given(one), given(other)
    assert len(mine) > 15
    assert not mine & theirs
    assert not {listener.port for listener in listeners(one)} & {listener.port for listener in listeners(other)}
    assert max(mine | theirs) < 32_768, "below Linux's ephemeral ports"


def test_every_port_that_ray_is_given_is_listed_or_a_replicas(settings: Settings) -> None:
    """So that a port in use is found before Ray is started; Serve skips used ports in the replicas' ranges."""
    given = {part.partition("=")[2] for part in ray_start_command(settings) if "port=" in part} - {"0"}
    given |= {value for name, value in ray_environment(settings).items() if name.endswith("PORT")}
    ranges = range(RayPort.REPLICA_HTTP.of(settings), RayPort.REPLICA_GRPC.of(settings) + REPLICA_PORTS + 1)
    assert {int(port) for port in given} - {one.port for one in listeners(settings)} <= set(ranges)
    assert ranges.stop <= settings.ray_ports + 256


def test_a_long_tmpdir_is_not_passed_on(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("t" * 80)
    long.mkdir()
    for folder, given in ((Path("/tmp"), None), (long, str(settings.ray_tmp))):  # noqa: S108
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        assert ray_environment(settings).get("TMPDIR") == given


def test_the_sockets_of_the_longest_folder_that_is_allowed_fit() -> None:
    folder = "/" + "f" * (RAY_TMP_MAX_BYTES - 1)
    environment = ray_environment(Settings(ray_tmp=Path(folder)))
    admin = Path(environment["RAY_SERVE_HAPROXY_SOCKET_PATH"])
    node = NodeID.from_random().hex()
    assert len(str(admin.parent / node / f"{admin.name}.{2**22}.tmp")) == 107


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
    ingress = IngressConfig.read(wrapper_file(settings).with_name("ingress.json"))
    assert ingress == ingress_config(settings)
    assert Path(ingress.binary).is_file()
    told = tmp_path / "told"
    told.write_text('#!/bin/sh\necho "$$" "$@"\n')
    told.chmod(0o700)
    replace(ingress, binary=str(told)).write(wrapper_file(settings).with_name("ingress.json"))
    process = subprocess.Popen([str(wrapper_file(settings)), "-v"], stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=30)
    assert said.split() == [str(process.pid), "-v"]


def test_importing_it_does_not_import_ray() -> None:
    code = "import serve.cluster.ray_settings, sys; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
