"""Ports of this machine that nothing listens on: other ones for each process that runs tests at the same time.

They lie below the range from which the system itself takes ports for outgoing connections, so that a port which was
free is still free when the program under test opens it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from itertools import cycle

_FIRST, _EACH, _WORKERS = 12_000, 1_000, 8  # up to 19,999: Ray's own processes begin at 20,000


def _candidates() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    first = _FIRST + worker * _EACH
    begin = os.getpid() * 37 % _EACH  # two runs on one machine seldom meet, and bind() keeps them apart
    return cycle([*range(first + begin, first + _EACH), *range(first, first + begin)])


_NEXT = _candidates()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """So many different ports, each given out once in this process as long as there are others."""
    found: list[int] = []
    for port in _NEXT:
        if len(found) == count:
            break
        if _is_free(port):
            found.append(port)
    return found


def free_port() -> int:
    return free_ports(1)[0]
