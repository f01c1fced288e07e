"""The gateway replicas as the controller knows them: who is there, and which route table each one runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: A replica on another machine that has not asked for so long is gone; on this machine its process is looked at.
SILENT_SECONDS = 12.0
Order = tuple[int, int]


def process_alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass
class Report:
    """What a replica said of itself when it last asked."""

    order: Order
    host: str
    process: int
    refused: dict[str, str]
    at: float


@dataclass
class ReplicaRegistry:
    """Replicas by id."""

    clock: Callable[[], float]
    alive: Callable[[int], bool] = process_alive
    host: str = field(default_factory=socket.gethostname)
    reports: dict[str, Report] = field(default_factory=dict)

    def note(self, report: dict[str, Any]) -> None:
        """A replica asks, and so says what it runs."""
        first, second = report["order"]
        self.reports[report["replica"]] = Report(
            (first, second), report["host"], report["process"], report["refused"], self.clock()
        )

    def replicas(self) -> list[str]:
        """Ids of the replicas that are there; those that are gone are forgotten."""
        self.reports = {name: report for name, report in self.reports.items() if self._is_there(report)}
        return sorted(self.reports)

    def lagging(self, order: Order) -> list[str]:
        """Replicas that do not run this table or a later one."""
        return [name for name in self.replicas() if self.reports[name].order < order]

    def has_acked(self, order: Order) -> bool:
        """True where there are replicas and all of them run this table or a later one."""
        return bool(self.replicas()) and not self.lagging(order)

    def refused(self) -> dict[str, str]:
        """Digests that any replica refused -> why."""
        return {digest: why for report in self.reports.values() for digest, why in report.refused.items()}

    def _is_there(self, report: Report) -> bool:
        if report.host == self.host:
            return self.alive(report.process)
        return self.clock() - report.at < SILENT_SECONDS
