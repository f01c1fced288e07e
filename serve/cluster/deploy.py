"""`python -m serve.cluster.deploy [--replicas N] [--renew]`: deploy controller, gateway and pools on a running Ray.

Exits when everything desired is ready. Progress goes to standard error, the result as JSON to standard output. The
application is deployed by Serve's REST API: calling `serve.run` again would replace every replica.
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
from serve.cluster.desired import ORDER, Deployment, desired_deployment, save_desired
from serve.cluster.ray_settings import ray_client_environment, token_file

_TIMEOUT_SECONDS = 150.0
_POLL_SECONDS = 0.25
_TITLES = {"Features": "feature reader", "Challenger": "challenger pool", "Gateway": "gateway"}


@dataclass(frozen=True)
class Part:
    """One deployment as Serve reports it: ids of its replicas, and whether all of them run and are healthy."""

    replicas: frozenset[str]
    steady: bool


class Deployer:
    """Deploys on one Ray cluster and waits until the deployment is complete."""

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        import ray  # reads the environment when it is imported, so `main` sets that first

        from serve.controller.actor import NAMESPACE

        self._ray, self._settings, self._report = ray, settings, report
        ray.init(address=os.environ["RAY_ADDRESS"], namespace=NAMESPACE, logging_level="ERROR")

    def deploy(self, deployment: Deployment) -> None:
        """Deploy, and wait until all replicas run the newest routes.

        Raises:
            UnavailableError: Ray refuses it, or it is not complete in time.
        """
        self._put(deployment)
        self._wait(lambda: self._complete(deployment) and self._answers())

    def renew(self, deployment: Deployment) -> Deployment:
        """Replace every process in order; old processes answer until the new ones do.

        Raises:
            UnavailableError: as for `deploy`. What was replaced by then stays, the rest keeps its processes.
        """
        for name in ORDER:
            began, old = time.monotonic(), self._parts()[name].replicas
            before, deployment = deployment, deployment.renewed(name)
            self._put(deployment)
            try:
                self._wait(partial(self._is_renewed, name, old))
            except UnavailableError:
                self._put(before)  # the old processes still answer
                raise
            save_desired(self._settings, deployment)
            self._report(f"{_TITLES[name]}: {len(old)} replaced in {time.monotonic() - began:.1f} s")
        self._new_controller()
        self._wait(lambda: self._complete(deployment) and self._answers())
        return deployment

    def _controller(self) -> Any:
        from serve.controller.actor import CONTROLLER, NAMESPACE, Controller

        options = {"name": CONTROLLER, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
        return Controller.options(**options).remote()  # type: ignore[attr-defined]

    def _new_controller(self) -> None:
        """Replace the controller. It has no state: routes stay as they are, and its successor reads the ledger.

        It comes last, after code that does not start has failed in another deployment.
        """
        began, old = time.monotonic(), self._status()["epoch"]
        self._ray.kill(self._controller())
        self._wait(lambda: (self._status()["epoch"] or 0) > (old or 0))
        self._report(f"controller: 1 replaced in {time.monotonic() - began:.1f} s")

    def _status(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = self._ray.get(self._controller().status.remote(), timeout=60)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.GetTimeoutError):  # starting or stopping
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
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not done():
            app = self._application()
            messages = _messages(app)
            if app.get("status") == "DEPLOY_FAILED":
                raise UnavailableError(f"new processes do not start: {messages or 'Serve gives no reason'}")
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"not everything was ready within {_TIMEOUT_SECONDS:g} s: "
                    f"{_progress(self._status())}; application {app.get('status', 'not deployed')} {messages}".rstrip()
                )
            time.sleep(_POLL_SECONDS)

    def _put(self, deployment: Deployment) -> None:
        self._serve("PUT", json=deployment.application(self._settings))

    def _application(self) -> dict[str, Any]:
        """Serve's report on the application; empty before the first deployment."""
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


def _messages(application: dict[str, Any]) -> str:
    """Serve's messages about the application and those of its deployments that have one."""
    parts = application.get("deployments", {}).values()
    reasons = (f"{one['name']}: {one['message'].strip()[-1500:]}" for one in parts if one.get("message"))
    return " ".join([application.get("message", ""), *reasons]).strip()


def _progress(status: dict[str, Any]) -> str:
    """The controller's status in words."""
    if status["epoch"] is None:
        return "the controller has not taken over yet"
    return f"{len(status['replicas'])} gateway replicas registered, {len(status['lagging'])} on older routes"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serve.cluster.deploy", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--replicas", type=int, help="number of gateway replicas")
    parser.add_argument("--renew", action="store_true", help="replace every process")
    return parser.parse_args()


def main() -> int:
    """Deploy with the settings of the environment; return the exit status."""
    given, settings, began = _arguments(), Settings(), time.monotonic()
    os.environ.update(ray_client_environment(settings))  # a shell's RAY_ADDRESS may name another cluster

    def report(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        deployment = desired_deployment(settings)
        if given.replicas is not None:
            deployment = replace(deployment, replicas=given.replicas)
            save_desired(settings, deployment)
        deployer = Deployer(settings, report)
        deployer.deploy(deployment)
        if given.renew:
            deployment = deployer.renew(deployment)
    except PlimsollError as error:
        report(error.message)
        return 1
    seconds = round(time.monotonic() - began, 1)
    sys.stdout.write(orjson.dumps({"replicas": deployment.replicas, "seconds": seconds}).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
