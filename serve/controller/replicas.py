"""Registry of the gateway replicas: which are alive, and which route table each one runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: Seconds without a report after which a replica on another machine counts as gone; here its process is checked.
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
    """Last report of a replica.

    Attributes:
        order: (epoch, version) of the table that it runs.
        refused: digests of bundles that it did not load -> why.
        at: seconds since the epoch, by the registry's clock.
    """

    order: Order
    host: str
    process: int
    refused: dict[str, str]
    at: float


@dataclass
class ReplicaRegistry:
    """Last report of each replica, by replica id."""

    clock: Callable[[], float]
    alive: Callable[[int], bool] = process_alive
    host: str = field(default_factory=socket.gethostname)
    reports: dict[str, Report] = field(default_factory=dict)
    answers: dict[str, dict[str, int]] = field(default_factory=dict)  # last numbers by writer and model, until taken

    def note(self, report: dict[str, Any]) -> None:
        """Store the report that a replica sent with its request for a newer table."""
        if "answers" in report:  # {"writer", "counts"}; not in reports of an earlier version
            self.answers[report["answers"]["writer"]] = report["answers"]["counts"]
        first, second = report["order"]
        self.reports[report["replica"]] = Report(
            (first, second), report["host"], report["process"], report["refused"], self.clock()
        )

    def take_answers(self) -> dict[str, dict[str, int]]:
        """The numbers of the last answers that writers reported since the last call."""
        taken, self.answers = self.answers, {}
        return taken

    def replicas(self) -> list[str]:
        """Ids of the replicas that are alive; reports of the others are removed."""
        self.reports = {name: report for name, report in self.reports.items() if self._is_alive(report)}
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

    def _is_alive(self, report: Report) -> bool:
        if report.host == self.host:
            return self.alive(report.process)
        return self.clock() - report.at < SILENT_SECONDS
