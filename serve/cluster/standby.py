"""`python -m serve.cluster.standby`: holds the customers' entrance, and answers there while Ray's HAProxy does not.

The listening socket is opened here and lent to each HAProxy that Ray starts (serve/cluster/haproxy_wrapper.py). When
the borrower dies, connections wait in the socket until an HAProxy of this process, with the last good configuration,
takes them some hundredths of a second later; it exits when Ray has started a new one. While no replica is up, every
request is answered with 503 and Retry-After: 1. Requests that the dead HAProxy had accepted are lost.
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

from lineage.errors import UnavailableError
from lineage.settings import Settings
from serve.cluster.haproxy_config import admin_socket, limits_for, nothing_behind, standby_of
from serve.cluster.haproxy_wrapper import Door

_BACKLOG = 4096
_LOOK_SECONDS = 0.05
_PAUSE_SECONDS = 0.5  # before an HAProxy that ended is started again
_END_SECONDS = 5.0
_WORD = 4096


@dataclass(frozen=True)
class Lease:
    """An HAProxy that has the entrance: it lives as long as the connection does. `config` is how it was started."""

    connection: socket.socket
    process: int
    config: str


class Standby:
    """The entrance, who has it, and the HAProxy that answers when nobody has.

    Args:
        clock: seconds, for pauses.

    Raises:
        UnavailableError: the entrance or the leases' socket cannot be opened.
    """

    def __init__(self, door: Door, clock: Callable[[], float] = time.monotonic) -> None:
        self._door, self._clock = door, clock
        self._folder = Path(door.folder)
        self._config, self._pid = self._folder / "standby.cfg", self._folder / "standby.pid"
        self._selector = selectors.DefaultSelector()
        self._current: Lease | None = None
        self._proved: Lease | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._not_before = 0.0
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._end_orphan()
        try:
            self._entrance = _entrance(door)
            self._desk = _unix(door.leases)
        except OSError as error:
            raise UnavailableError(f"cannot open {door.host}:{door.port} for customers: {error.strerror}") from error
        self._selector.register(self._desk, selectors.EVENT_READ)
        last = self._config.read_text() if self._config.exists() else nothing_behind(limits_for(door.inflight))
        self._config.write_text(self._text(last))

    @property
    def answers_itself(self) -> bool:
        """Whether the HAProxy of this process is there for customers."""
        return self._child is not None and self._child.poll() is None

    def step(self, seconds: float = _LOOK_SECONDS) -> None:
        """Wait for what happens, at most so long, and do what it asks for."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._desk:
                self._lend()
            else:
                self._returned(key.data)
        self._leaving = [process for process in self._leaving if process.poll() is None]
        if self._current is None:
            if not self.answers_itself and self._clock() >= self._not_before:
                self._start()
        elif self._current is not self._proved and _runs(self._current):
            self._step_back(self._current)

    def close(self) -> None:
        """End the HAProxy of this process and give up the entrance."""
        children = [*self._leaving, *([self._child] if self._child else [])]
        for child in children:
            child.terminate()
        for child in children:
            child.wait(_END_SECONDS)
        self._pid.unlink(missing_ok=True)
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
        self._entrance.close()
        self._door.leases.unlink(missing_ok=True)

    def _lend(self) -> None:
        connection, _ = self._desk.accept()
        try:
            connection.settimeout(1.0)
            config = Path(connection.recv(_WORD).decode().strip()).read_text()
            socket.send_fds(connection, [b"entrance"], [self._entrance.fileno()])
        except (OSError, UnicodeDecodeError) as error:
            sys.stderr.write(f"the entrance is not lent: {error}\n")
            connection.close()
            return
        connection.setblocking(False)
        self._current = Lease(connection, _process_of(connection), config)
        self._selector.register(connection, selectors.EVENT_READ, self._current)

    def _returned(self, lease: Lease) -> None:
        with suppress(BlockingIOError, ConnectionError):
            if lease.connection.recv(_WORD):
                return
        self._selector.unregister(lease.connection)
        lease.connection.close()
        if lease is self._current:
            sys.stderr.write(f"HAProxy {lease.process} is gone; the standby answers\n")
            self._current = None

    def _step_back(self, lease: Lease) -> None:
        """Leave customers to an HAProxy that runs; its configuration has proved to be good."""
        self._proved = lease
        self._config.write_text(self._text(lease.config))
        if self._child is not None:
            self._child.send_signal(signal.SIGUSR1)  # it answers what it has in hand, then ends
            self._leaving.append(self._child)
            self._child = None

    def _start(self) -> None:
        command = [self._door.binary, "-db", "-q", "-f", str(self._config)]
        self._child = subprocess.Popen(command, pass_fds=[self._entrance.fileno()])
        self._pid.write_text(str(self._child.pid))
        self._not_before = self._clock() + _PAUSE_SECONDS

    def _text(self, text: str) -> str:
        return standby_of(text, f"fd@{self._entrance.fileno()}")

    def _end_orphan(self) -> None:
        """What a killed process of this kind left running would answer by routes that nobody corrects any more."""
        with suppress(OSError, ValueError):
            process = int(self._pid.read_text())
            if str(self._config).encode() in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0"):
                os.kill(process, signal.SIGTERM)


def _entrance(door: Door) -> socket.socket:
    entrance = socket.socket(socket.AF_INET6 if ":" in door.host else socket.AF_INET, socket.SOCK_STREAM)
    entrance.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    entrance.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # after a crash HAProxy still has the old one
    entrance.bind((door.host, door.port))
    entrance.listen(_BACKLOG)
    entrance.set_inheritable(True)
    return entrance


def _unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    desk = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    desk.bind(str(path))
    path.chmod(0o600)
    desk.listen(8)
    return desk


def _process_of(connection: socket.socket) -> int:
    shape = struct.Struct("3i")
    process, _, _ = shape.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, shape.size))
    return int(process)


def _runs(lease: Lease) -> bool:
    """Whether the borrower has begun to answer: it is the one that says so on its own socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.settimeout(_LOOK_SECONDS)
            admin.connect(admin_socket(lease.config))
            admin.sendall(b"show info\n")
            return f"\nPid: {lease.process}\n".encode() in admin.recv(_WORD)
    except OSError:
        return False


def main() -> int:
    """Stand by until SIGTERM."""
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: ended.append(got))
    from serve.cluster.ray_settings import door_of

    try:
        standby = Standby(door_of(Settings()))
    except UnavailableError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    while not ended:
        standby.step()
    standby.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
