"""The desired deployment: number of gateway replicas, and a generation for each deployment. `plimsoll up` resets it.

A higher generation makes Serve replace the processes of a deployment. It is set for each deployment, never for the
whole application: Ray would import and build the application anew, and send all requests through a proxy in Python
meanwhile (measured: five to seven seconds, half of the requests refused on two busy processors).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from lineage.errors import UnavailableError
from lineage.settings import Settings

#: Deployments in the order in which they are replaced: callees before their callers.
ORDER = ("Features", "Challenger", "Gateway")


@dataclass(frozen=True)
class Deployment:
    """The desired state of the Serve application.

    Attributes:
        replicas: number of gateway replicas.
        generations: by deployment, how often its processes were replaced on request.
    """

    replicas: int
    generations: Mapping[str, int] = field(default_factory=dict)

    def renewed(self, name: str) -> Deployment:
        """A copy in which one deployment gets new processes."""
        return replace(self, generations=dict(self.generations) | {name: self.generations.get(name, 0) + 1})

    def application(self, settings: Settings) -> dict[str, Any]:
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
                    "deployments": [self._of(name) for name in ORDER],
                }
            ],
        }

    def _of(self, name: str) -> dict[str, Any]:
        environment = {"PLIMSOLL_GENERATION": str(self.generations[name])} if name in self.generations else {}
        own = {"runtime_env": {"env_vars": environment}} if environment else {}
        return {
            "name": name,
            "num_replicas": self.replicas if name == "Gateway" else 1,
            # New replicas start before old ones stop, a fifth at a time: starting is expensive in CPU.
            "max_surge_percent": 20,
            "ray_actor_options": {"num_cpus": 0} | own,
        }


def desired_deployment(settings: Settings) -> Deployment:
    """What was last saved since `plimsoll up`, else what the settings give.

    Raises:
        UnavailableError: the file cannot be read.
    """
    try:
        return Deployment(**orjson.loads(_file(settings).read_bytes()))
    except FileNotFoundError:
        return Deployment(settings.gateway_replicas)
    except (OSError, ValueError, TypeError) as error:
        raise UnavailableError(
            f"{_file(settings)} cannot be read ({error}); delete it to return to the settings"
        ) from error


def save_desired(settings: Settings, deployment: Deployment) -> None:
    """Save it, so that a restarted Ray gets the same deployment."""
    path = _file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_bytes(orjson.dumps(asdict(deployment)))
    draft.replace(path)


def forget_desired(settings: Settings) -> None:
    """Delete what was saved: the settings apply again."""
    _file(settings).unlink(missing_ok=True)


def _file(settings: Settings) -> Path:
    return settings.run / "deployment.json"
