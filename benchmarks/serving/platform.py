"""A whole platform as `plimsoll up` starts it, under a home and on ports of its own."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from console.terminal import processes
from console.terminal.deployment import change
from console.terminal.up import down, up
from lineage.settings import Settings
from serve.cluster.listeners import listeners

_PORTS = ("ledger_port", "witness_port", "gateway_port", "console_port", "ray_port", "ray_dashboard_port")
_PATIENCE = 400.0  # seconds until a busy machine has started everything


def settings_for(home: Path, **more: Any) -> Settings:
    """Settings with free ports; the environment's own `PLIMSOLL_*` do not count where they are given here."""
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    draw = random.Random(os.getpid())
    while True:  # another platform may run here
        own = {"home": home, "witness_url": "", "ray_ports": 20_000 + 256 * draw.randrange(49)}
        settings = Settings.model_validate(ports | own | more)
        if all(processes.is_free(settings.host, one.port) for one in listeners(settings)):
            return settings


@contextmanager
def running(settings: Settings) -> Iterator[float]:
    """Start the platform, stop all of it afterwards; yields the seconds until everything was ready.

    Raises:
        UnavailableError: a service does not come up.
    """
    try:
        yield up(settings, lambda _: None, patience=_PATIENCE).seconds
    finally:
        down(settings)


def everything(settings: Settings) -> list[psutil.Process]:
    """Every process of the platform: ledger, witness, console, all of Ray, HAProxy, helpers, the supervisor."""
    return processes.of_platform(settings)


def named(settings: Settings, part: str) -> list[psutil.Process]:
    """The platform's processes whose title or command holds `part`, e.g. "Gateway" or "haproxy"."""
    found = []
    for process in everything(settings):
        try:
            if part in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def scale(settings: Settings, replicas: int) -> None:
    """Set the number of gateway replicas and wait until each runs the newest routes.

    Raises:
        UnavailableError: the deployment failed.
    """
    change(settings, lambda _: None, "--replicas", str(replicas))


def redeploy(settings: Settings) -> None:
    """Replace every process of the serving plane.

    Raises:
        UnavailableError: the deployment failed.
    """
    change(settings, lambda _: None, "--renew")


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
