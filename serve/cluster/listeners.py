"""Every fixed port of a platform, and the setting that moves it. Pure.

What is not listed takes a free port of the kernel's choice and registers it with Ray: Ray's workers, among them each
replica's gRPC server. Ports of replicas' HTTP servers come from a range in which Serve skips those in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from lineage.settings import Settings

#: Replicas and their replacements during a change; there are 64 gateway replicas at most.
REPLICA_PORTS = 110


class RayPort(IntEnum):
    """A listener of Ray or HAProxy, as its distance from the platform's first Ray port (`Settings.ray_ports`)."""

    CLIENT_SERVER = 0
    AGENT_HTTP = 1
    AGENT_GRPC = 2
    RUNTIME_ENV_AGENT = 3
    METRICS_EXPORT = 4
    DASHBOARD_METRICS = 5
    FALLBACK_PROXY_HTTP = 6
    FALLBACK_PROXY_GRPC = 7
    HAPROXY_STATS = 8
    HAPROXY_METRICS = 9
    NODE_MANAGER = 10
    OBJECT_MANAGER = 11
    AUTOSCALER_METRICS = 12
    REPLICA_HTTP = 20
    REPLICA_GRPC = 20 + REPLICA_PORTS

    def of(self, settings: Settings) -> int:
        """The port itself."""
        return settings.ray_ports + self


@dataclass(frozen=True)
class Listener:
    """A port that a platform opens whenever it runs, and the name of the setting that moves it."""

    port: int
    setting: str
    title: str


def listeners(settings: Settings) -> list[Listener]:
    """Every fixed port, the ranges for replicas left out."""
    witness = [] if settings.witness_url else [Listener(settings.witness_port, "witness_port", "witness")]
    ranges = (RayPort.REPLICA_HTTP, RayPort.REPLICA_GRPC)
    return [
        Listener(settings.ledger_port, "ledger_port", "ledger service"),
        *witness,
        Listener(settings.gateway_port, "gateway_port", "predictions"),
        Listener(settings.console_port, "console_port", "console"),
        Listener(settings.ray_port, "ray_port", "Ray's GCS"),
        Listener(settings.ray_dashboard_port, "ray_dashboard_port", "Ray's dashboard"),
        *(
            Listener(port.of(settings), "ray_ports", f"Ray: {port.name.lower().replace('_', ' ')}")
            for port in RayPort
            if port not in ranges
        ),
    ]
