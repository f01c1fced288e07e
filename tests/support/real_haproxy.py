"""The real HAProxy as Ray starts it, with the file that Ray's own code writes, corrected; no cluster is needed.

Run as a program it writes the two files, in the environment that the platform gives to Ray.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lineage.settings import Settings
from serve.cluster.haproxy_config import Limits, corrected, fingerprint, standby_config
from serve.cluster.ray_settings import ingress_config, ray_environment
from tests.support.gateway_servers import SERVICE, _listener, running


@dataclass(frozen=True)
class Written:
    """What Ray writes: with two replicas behind it and, as a new HAProxy has it at first, with none."""

    routed: str
    unrouted: str

    def moved(self, port: int, to: int) -> Written:
        """The same with the replica that was written at one port at another: to ask Ray again takes seconds."""
        return Written(self.routed.replace(str(port), str(to)), self.unrouted)


def ray_writes(settings: Settings, ports: Sequence[int]) -> Written:
    """Both files, for replicas at these ports.

    In a process of its own: Ray reads the environment when it is imported.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = ray_environment(settings) | {"PYTHONPATH": ":".join(sys.path)}
        request = json.dumps({"folder": folder, "port": settings.gateway_port, "ports": list(ports)})
        command = [sys.executable, "-m", "tests.support.real_haproxy", request]
        subprocess.run(command, env=environment, check=True, capture_output=True, cwd=Path(__file__).parents[2])
        texts = [(Path(folder) / f"{name}.cfg").read_text() for name in ("routed", "unrouted")]
    own = str(ingress_config(settings).folder)
    return Written(*(text.replace(folder, own) for text in texts))


App = Callable[[Scope, Receive, Send], Any]


def healthy(app: App) -> App:
    """The application as it is behind Ray, which answers HAProxy's questions of health itself."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/-/healthz":
            await Response("success")(scope, receive, send)
        else:
            await app(scope, receive, send)

    return asked


@contextmanager
def guarded(written: Written, folder: Path, limits: Limits) -> Iterator[int]:
    """HAProxy with these limits; yields the port for customers."""
    listener = _listener()
    text = corrected(written.routed, "127.0.0.1", limits, fingerprint(SERVICE))
    config = folder / "haproxy.cfg"
    config.write_text(standby_config(text, f"fd@{listener.fileno()}"))  # other listeners would be in others' way
    with running(config, listener):
        yield listener.getsockname()[1]


def _write(request: dict[str, Any]) -> None:
    from ray.serve._private import haproxy as ray_haproxy
    from ray.serve._private.common import RequestProtocol
    from ray.serve.config import HTTPOptions

    folder = Path(request["folder"])
    written = folder / "haproxy.cfg"
    places = {name: str(folder / file) for name, file in _FILES.items()}
    options = HTTPOptions(host="127.0.0.1", port=request["port"])
    config = ray_haproxy.HAProxyConfig(http_options=options, is_head=True, **places)  # type: ignore[arg-type]

    def server(name: str, port: int) -> ray_haproxy.ServerConfig:
        return ray_haproxy.ServerConfig(name=name, host="127.0.0.1", port=port, replica_id=name)

    async def write() -> None:
        api = ray_haproxy.HAProxyApi(config, config_file_path=str(written))
        api._generate_config_file_internal()
        written.rename(folder / "unrouted.cfg")
        backend = ray_haproxy.BackendConfig(
            name="http-gateway",
            path_prefix="/",
            servers=[server(f"SERVE_REPLICA__gateway-Gateway-{port}", port) for port in request["ports"]],
            app_name="gateway",
            ingress_deployment_name="Gateway",
            fallback_server=server("SERVE_PROXY_ACTOR-head", 9),
            protocol=RequestProtocol.HTTP,
        )
        api.set_backend_configs({"http-gateway": backend})
        api._generate_config_file_internal()
        written.rename(folder / "routed.cfg")

    asyncio.run(write())


_FILES = {
    "socket_path": "a.sock",
    "server_state_base": "",
    "server_state_file": "state",
    "metrics_socket_path": "m.sock",
}

if __name__ == "__main__":
    _write(json.loads(sys.argv[1]))
