"""`python -m serve.cluster.deploy [--replicas N] [--renew]`: put controller, gateway and pools on a running Ray.

Ends when all that is wanted is ready; says how far it is on standard error, and as JSON what it came to. The
application goes in by Serve's REST interface: calling `serve.run` again would replace every replica.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import httpx
import orjson

from lineage.errors import PlimsollError, UnavailableError
from lineage.settings import Settings
from serve.cluster.desired import ORDER, Deployment, wanted, wish
from serve.cluster.ray_settings import ray_client_environment, token_file

_PATIENCE_SECONDS = 150.0
_POLL_SECONDS = 0.25
_TITLES = {"Features": "feature reader", "Challenger": "challengers' pool", "Gateway": "gateway"}


@dataclass(frozen=True)
class Part:
    """One deployment as Ray sees it: ids of its replicas, and whether they are what is wanted."""

    replicas: frozenset[str]
    steady: bool


class Deployer:
    """Changes what runs on this Ray, and waits until it is so."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        import ray  # reads the environment when it is imported, so `main` sets that first

        from serve.controller.actor import NAMESPACE

        self._ray, self._settings, self._say = ray, settings, say
        ray.init(address=os.environ["RAY_ADDRESS"], namespace=NAMESPACE, logging_level="ERROR")

    def deploy(self, deployment: Deployment) -> None:
        """Have it, with all replicas on the newest routes.

        Raises:
            UnavailableError: Ray refuses, or not everything is ready in time.
        """
        self._put(deployment)
        self._wait(lambda: self._complete(deployment) and self._answers())

    def renew(self, deployment: Deployment) -> Deployment:
        """Replace every process by a new one, in order; what was there answers until the new one does.

        Raises:
            UnavailableError: as for `deploy`. What was replaced by then stays so, the rest is as before.
        """
        for name in ORDER:
            began, old = time.monotonic(), self._parts()[name].replicas
            before, deployment = deployment, deployment.renewed(name)
            self._put(deployment)
            try:
                self._wait(partial(self._is_renewed, name, old))
            except UnavailableError:
                self._put(before)  # the old ones still answer, and are what is wanted again
                raise
            wish(self._settings, deployment)
            self._say(f"{_TITLES[name]}: {len(old)} replaced in {time.monotonic() - began:.1f} s")
        self._new_controller()
        self._wait(lambda: self._complete(deployment) and self._answers())
        return deployment

    def _controller(self) -> Any:
        from serve.controller.actor import CONTROLLER, NAMESPACE, Controller

        options = {"name": CONTROLLER, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
        return Controller.options(**options).remote()  # type: ignore[attr-defined]

    def _new_controller(self) -> None:
        """It holds nothing: meanwhile routes stay as they are, and what is new is on record for its successor.

        It is the last one: code that does not even start was found out by then.
        """
        began, old = time.monotonic(), self._status()["epoch"]
        self._ray.kill(self._controller())
        self._wait(lambda: (self._status()["epoch"] or 0) > (old or 0))
        self._say(f"controller: 1 replaced in {time.monotonic() - began:.1f} s")

    def _status(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = self._ray.get(self._controller().status.remote(), timeout=60)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.GetTimeoutError):  # it comes or goes
            known = {"epoch": None, "replicas": [], "lagging": []}
        return known

    def _complete(self, deployment: Deployment) -> bool:
        known, gateways = self._status(), self._parts().get("Gateway")
        if gateways is None or not gateways.steady or not known["epoch"] or known["lagging"]:
            return False
        return len(gateways.replicas & set(known["replicas"])) == len(gateways.replicas) == deployment.replicas

    def _is_renewed(self, name: str, old: frozenset[str]) -> bool:
        part = self._parts()[name]
        return part.steady and not part.replicas & old

    def _parts(self) -> dict[str, Part]:
        found = self._application().get("deployments", {})
        return {
            name: Part(
                frozenset(one["replica_id"] for one in part["replicas"] if one["state"] != "STOPPING"),
                part["status"] == "HEALTHY" and all(one["state"] == "RUNNING" for one in part["replicas"]),
            )
            for name, part in found.items()
        }

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            url = f"{self._settings.gateway_url}/v2/health/ready"
            return httpx.get(url, timeout=2.0, trust_env=False).is_success
        return False

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not done():
            app = self._application()
            trouble = _trouble(app)
            if app.get("status") == "DEPLOY_FAILED":
                raise UnavailableError(f"new processes do not start: {trouble}")
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"not everything was ready within {_PATIENCE_SECONDS:g} s: {self._status()}; "
                    f"{app.get('status')} {trouble}"
                )
            time.sleep(_POLL_SECONDS)

    def _put(self, deployment: Deployment) -> None:
        self._serve("PUT", json=deployment.application(self._settings))

    def _application(self) -> dict[str, Any]:
        """What Serve says of the application."""
        found: dict[str, Any] = self._serve("GET").json()["applications"].get("gateway", {})
        return found

    def _serve(self, method: str, **content: Any) -> httpx.Response:
        url = f"{self._settings.ray_dashboard_url}/api/serve/applications/"
        headers = {"Authorization": f"Bearer {token_file(self._settings).read_text().strip()}"}
        try:
            reply = httpx.request(method, url, headers=headers, timeout=60.0, trust_env=False, **content)
        except httpx.TransportError as error:
            raise UnavailableError(f"Ray's dashboard does not answer at {url}: {error}") from error
        if reply.is_error:
            raise UnavailableError(f"Serve refuses {method} {url}: {reply.status_code} {reply.text[-500:]}")
        return reply


def _trouble(application: dict[str, Any]) -> str:
    """What Serve says is wrong, of those deployments that it names a reason of."""
    parts = application.get("deployments", {}).values()
    reasons = (f"{one['name']}: {one['message'].strip()[-1500:]}" for one in parts if one.get("message"))
    return " ".join([application.get("message", ""), *reasons]).strip()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serve.cluster.deploy", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--replicas", type=int, help="gateway replicas from now on")
    parser.add_argument("--renew", action="store_true", help="replace every process by a new one")
    return parser.parse_args()


def main() -> int:
    """Deploy with the settings of the environment."""
    given, settings, began = _arguments(), Settings(), time.monotonic()
    for name, value in ray_client_environment(settings).items():
        os.environ.setdefault(name, value)

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        deployment = wanted(settings)
        if given.replicas is not None:
            deployment = replace(deployment, replicas=given.replicas)
            wish(settings, deployment)
        deployer = Deployer(settings, say)
        deployer.deploy(deployment)
        if given.renew:
            deployment = deployer.renew(deployment)
    except PlimsollError as error:
        say(error.message)
        return 1
    seconds = round(time.monotonic() - began, 1)
    sys.stdout.write(orjson.dumps({"replicas": deployment.replicas, "seconds": seconds}).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
