"""The client of the challenger pool: bounded concurrency, single probes while it fails, and no queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayTaskError

from lineage.errors import UnavailableError
from serve.decision.challenger_client import ChallengerClient
from serve.routes import Target

TARGET = Target("loan@2", "sha256:" + "2" * 64)


class Handle:
    """A handle as Serve gives it: what `score` does next stands in `does`."""

    def __init__(self) -> None:
        self.does: list[Exception | asyncio.Event | None] = []
        self.asked = 0
        self.score = self.prepare = self

    async def remote(self, *asked: Any) -> list[dict[str, Any]]:
        self.asked += 1
        what = self.does.pop(0) if self.does else None
        if isinstance(what, Exception):
            raise what
        if what is not None:
            await what.wait()
        return [{"score": 0.5}]


class Bench:
    """A pool that is prepared, its handle and its clock."""

    def __init__(self) -> None:
        self.now, self.handle = 0.0, Handle()
        self.pool = ChallengerClient(self.handle, lambda: self.now)
        asyncio.run(self.pool.prepare(TARGET))
        self.handle.asked = 0

    async def ask(self) -> list[dict[str, Any]]:
        return await self.pool(TARGET, [{}])


def test_a_full_pool_gets_nobody_and_so_nobody_is_on_an_arm() -> None:
    bench, gate = Bench(), asyncio.Event()

    async def run() -> None:
        bench.handle.does = [gate, gate]
        under_way = [asyncio.create_task(bench.ask()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not bench.pool.is_ready(TARGET)
        with pytest.raises(UnavailableError, match="no room"):
            await bench.ask()
        gate.set()
        await asyncio.gather(*under_way)
        assert bench.pool.is_ready(TARGET)

    asyncio.run(run())


def test_after_a_time_out_it_rests_and_then_one_request_tries() -> None:
    bench, never = Bench(), asyncio.Event()

    async def run() -> None:
        bench.handle.does = [never]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await bench.ask()
        assert bench.pool.is_ready(TARGET)  # its failures are counted, at once
        with pytest.raises(UnavailableError, match="a moment ago"):
            await bench.ask()
        bench.now += 1.0
        bench.handle.does = [never]
        trying = asyncio.create_task(bench.ask())
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="no room"):
            await bench.ask()
        never.set()
        await trying
        assert await bench.ask() == [{"score": 0.5}]

    asyncio.run(run())


def test_a_process_that_died_is_asked_once_more_and_what_the_scorer_raised_is_not() -> None:
    bench = Bench()
    bench.handle.does = [RayActorError()]
    assert asyncio.run(bench.ask()) == [{"score": 0.5}]
    assert bench.handle.asked == 2
    assert bench.pool.is_ready(TARGET)
    bench.handle.does = [RayTaskError("score", "trace", ValueError("row"))]
    with pytest.raises(UnavailableError):
        asyncio.run(bench.ask())
    assert bench.handle.asked == 3


def test_the_second_try_does_not_wait_for_another_process_to_start() -> None:
    bench = Bench()

    async def run() -> None:
        bench.handle.does = [RayActorError(), asyncio.Event()]
        with pytest.raises(UnavailableError, match="TimeoutError"):
            await bench.ask()
        with pytest.raises(UnavailableError, match="a moment ago"):
            await bench.ask()

    asyncio.run(run())


def test_what_cannot_be_prepared_is_assigned_all_the_same() -> None:
    bench = Bench()
    other = Target("loan@3", "sha256:" + "3" * 64)
    assert not bench.pool.is_ready(other)
    bench.handle.does = [RayActorError()]
    asyncio.run(bench.pool.prepare(other))
    assert bench.pool.is_ready(other)
