"""Checks before a start: ports and the length of socket paths; and the findings of `plimsoll doctor`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from console.terminal import doctor, processes
from console.terminal.preflight import ports_in_use, require_startable
from console.terminal.up import up
from lineage.errors import UnavailableError
from lineage.settings import RAY_TMP_MAX_BYTES, Settings
from serve.cluster.listeners import listeners

#: A server that answers /healthz as a ledger without a witness does.
SERVER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'{"witness": null}')
server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def serve_as(tmp_path: Path) -> Iterator[Callable[[Settings], tuple[psutil.Process, int]]]:
    """Starts the server as a process of a platform; gives the process and its port."""
    used: list[Settings] = []

    def start(settings: Settings) -> tuple[psutil.Process, int]:
        settings.root.mkdir(parents=True, exist_ok=True)
        used.append(settings)
        process = processes.start("server", [sys.executable, "-c", SERVER], settings, {})
        while not (said := processes.tail(settings, "server")):
            assert process.is_running()
        return process, int(said)

    yield start
    for settings in used:
        assert processes.wait_until_gone(settings) == []


def free(home: Path, **more: Any) -> Settings:
    """Settings with an offset at which every port is free."""
    for offset in range(2_000, 6_000, 100):
        settings = Settings(home=home, port_offset=offset, **more)
        if not ports_in_use(settings):
            return settings
    raise AssertionError("no offset with free ports")


def test_free_ports_and_a_short_folder_pass(tmp_path: Path) -> None:
    require_startable(free(tmp_path / "var"))


def test_a_port_in_use_is_named_with_its_process_its_platform_and_the_setting(
    tmp_path: Path, serve_as: Callable[[Settings], tuple[psutil.Process, int]]
) -> None:
    other = Settings(home=tmp_path / "other")
    process, port = serve_as(other)
    settings = free(tmp_path / "var").model_copy(update={"console_port": port})
    with pytest.raises(UnavailableError) as caught:
        up(settings, lambda _: None)
    assert caught.value.field == "console_port"
    expected = rf"port {port} \(console\) is in use by process {process.pid} \(.*python.*\) of the platform in "
    assert re.search(expected + re.escape(str(other.root)), caught.value.message)
    assert "PLIMSOLL_CONSOLE_PORT" in caught.value.message
    assert "PLIMSOLL_PORT_OFFSET" in caught.value.message
    assert not settings.root.exists(), "nothing was started or written"


def test_every_port_of_ray_is_looked_at(
    tmp_path: Path, serve_as: Callable[[Settings], tuple[psutil.Process, int]]
) -> None:
    _, port = serve_as(Settings(home=tmp_path / "other"))
    settings = free(tmp_path / "var").model_copy(update={"ray_ports": port - 12})
    assert port in {one.port for one in ports_in_use(settings)}
    with pytest.raises(UnavailableError, match=r"autoscaler metrics.* PLIMSOLL_RAY_PORTS to the first of 256"):
        require_startable(settings)


def test_a_port_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    settings = free(tmp_path / "var")
    settings = settings.model_copy(update={"console_port": settings.gateway_port})
    with pytest.raises(UnavailableError, match=f"port {settings.gateway_port} is given twice: .*GATEWAY.*CONSOLE"):
        require_startable(settings)


def test_with_a_witness_elsewhere_its_port_does_not_count() -> None:
    def settings_of(witness_url: str) -> set[str]:
        return {one.setting for one in listeners(Settings(witness_url=witness_url))}

    assert settings_of("") - settings_of("https://witness.example") == {"witness_port"}


def test_a_folder_that_is_too_long_for_sockets_says_by_how_much(tmp_path: Path) -> None:
    settings = free(tmp_path / "var", ray_tmp=Path("/tmp") / ("r" * RAY_TMP_MAX_BYTES))  # noqa: S108
    with pytest.raises(UnavailableError, match=r"5 bytes too long.*PLIMSOLL_RAY_TMP") as caught:
        require_startable(settings)
    assert caught.value.field == "ray_tmp"
    finding = next(one for one in doctor.examine(settings) if one.what == "Folder for sockets")
    assert (finding.ok, finding.fix) == (False, caught.value.message)


def test_doctor_does_not_take_the_ledger_of_another_platform_for_this_one(
    tmp_path: Path, serve_as: Callable[[Settings], tuple[psutil.Process, int]]
) -> None:
    other = Settings(home=tmp_path / "other")
    process, port = serve_as(other)
    here = free(tmp_path / "var").model_copy(update={"ledger_port": port})
    found = {one.what: one for one in doctor.examine(here)}
    assert not found["Ledger service"].ok
    assert f"process {process.pid}" in found["Ledger service"].seen
    assert found["Left-over processes"].ok
    assert "Cosigned by a witness" not in found
    there = {one.what: one for one in doctor.examine(other.model_copy(update={"ledger_port": port}))}
    assert there["Ledger service"].ok
    assert there["Cosigned by a witness"].seen == "no witness is set"
