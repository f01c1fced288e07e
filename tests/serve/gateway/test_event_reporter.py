"""Events of a replica are sent in order, once each, and again until they are on record."""

from __future__ import annotations

import asyncio

from serve.decision.circuit_breakers import BreakerEvent
from serve.gateway.event_reporter import EventReporter


def test_an_unacknowledged_event_is_sent_again_under_the_same_key() -> None:
    async def run() -> list[tuple[str, str]]:
        heard, done = list[tuple[str, str]](), asyncio.Event()

        async def send(event: BreakerEvent, key: str) -> bool:
            heard.append((event.model, key))
            if len(heard) == 5:
                done.set()
            return len(heard) > 2  # the first two attempts fail

        reporter = EventReporter(send, retry_seconds=0.0)
        for model in ("a", "b", "c"):
            reporter.add(BreakerEvent("BreakerOpened", model, {}))
        await asyncio.wait_for(done.wait(), 20)
        return heard

    heard = asyncio.run(run())
    assert [model for model, _ in heard] == ["a", "a", "a", "b", "c"]
    keys = [key for _, key in heard]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys)) == 3
