"""Publishing and acknowledgement of tables: every live replica counts, and a dead one delays nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from serve.controller.replicas import SILENT_SECONDS, ReplicaRegistry
from serve.controller.route_publisher import RoutePublisher
from tests.support.sample_routes import table


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def report(replica: str, order: tuple[int, int] = (0, 0), **changes: Any) -> dict[str, Any]:
    return {
        "replica": replica,
        "host": "here",
        "process": os.getpid(),
        "order": list(order),
        "refused": {},
    } | changes


def registry(alive: bool = True) -> tuple[ReplicaRegistry, Clock]:
    clock = Clock()
    return ReplicaRegistry(clock, alive=lambda process: alive, host="here"), clock


def test_all_replicas_have_to_run_the_table() -> None:
    known, _ = registry()
    assert not known.has_acked((1, 1))  # nobody is not everybody
    known.note(report("a", (1, 1)))
    known.note(report("b", (1, 0)))
    assert known.lagging((1, 1)) == ["b"]
    known.note(report("b", (1, 2)))
    assert known.has_acked((1, 1))


def test_a_dead_process_is_forgotten_and_a_silent_one_is_waited_for() -> None:
    known, clock = registry()
    known.note(report("a"))
    known.note(report("far", host="elsewhere"))
    clock.now += SILENT_SECONDS + 1
    assert known.replicas() == ["a"]
    known.alive = lambda process: False
    assert known.replicas() == []


def test_a_watching_replica_hears_of_a_new_table_at_once_and_its_next_question_is_the_ack(tmp_path: Path) -> None:
    async def story() -> None:
        known, _ = registry()
        publisher = RoutePublisher(tmp_path / "routes.json", known)
        waiting = asyncio.create_task(publisher.watch(report("a")))
        await asyncio.sleep(0)
        assert publisher.publish(table(5, 7)) == ["m"]
        offered = await waiting
        assert offered is not None
        assert offered["version"] == 7
        acked = asyncio.create_task(publisher.acked((5, 7)))
        again = asyncio.create_task(publisher.watch(report("a", (5, 7))))
        await asyncio.wait_for(acked, 2)
        again.cancel()

    asyncio.run(story())


def test_only_changed_routes_are_named_and_the_last_table_survives_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        known, _ = registry()
        publisher = RoutePublisher(tmp_path / "routes.json", known)
        publisher.publish(table(5, 7))
        assert publisher.publish(table(5, 8)) == []
        assert publisher.publish(table(5, 9, share=0.5)) == ["m"]
        restarted = RoutePublisher(tmp_path / "routes.json", known)
        assert restarted.table == publisher.table
        assert restarted.publish(table(11, 11, share=0.5)) == []
        assert restarted.table is not None
        assert restarted.table.epoch == 11

    asyncio.run(story())
