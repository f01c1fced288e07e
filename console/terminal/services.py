"""What the platform consists of: each service's command, what it waits for, and how one knows that it is ready."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from console.terminal.processes import listening
from lineage.settings import Settings
from serve.cluster.ray_settings import ray_client_environment, ray_environment, ray_start_command, token_file


@dataclass(frozen=True)
class Service:
    """One process of the platform.

    `ready` asks the service itself; a process that merely runs is not ready. `once` marks a step that ends.
    """

    name: str
    title: str
    command: list[str]
    environment: dict[str, str]
    ready: Callable[[], bool]
    needs: tuple[str, ...] = ()
    once: bool = False
    seconds: float = 90.0


def services(settings: Settings) -> list[Service]:
    """Every service, in the order they are started."""
    python = [sys.executable, "-m"]
    ray = ray_environment(settings)
    client = ray_client_environment(settings)
    own = not settings.witness_url
    witness = Service(
        "witness",
        "Witness of the ledger",
        [*python, "lineage.witness", "--trust-first"],
        ray,
        lambda: answers(f"{settings.own_witness_url}/healthz"),
    )
    return [
        *([witness] if own else []),
        Service(
            "ledger",
            "Ledger service",
            [*python, "lineage.service"],
            ray | ({"PLIMSOLL_WITNESS_URL": settings.own_witness_url} if own else {}),
            lambda: answers(f"{settings.ledger_url}/healthz"),
            needs=("witness",) if own else (),
        ),
        Service(
            "standby",
            "Standby of the ingress",
            [*python, "serve.cluster.standby"],
            ray,
            lambda: listening(settings.host, settings.gateway_port),
        ),
        Service(
            "ray",
            "Ray",
            ray_start_command(settings),
            ray,
            lambda: _jobs_answer(settings),
            needs=("standby",),  # Ray's HAProxy borrows the entrance from it
        ),
        Service(
            "deploy",
            "Gateway, challenger pool, controller",
            [*python, "serve.cluster.deploy"],
            client,
            lambda: answers(f"{settings.gateway_url}/v2/health/ready"),
            needs=("ledger", "ray"),
            once=True,
            seconds=150.0,
        ),
        Service(
            "console",
            "Operations console",
            [*python, "console.server"],
            ray,
            lambda: answers(f"{settings.console_url}/healthz"),
            needs=("ledger",),
        ),
    ]


def answers(url: str, headers: dict[str, str] | None = None) -> bool:
    """Whether a GET is answered with success."""
    try:
        return httpx.get(url, headers=headers, timeout=2.0, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _jobs_answer(settings: Settings) -> bool:
    path = token_file(settings)
    if not path.exists():
        return False
    headers = {"Authorization": f"Bearer {path.read_text().strip()}"}
    return answers(f"{settings.ray_dashboard_url}/api/jobs/", headers)
