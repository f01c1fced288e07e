"""`python -m serve.cluster.haproxy_wrapper FILE ARGUMENTS`: what Ray starts in place of HAProxy. It becomes HAProxy.

Ray's file is corrected first. The socket for customers is not opened here but borrowed from the standby
(serve/cluster/standby.py), which holds it whatever happens to this process; where the standby does not answer, HAProxy
opens its own.
Ray compares process ids, so this process executes HAProxy in its place. Only light imports: Ray waits for the start.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from lineage.errors import UnavailableError
from serve.cluster.haproxy_config import bound_to, corrected, fingerprint, is_routed, limits_for

_PATIENCE_SECONDS = 2.0
_WORD = 4096


@dataclass(frozen=True)
class Door:
    """Where the ingress stands.

    Attributes:
        host, port: where customers come in.
        binary: HAProxy.
        token: the file of the service's token; it need not be there yet.
        folder: for the sockets and files of the ingress.
        inflight: requests that one replica takes at a time.
    """

    host: str
    port: int
    binary: str
    token: str
    folder: str
    inflight: int

    @property
    def leases(self) -> Path:
        """The socket on which the standby lends the customers' entrance."""
        return Path(self.folder) / "lease.sock"

    def write(self, path: Path) -> None:
        """Write it for `read`."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Door:
        """What `write` wrote."""
        return cls(**json.loads(path.read_text()))


def prepare(door: Door, arguments: list[str]) -> list[str]:
    """Correct the file that `-f` names; return the arguments with which HAProxy should be started.

    Raises:
        UnavailableError: the file is not what Ray's template gives, or cannot be read or written.
    """
    path = Path(arguments[arguments.index("-f") + 1])
    try:
        text = corrected(path.read_text(), door.host, limits_for(door.inflight), _service(door))
        if is_routed(text):
            path.write_text(text)
            listener = _borrow(door, path)
            text = text if listener is None else bound_to(text, f"fd@{listener}")
        elif door.leases.exists():
            # It would answer with 404: let it run where nobody comes until Ray has told it about the replicas.
            text = bound_to(text, f"unix@{Path(door.folder) / 'unrouted.sock'} mode 600")
        path.write_text(text)
    except OSError as error:
        raise UnavailableError(f"cannot prepare HAProxy's configuration {path}: {error.strerror}") from error
    return [argument for argument in arguments if argument != "-dR"]  # a second listener must be able to bind


def _service(door: Door) -> str:
    try:
        return fingerprint(Path(door.token).read_text().strip())
    except FileNotFoundError:
        return ""


def _borrow(door: Door, config: Path) -> int | None:
    """The entrance, as a descriptor that HAProxy inherits, or None where nobody lends one.

    The connection stays open as long as this process lives, HAProxy included: when it closes, the standby steps in.
    """
    try:
        lease = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        lease.settimeout(_PATIENCE_SECONDS)
        lease.connect(str(door.leases))
        lease.sendall(f"{config}\n".encode())
        _, found, _, _ = socket.recv_fds(lease, _WORD, 1)
    except OSError as error:
        sys.stderr.write(f"no standby lends the entrance, HAProxy opens its own: {error}\n")
        return None
    if not found:
        return None
    lease.settimeout(None)
    for descriptor in (lease.detach(), found[0]):
        os.set_inheritable(descriptor, True)
    return found[0]


def main() -> None:
    """Become HAProxy."""
    door, arguments = Door.read(Path(sys.argv[1])), sys.argv[2:]
    try:
        if "-f" in arguments:
            arguments = prepare(door, arguments)
    except UnavailableError as error:
        sys.exit(error.message)
    os.execv(door.binary, [door.binary, *arguments])  # noqa: S606 - the same process, as Ray wants


if __name__ == "__main__":
    main()
