"""Prometheus metrics of the ledger service."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """Counts records, refusals, cosigned records and waiting events. Each service has its own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._records = Gauge("plimsoll_ledger_records", "Records in the log.", registry=self._registry)
        self._facts = Counter("plimsoll_ledger_facts_total", "Facts recorded.", ["kind"], registry=self._registry)
        self._cosigned = Gauge(
            "plimsoll_ledger_cosigned_records", "Records that the witness has cosigned.", registry=self._registry
        )
        self._disputed = Gauge(
            "plimsoll_ledger_witness_refusals", "1 once the witness refused to cosign.", registry=self._registry
        )
        self._away = Gauge(
            "plimsoll_ledger_witness_away",
            "1 while it is on record that the witness does not answer.",
            registry=self._registry,
        )
        self._outbox = Gauge(
            "plimsoll_openlineage_waiting_records", "Records not sent to OpenLineage yet.", registry=self._registry
        )
        self._dead = Gauge(
            "plimsoll_openlineage_dead_events", "OpenLineage events that were set aside.", registry=self._registry
        )
        self._missing = Gauge(
            "plimsoll_ledger_missing_segments",
            "Decision segments on record that could not be used when they were last wanted.",
            registry=self._registry,
        )
        self._refused = Counter(
            "plimsoll_ledger_refusals_total", "Actions a control refused.", ["code"], registry=self._registry
        )

    def count(self, record: dict[str, Any]) -> None:
        """Count one new record."""
        self._records.set(record["seq"])
        self._facts.labels(record["kind"]).inc()
        if record["kind"] in ("WitnessAway", "WitnessBack"):
            self._away.set(record["kind"] == "WitnessAway")
        if record["kind"] == "ActionRefused":
            self._refused.labels(record["data"]["code"]).inc()

    def outside(self, witness: dict[str, Any] | None, openlineage: dict[str, Any], missing_segments: int = 0) -> None:
        """Set the progress of the witness and of OpenLineage, and the number of missing segments."""
        self._missing.set(missing_segments)
        if witness is not None:
            self._cosigned.set(witness["cosigned_size"])
            self._disputed.set(witness["refused"] is not None)
        self._outbox.set(openlineage["waiting"])
        self._dead.set(openlineage["dead"])

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
