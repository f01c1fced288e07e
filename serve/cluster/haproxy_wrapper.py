"""Wrapper that Ray runs as `haproxy`: corrects the configuration, takes over the listening socket, execs HAProxy.

`python -m serve.cluster.haproxy_wrapper FILE ARGUMENTS`. The listening socket for customers comes from the standby
(serve/cluster/standby.py), which keeps it open when this process dies; HAProxy opens its own when no standby answers.
HAProxy gets the same pid, which Ray compares. Only light imports: Ray waits for the start.
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

_TIMEOUT_SECONDS = 2.0
_MESSAGE_BYTES = 4096


@dataclass(frozen=True)
class IngressConfig:
    """Settings of the ingress, for processes that must start quickly: a JSON file.

    Attributes:
        host, port: where customers connect.
        binary: path of HAProxy.
        token: path of the service's token; the file may not exist yet.
        folder: of the ingress, for its sockets and files.
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
        """The Unix socket on which the standby passes the listening socket."""
        return Path(self.folder) / "lease.sock"

    def write(self, path: Path) -> None:
        """Write the file that `read` reads."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> IngressConfig:
        """Read the file that `write` wrote."""
        return cls(**json.loads(path.read_text()))


def prepare(ingress: IngressConfig, arguments: list[str]) -> list[str]:
    """Correct the file that `-f` names; return the arguments for HAProxy.

    Raises:
        UnavailableError: the file does not come from Ray's template, or cannot be read or written.
    """
    path = Path(arguments[arguments.index("-f") + 1])
    try:
        text = corrected(path.read_text(), ingress.host, limits_for(ingress.inflight), _service(ingress))
        if is_routed(text):
            path.write_text(text)
            listener = _inherit_listener(ingress, path)
            text = text if listener is None else bound_to(text, f"fd@{listener}")
        elif ingress.leases.exists():
            # It has no routes yet and would answer 404: bind it where no request arrives. Ray restarts it with routes.
            text = bound_to(text, f"unix@{Path(ingress.folder) / 'unrouted.sock'} mode 600")
        path.write_text(text)
    except OSError as error:
        raise UnavailableError(f"cannot prepare HAProxy's configuration {path}: {error.strerror or error}") from error
    # `-dR` forbids SO_REUSEPORT, without which a successor cannot bind.
    return [argument for argument in arguments if argument != "-dR"]


def _service(ingress: IngressConfig) -> str:
    try:
        return fingerprint(Path(ingress.token).read_text().strip())
    except FileNotFoundError:
        return ""


def _inherit_listener(ingress: IngressConfig, file: Path) -> int | None:
    """The descriptor of the standby's listening socket, inheritable; None when no standby passes one.

    The connection stays open until HAProxy ends; the standby answers customers when it closes.
    """
    try:
        lease = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        lease.settimeout(_TIMEOUT_SECONDS)
        lease.connect(str(ingress.leases))
        lease.sendall(f"{file}\n".encode())
        _, found, _, _ = socket.recv_fds(lease, _MESSAGE_BYTES, 1)
    except OSError as error:
        sys.stderr.write(f"no standby passes its listening socket, HAProxy opens its own: {error}\n")
        return None
    if not found:
        return None
    lease.settimeout(None)
    for descriptor in (lease.detach(), found[0]):
        os.set_inheritable(descriptor, True)
    return found[0]


def main() -> None:
    """Prepare, then exec HAProxy."""
    ingress, arguments = IngressConfig.read(Path(sys.argv[1])), sys.argv[2:]
    try:
        if "-f" in arguments:
            arguments = prepare(ingress, arguments)
    except UnavailableError as error:
        sys.exit(error.message)
    os.execv(ingress.binary, [ingress.binary, *arguments])  # noqa: S606 - Ray compares the pid


if __name__ == "__main__":
    main()
