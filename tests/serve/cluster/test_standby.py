"""The standby answers when HAProxy ends: real HAProxies, started as Ray starts them, and the real standby."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lineage.errors import UnavailableError
from lineage.settings import Settings
from serve.cluster.haproxy_wrapper import IngressConfig
from serve.cluster.ray_settings import ingress_config, prepare, wrapper_file
from serve.cluster.standby import Standby
from tests.support.gateway_servers import Reply, _listener, raw_request, send, served
from tests.support.holding_replica import Replica
from tests.support.real_haproxy import Written, ray_writes

_PATIENCE = 20.0
_NOWHERE = 30_003  # the port in what Ray writes, before it is moved


@dataclass
class Ingress:
    """A standby in this process, and Ray's HAProxies beside it."""

    config: IngressConfig
    written: Written
    wrapper: Path
    standby: Standby
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *, routed: bool) -> subprocess.Popen[bytes]:
        """Start HAProxy as Ray does, the one before it ends; return when it says on its socket that it is there."""
        folder = Path(self.config.folder)
        file = folder / "haproxy.cfg"
        file.write_text(self.written.routed if routed else self.written.unrouted)
        follow = ["-sf", str(self.running[-1].pid), "-x", str(folder / "a.sock")] if self.running else []
        command = [str(self.wrapper), "-db", "-q", "-f", str(file), "-dR", *follow]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[3])
        self.running.append(process)
        return process

    def until(self, *, is_serving: bool) -> None:
        """Let the standby work until it answers itself, or no longer does."""
        deadline = time.monotonic() + _PATIENCE
        while self.standby.is_serving is not is_serving:
            assert time.monotonic() < deadline
            self.standby.step()

    def ask(self) -> Reply:
        """A decision."""
        return send(self.config.port, raw_request(b"{}"))

    def end(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """End one of Ray's."""
        process.send_signal(number)
        process.wait(_PATIENCE)
        self.running.remove(process)


@pytest.fixture(scope="module")
def _written() -> Iterator[tuple[Settings, Written]]:
    """What Ray writes for a replica at `_NOWHERE`: to ask it takes seconds."""
    with tempfile.TemporaryDirectory() as name:  # short: there are Unix sockets in it
        folder = Path(name)
        with _listener() as free:
            port = free.getsockname()[1]
        ray_port = 6399 + os.getpid() % 40  # other ports for HAProxy's own listeners than another run's
        settings = Settings(home=folder / "var", ray_tmp=folder / "ray", gateway_port=port, ray_port=ray_port)
        prepare(settings)
        yield settings, ray_writes(settings, [_NOWHERE])


@pytest.fixture
def ingress(_written: tuple[Settings, Written]) -> Iterator[Ingress]:
    replica, (settings, written) = Replica(), _written
    shutil.rmtree(ingress_config(settings).folder)
    prepare(settings)
    with ExitStack() as stack:
        at = stack.enter_context(served(replica.app))
        written = written.moved(_NOWHERE, at)
        send(at, raw_request(path="/v2"))
        replica.go()
        made = Ingress(ingress_config(settings), written, wrapper_file(settings), Standby(ingress_config(settings)))
        try:
            yield made
        finally:
            for process in made.running:
                process.kill()
                process.wait(_PATIENCE)
            with suppress(OSError):
                made.standby.close()


def test_before_ray_is_up_everybody_is_told_to_come_back(ingress: Ingress) -> None:
    ingress.until(is_serving=True)
    reply = ingress.ask()
    assert (reply.status, reply.content["code"], reply.headers["retry-after"]) == (503, "unavailable", "1")


def test_when_haproxy_is_killed_the_standby_answers_until_a_new_one_has_routes(ingress: Ingress) -> None:
    ingress.until(is_serving=True)
    first = ingress.start(routed=True)
    ingress.until(is_serving=False)
    assert ingress.ask().status == 200
    ingress.end(first, signal.SIGKILL)
    ingress.until(is_serving=True)
    assert [ingress.ask().status for _ in range(10)] == [200] * 10
    ingress.start(routed=False)  # as Ray does it: it has no routes yet, and would answer 404
    assert [ingress.ask().status for _ in range(10)] == [200] * 10
    ingress.start(routed=True)
    ingress.until(is_serving=False)
    assert [ingress.ask().status for _ in range(10)] == [200] * 10


def test_a_new_haproxy_follows_an_old_one_without_the_standby(ingress: Ingress) -> None:
    ingress.until(is_serving=True)
    old = ingress.start(routed=True)
    ingress.until(is_serving=False)
    ingress.start(routed=True)
    ended = False
    while not ended:
        assert ingress.ask().status == 200
        ingress.standby.step(0.0)
        ended = old.poll() is not None
        assert not ingress.standby.is_serving
    assert ingress.ask().status == 200


def test_a_standby_that_comes_back_answers_beside_who_has_the_old_entrance(ingress: Ingress) -> None:
    ingress.until(is_serving=True)
    ingress.start(routed=True)
    ingress.until(is_serving=False)
    ingress.standby.close()
    assert ingress.ask().status == 200
    ingress.standby = Standby(ingress.config)
    ingress.until(is_serving=True)
    assert [ingress.ask().status for _ in range(10)] == [200] * 10
    ingress.start(routed=True)
    ingress.until(is_serving=False)
    assert [ingress.ask().status for _ in range(10)] == [200] * 10


def test_a_port_that_another_platform_serves_is_not_shared(ingress: Ingress, tmp_path: Path) -> None:
    """SO_REUSEPORT would allow it, and each platform would get some of the other's customers."""
    ingress.until(is_serving=True)
    other = replace(ingress.config, folder=str(tmp_path / "other"))
    with pytest.raises(UnavailableError, match=rf"port {other.port} is in use by process .*PLIMSOLL_GATEWAY_PORT"):
        Standby(other)
    assert ingress.ask().status == 503


def test_a_folder_that_is_too_long_for_sockets_is_named(ingress: Ingress, tmp_path: Path) -> None:
    with _listener() as free:
        port = free.getsockname()[1]
    long = replace(ingress.config, folder=str(tmp_path / ("f" * 100)), port=port)
    with pytest.raises(UnavailableError, match=r"cannot open the socket .*lease\.sock: AF_UNIX path too long"):
        Standby(long)


def test_without_a_standby_haproxy_opens_the_entrance_itself(ingress: Ingress) -> None:
    ingress.standby.close()
    started = ingress.start(routed=True)
    deadline = time.monotonic() + _PATIENCE
    while True:
        with suppress(ConnectionError):
            assert ingress.ask().status == 200
            break
        assert started.poll() is None
        assert time.monotonic() < deadline


def test_a_template_that_is_not_understood_starts_no_haproxy(ingress: Ingress) -> None:
    ingress.written = Written("frontend other\n    bind *:80\n", "")
    process = ingress.start(routed=True)
    assert process.wait(_PATIENCE) == 1
    assert sys.executable in ingress.wrapper.read_text()
