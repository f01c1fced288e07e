"""Holds the listening socket for customers, and answers while no HAProxy of Ray does.

`python -m serve.cluster.standby`. Each HAProxy that Ray starts gets the socket from here
(serve/cluster/haproxy_wrapper.py). When that HAProxy dies, connections wait in the socket until an HAProxy of this
process, with the last good configuration, accepts them some hundredths of a second later; it exits when Ray has started
a new one. While no replica is up, every request is answered with 503 and Retry-After: 1. Requests that the dead HAProxy
had accepted are lost.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

from lineage.errors import UnavailableError
from lineage.private_folders import close_to_others, make_private
from lineage.settings import Settings
from serve.cluster.haproxy_config import admin_socket, config_without_replicas, limits_for, standby_config
from serve.cluster.haproxy_wrapper import IngressConfig

log = structlog.get_logger("plimsoll.standby")

_BACKLOG = 4096
_POLL_SECONDS = 0.05
_RESTART_SECONDS = 0.5  # before an HAProxy that ended is started again
_STOP_SECONDS = 5.0
_MESSAGE_BYTES = 4096


@dataclass(frozen=True)
class Lease:
    """An HAProxy of Ray that has the listening socket; it ends when the connection closes.

    `config` is the text with which HAProxy was started.
    """

    connection: socket.socket
    process: int
    config: str


class Standby:
    """The listening socket, the HAProxy of Ray that has it, and the HAProxy that answers when none has.

    Args:
        clock: seconds, for pauses.

    Raises:
        UnavailableError: a socket cannot be opened, or another process listens to the port.
    """

    def __init__(self, ingress: IngressConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._ingress, self._clock = ingress, clock
        self._folder = Path(ingress.folder)
        self._config, self._pid = self._folder / "standby.cfg", self._folder / "standby.pid"
        self._selector = selectors.DefaultSelector()
        self._current: Lease | None = None
        self._proven: Lease | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._not_before = 0.0
        make_private(self._folder, "ray_tmp")
        self._end_orphan()
        _require_own_port(ingress)
        try:
            self._listener = _listen(ingress)
        except OSError as error:
            reason = error.strerror or error
            raise UnavailableError(f"cannot listen on {ingress.host}:{ingress.port}: {reason}") from error
        try:
            self._lease_listener = _listen_unix(ingress.leases)
        except OSError as error:
            self._listener.close()
            raise UnavailableError(f"cannot open the socket {ingress.leases}: {error.strerror or error}") from error
        self._selector.register(self._lease_listener, selectors.EVENT_READ)
        last = (
            self._config.read_text() if self._config.exists() else config_without_replicas(limits_for(ingress.inflight))
        )
        self._config.write_text(self._text(last))

    @property
    def is_serving(self) -> bool:
        """Whether the HAProxy of this process runs."""
        return self._child is not None and self._child.poll() is None

    def step(self, seconds: float = _POLL_SECONDS) -> None:
        """Wait at most so long for an event, and handle it."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._lease_listener:
                self._grant_lease()
            else:
                self._on_lease(key.data)
        self._leaving = [process for process in self._leaving if process.poll() is None]
        if self._current is None:
            if not self.is_serving and self._clock() >= self._not_before:
                self._start()
        elif self._current is not self._proven and _runs(self._current):
            self._hand_over(self._current)

    def close(self) -> None:
        """End the HAProxy of this process and close the sockets."""
        children = [*self._leaving, *([self._child] if self._child else [])]
        for child in children:
            child.terminate()
        for child in children:
            child.wait(_STOP_SECONDS)
        self._pid.unlink(missing_ok=True)
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
        self._listener.close()
        self._ingress.leases.unlink(missing_ok=True)

    def _grant_lease(self) -> None:
        connection, _ = self._lease_listener.accept()
        try:
            connection.settimeout(1.0)
            config = Path(connection.recv(_MESSAGE_BYTES).decode().strip()).read_text()
            socket.send_fds(connection, [b"listener"], [self._listener.fileno()])
        except (OSError, UnicodeDecodeError) as error:
            log.warning("the listening socket was not passed", reason=str(error))
            connection.close()
            return
        connection.setblocking(False)
        self._current = Lease(connection, _process_of(connection), config)
        self._selector.register(connection, selectors.EVENT_READ, self._current)

    def _on_lease(self, lease: Lease) -> None:
        with suppress(BlockingIOError, ConnectionError):
            if lease.connection.recv(_MESSAGE_BYTES):
                return
        self._selector.unregister(lease.connection)
        lease.connection.close()
        if lease is self._current:
            log.warning("HAProxy ended, the standby answers", process=lease.process)
            self._current = None

    def _hand_over(self, lease: Lease) -> None:
        """Stop this process's HAProxy because the one of Ray runs, and keep the configuration that it runs with."""
        self._proven = lease
        self._config.write_text(self._text(lease.config))
        if self._child is not None:
            self._child.send_signal(signal.SIGUSR1)  # soft stop: it finishes its requests first
            self._leaving.append(self._child)
            self._child = None

    def _start(self) -> None:
        command = [self._ingress.binary, "-db", "-q", "-f", str(self._config)]
        self._child = subprocess.Popen(command, pass_fds=[self._listener.fileno()])
        self._pid.write_text(str(self._child.pid))
        self._not_before = self._clock() + _RESTART_SECONDS

    def _text(self, text: str) -> str:
        return standby_config(text, f"fd@{self._listener.fileno()}")

    def _end_orphan(self) -> None:
        """End the HAProxy that a killed standby left running: its routes are no longer updated."""
        with suppress(OSError, ValueError):
            process = int(self._pid.read_text())
            if str(self._config).encode() in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0"):
                os.kill(process, signal.SIGTERM)


