"""The services of a platform: command, dependencies and readiness check of each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from console.terminal.processes import listening
from lineage.settings import Settings
from serve.cluster.ray_settings import ray_client_environment, ray_environment, ray_start_command, token_file

_PYTHON = [sys.executable, "-m"]


@dataclass(frozen=True)
class Service:
    """One process of the platform.

    Attributes:
        port: it listens there, or what it deploys does.
        ready: readiness check against the service itself; a running process is not enough.
        needs: names of services that must be ready before this one starts.
        once: a step that ends instead of running on.
        repeated_after: names of services whose end undoes what this step did, so that it has to be repeated.
        spare: keep a second process of it, which waits until the first one ends and serves at once then.
        seconds: after which a service that is not ready counts as failed.
    """

    name: str
    title: str
    port: int
    command: list[str]
    environment: dict[str, str]
    ready: Callable[[], bool]
    needs: tuple[str, ...] = ()
    once: bool = False
    repeated_after: tuple[str, ...] = ()
    spare: bool = False
    seconds: float = 90.0


def services(settings: Settings) -> list[Service]:
    """Every service, in start order."""
    environment = ray_environment(settings)
    console = Service(
        "console",
        "Operations console",
        settings.console_port,
        [*_PYTHON, "console.server"],
        environment,
        lambda: answers(f"{settings.console_url}/healthz"),
        needs=("ledger",),
    )
    return [*_record(settings, environment), *_serving(settings, environment), console]


def _record(settings: Settings, environment: dict[str, str]) -> list[Service]:
    own = not settings.witness_url
    witness = Service(
        "witness",
        "Witness of the ledger",
        settings.witness_port,
        [*_PYTHON, "lineage.witness", "--trust-first"],
        environment,
        lambda: answers(f"{settings.own_witness_url}/healthz"),
    )
    ledger = Service(
        "ledger",
        "Ledger service",
        settings.ledger_port,
        [*_PYTHON, "lineage.service", *(["--in-turn"] if settings.ledger_spare else [])],
        environment | ({"PLIMSOLL_WITNESS_URL": settings.own_witness_url} if own else {}),
        lambda: answers(f"{settings.ledger_url}/healthz"),
        needs=("witness",) if own else (),
        spare=settings.ledger_spare,
    )
    return [witness, ledger] if own else [ledger]


def _serving(settings: Settings, environment: dict[str, str]) -> list[Service]:
    return [
        Service(
            "standby",
            "Standby of the ingress",
            settings.gateway_port,
            [*_PYTHON, "serve.cluster.standby"],
            environment,
            lambda: listening(settings.host, settings.gateway_port),
        ),
        Service(
            "ray",
            "Ray",
            settings.ray_dashboard_port,
            ray_start_command(settings),
            environment,
            lambda: _jobs_answer(settings),
            needs=("standby",),  # HAProxy takes over its listening socket
        ),
        Service(
            "deploy",
            "Gateway, challenger pool, controller",
            settings.gateway_port,
            [*_PYTHON, "serve.cluster.deploy"],
            ray_client_environment(settings),
            lambda: answers(f"{settings.gateway_url}/v2/health/ready"),
            needs=("ledger", "ray"),
            once=True,
            repeated_after=("ray",),
            seconds=150.0,
        ),
    ]


def answers(url: str, headers: dict[str, str] | None = None) -> bool:
    """Whether a GET returns a success status."""
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
