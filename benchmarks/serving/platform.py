"""A whole platform as `plimsoll up` starts it, under a home and on ports of its own."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from console.terminal import processes
from console.terminal.up import down, up
from lineage.errors import UnavailableError
from lineage.settings import Settings
from serve.cluster import block_of, token_file
from serve.deploy import application

_PORTS = ("ledger_port", "witness_port", "gateway_port", "console_port", "ray_dashboard_port")
_PATIENCE = 400.0  # seconds until a busy machine has started everything


def settings_for(home: Path, **more: Any) -> Settings:
    """Settings with free ports; the environment's own `PLIMSOLL_*` do not count where they are given here."""
    ports = zip(_PORTS, free_ports(len(_PORTS)), strict=True)
    return Settings.model_validate(dict(ports) | {"home": home, "witness_url": "", "ray_port": _ray_port(home)} | more)


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


def scale(settings: Settings, replicas: int, model: str = "model-000") -> None:
    """Have so many gateway replicas, and wait until each of them answers for `model` through the front door.

    Raises:
        UnavailableError: they do not within two minutes.
    """
    wanted = settings.model_copy(update={"gateway_replicas": replicas})
    url = f"{settings.ray_dashboard_url}/api/serve/applications/"
    headers = {"Authorization": f"Bearer {token_file(settings).read_text().strip()}"}
    httpx.put(url, json=application(wanted), headers=headers, timeout=60.0, trust_env=False).raise_for_status()
    asking = {"Authorization": f"Bearer {settings.token('client')}"}
    deadline, seen = time.monotonic() + 120.0, set[str]()
    while len(seen) < replicas:
        if time.monotonic() > deadline:
            raise UnavailableError(f"{len(seen)} of {replicas} gateway replicas answer")
        reply = httpx.get(
            f"{settings.gateway_url}/v2/models/{model}/ready", headers=asking, timeout=10.0, trust_env=False
        )
        seen |= {reply.headers["x-replica"]} if "x-replica" in reply.headers else set()
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _ray_port(home: Path) -> int:
    """A free port for Ray whose block of further ports is free too, for another platform may run here."""
    draw = random.Random(os.getpid())
    while True:
        port = draw.randrange(10_000, 19_000)
        block = block_of(Settings(home=home, ray_port=port))
        wanted = [port, *range(block, block + 12), *range(block + 20, block + 24)]
        if not any(processes.listening("127.0.0.1", one) for one in wanted):
            return port
