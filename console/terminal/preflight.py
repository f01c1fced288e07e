"""Checks before a platform is started: its ports are free, and its socket paths short enough."""

from __future__ import annotations

import os
from collections import defaultdict

from console.terminal import processes
from lineage.errors import UnavailableError
from lineage.settings import RAY_TMP_MAX_BYTES, Settings
from serve.cluster.listeners import Listener, listeners

_MOVE_ALL = "PLIMSOLL_PORT_OFFSET moves all ports that are not set themselves"


def require_startable(settings: Settings) -> None:
    """Check the host, the folder for sockets and every fixed port.

    Raises:
        UnavailableError: a name is too long, a port is given twice or in use. `field` names the setting.
        RefusedError: the platform would listen beyond this machine without TLS.
    """
    settings.require_safe_host()
    require_short_sockets(settings)
    _require_distinct(settings)
    taken = ports_in_use(settings)
    if taken:
        first, others = taken[0], ", ".join(str(one.port) for one in taken[1:])
        free = "the first of 256 free ports" if first.setting == "ray_ports" else "a free port"
        user = processes.describe(processes.holder(settings.host, first.port))
        raise UnavailableError(
            f"port {first.port} ({first.title}) is in use by {user}; "
            f"set PLIMSOLL_{first.setting.upper()} to {free}; {_MOVE_ALL}"
            + (f". In use too: {others}" if others else ""),
            field=first.setting,
        )


def require_short_sockets(settings: Settings) -> None:
    """Check that the paths of Unix sockets in Ray's session folder fit.

    Raises:
        UnavailableError: the folder's name is too long.
    """
    folder = settings.ray_tmp.expanduser().resolve()
    excess = len(os.fsencode(folder)) - RAY_TMP_MAX_BYTES
    if excess > 0:
        raise UnavailableError(
            f"the folder for Ray's sockets, {folder}, has a name {excess} bytes too long: expected at most "
            f"{RAY_TMP_MAX_BYTES} bytes, for the path of a Unix socket may have 107; set PLIMSOLL_RAY_TMP to a shorter "
            "one, for example /tmp/plimsoll-2",
            field="ray_tmp",
        )


def ports_in_use(settings: Settings) -> list[Listener]:
    """Listeners of this platform whose port is in use now."""
    return [one for one in listeners(settings) if not processes.is_free(settings.host, one.port)]


def _require_distinct(settings: Settings) -> None:
    by_port = defaultdict(list)
    for one in listeners(settings):
        by_port[one.port].append(one)
    for port, (first, *others) in by_port.items():
        if others:
            raise UnavailableError(
                f"port {port} is given twice: PLIMSOLL_{first.setting.upper()} ({first.title}) and "
                f"PLIMSOLL_{others[0].setting.upper()} ({others[0].title}); set one of them to another port",
                field=others[0].setting,
            )
