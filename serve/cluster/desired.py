"""What should be deployed: how many gateway replicas, and which generation of processes. The next start forgets it.

A higher generation of a deployment has its processes replaced. It is said by deployment, never for the whole
application: then Ray would import and build it anew, and as long as it does so it sends all requests through a proxy
in Python (measured: five to seven seconds, half of the requests refused on two busy processors).
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

#: Deployments in the order in which they are replaced: what others call comes first.
ORDER = ("Features", "Challenger", "Gateway")


@dataclass(frozen=True)
class Deployment:
    """A wish.

    Attributes:
        replicas: of the gateway.
        generations: how often each deployment's processes were replaced on purpose.
    """

    replicas: int
    generations: Mapping[str, int] = field(default_factory=dict)

    def renewed(self, name: str) -> Deployment:
        """With new processes for one deployment."""
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
            # The new one is there before the old one goes; one or a fifth at a time, for starting takes processors.
            "max_surge_percent": 20,
            "ray_actor_options": {"num_cpus": 0} | own,
        }


def wanted(settings: Settings) -> Deployment:
    """What was last wished for since `up`, or what the settings say.

    Raises:
        UnavailableError: the file cannot be read.
    """
    try:
        return Deployment(**orjson.loads(_file(settings).read_bytes()))
    except FileNotFoundError:
        return Deployment(settings.gateway_replicas)
    except (OSError, ValueError, TypeError) as error:
        raise UnavailableError(
            f"{_file(settings)} cannot be read ({error}); delete it to have what the settings say"
        ) from error


def wish(settings: Settings, deployment: Deployment) -> None:
    """Remember it: Ray, when it is started anew, is given the same."""
    path = _file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_bytes(orjson.dumps(asdict(deployment)))
    draft.replace(path)


def forget_wish(settings: Settings) -> None:
    """From now on what the settings say."""
    _file(settings).unlink(missing_ok=True)


def _file(settings: Settings) -> Path:
    return settings.run / "deployment.json"
