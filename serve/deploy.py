"""`python -m serve.deploy`: put controller, gateway and challengers' pool on a running Ray; ends when all are ready.

The application goes in by Serve's REST interface: calling `serve.run` again would replace every replica.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

import httpx

from lineage.errors import PlimsollError, UnavailableError
from lineage.settings import Settings
from serve.cluster import ray_client_environment, token_file

_PATIENCE_SECONDS = 150.0


def application(settings: Settings) -> dict[str, Any]:
    """Serve's configuration: one application, behind one proxy on loopback."""
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": settings.host, "port": settings.gateway_port, "request_timeout_s": 30},
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
        "applications": [
            {
                "name": "gateway",
                "route_prefix": "/",
                "import_path": "serve.app:app",
                "deployments": [
                    {"name": "Gateway", "num_replicas": settings.gateway_replicas, "max_surge_percent": 100},
                    {"name": "Challenger", "num_replicas": 1},
                    {"name": "Features", "num_replicas": 1},
                ],
            }
        ],
    }


def deploy(settings: Settings) -> float:
    """Deploy and wait; return how many seconds it took.

    Raises:
        UnavailableError: Ray refuses, or not everything is ready in time.
    """
    import ray  # reads the environment when it is imported, so `main` sets that first

    from serve.controller import CONTROLLER, NAMESPACE, Controller

    began = time.monotonic()
    ray.init(address=os.environ["RAY_ADDRESS"], namespace=NAMESPACE, logging_level="ERROR")
    controller = Controller.options(  # type: ignore[attr-defined]
        name=CONTROLLER, namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote()
    ray.get(controller.status.remote(), timeout=60)
    _put(settings)
    while time.monotonic() - began < _PATIENCE_SECONDS:
        known = ray.get(controller.status.remote(), timeout=30)
        complete = len(known["replicas"]) >= settings.gateway_replicas and not known["lagging"]
        if known["epoch"] and complete and _is_ready(settings):
            return time.monotonic() - began
        time.sleep(0.25)
    raise UnavailableError(f"not everything was ready within {_PATIENCE_SECONDS:g} s: {known}; {_trouble(settings)}")


def _put(settings: Settings) -> None:
    reply = httpx.put(
        f"{settings.ray_dashboard_url}/api/serve/applications/",
        json=application(settings),
        headers=_headers(settings),
        timeout=60.0,
        trust_env=False,
    )
    if reply.is_error:
        raise UnavailableError(f"Serve refuses the application: {reply.status_code} {reply.text[-500:]}")


def _trouble(settings: Settings) -> str:
    """What Serve says is wrong with the application."""
    url = f"{settings.ray_dashboard_url}/api/serve/applications/"
    reply = httpx.get(url, headers=_headers(settings), timeout=30.0, trust_env=False)
    if reply.is_error:
        return reply.text[-300:]
    app = reply.json()["applications"].get("gateway", {})
    return f"{app.get('status')} {app.get('message', '')[-600:]}"


def _headers(settings: Settings) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_file(settings).read_text().strip()}"}


def _is_ready(settings: Settings) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{settings.gateway_url}/v2/health/ready", timeout=2.0, trust_env=False).is_success
    return False


def main() -> int:
    """Deploy with the settings of the environment."""
    settings = Settings()
    for name, value in ray_client_environment(settings).items():
        os.environ.setdefault(name, value)
    try:
        seconds = deploy(settings)
    except PlimsollError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stdout.write(f"gateway, challengers' pool and controller are ready after {seconds:.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