def _require_own_port(ingress: IngressConfig) -> None:
    """With SO_REUSEPORT two platforms could share a port, and each would get some of the other's customers.

    Raises:
        UnavailableError: a process other than this platform's HAProxy listens to the port.
    """
    at = {(ingress.host, ingress.port), ("0.0.0.0", ingress.port)}  # noqa: S104
    for connection in psutil.net_connections("tcp"):
        if connection.status != psutil.CONN_LISTEN or tuple(connection.laddr) not in at:
            continue
        if connection.pid is None:
            continue  # another user's: the kernel refuses to share the port
        with suppress(psutil.NoSuchProcess):
            command = psutil.Process(connection.pid).cmdline()
            if not any(part.startswith(f"{ingress.folder}/") for part in command):
                raise UnavailableError(
                    f"port {ingress.port} is in use by process {connection.pid} ({' '.join(command)[:80]}); "
                    "set PLIMSOLL_GATEWAY_PORT to a free port",
                    field="gateway_port",
                )


def _listen(ingress: IngressConfig) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in ingress.host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # after a crash HAProxy still has the old socket
    listener.bind((ingress.host, ingress.port))
    listener.listen(_BACKLOG)
    listener.set_inheritable(True)
    return listener


def _listen_unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(8)
    return listener


def _process_of(connection: socket.socket) -> int:
    shape = struct.Struct("3i")
    process, _, _ = shape.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, shape.size))
    return int(process)


def _runs(lease: Lease) -> bool:
    """Whether the HAProxy of the lease has started: its admin socket answers with its pid."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.settimeout(_POLL_SECONDS)
            admin.connect(admin_socket(lease.config))
            admin.sendall(b"show info\n")
            return f"\nPid: {lease.process}\n".encode() in admin.recv(_MESSAGE_BYTES)
    except OSError:
        return False


def main() -> int:
    """Run until SIGTERM."""
    close_to_others()
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: ended.append(got))
    from serve.cluster.ray_settings import ingress_config

    try:
        standby = Standby(ingress_config(Settings()))
    except UnavailableError as error:
        log.error("the standby cannot start", reason=error.message)
        return 1
    while not ended:
        standby.step()
    standby.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
