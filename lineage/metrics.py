"""The ledger service's own metrics, in Prometheus' names."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """Counts what the ledger records; one registry a service, so that tests never share one."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._records = Gauge("plimsoll_ledger_records", "Records in the log.", registry=self._registry)
        self._facts = Counter("plimsoll_ledger_facts_total", "Facts recorded.", ["kind"], registry=self._registry)
        self._refused = Counter(
            "plimsoll_ledger_refusals_total", "Actions a control refused.", ["code"], registry=self._registry
        )

    def count(self, record: dict[str, Any]) -> None:
        """Take in one new record."""
        self._records.set(record["seq"])
        self._facts.labels(record["kind"]).inc()
        if record["kind"] == "ActionRefused":
            self._refused.labels(record["data"]["code"]).inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
