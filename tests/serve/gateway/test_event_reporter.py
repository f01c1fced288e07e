"""What a replica has to say is told in order, once each, and again until it is on record."""

from __future__ import annotations

import asyncio

from serve.decision.circuit_breakers import BreakerEvent
from serve.gateway.event_reporter import EventReporter


def test_what_is_not_on_record_yet_is_told_again_under_the_same_key() -> None:
    async def run() -> list[tuple[str, str]]:
        heard, done = list[tuple[str, str]](), asyncio.Event()

        async def tell(told: BreakerEvent, key: str) -> bool:
            heard.append((told.model, key))
            if len(heard) == 5:
                done.set()
            return len(heard) > 2  # twice the ledger is away

        telling = EventReporter(tell, retry_seconds=0.0)
        for model in ("a", "b", "c"):
            telling.add(BreakerEvent("BreakerOpened", model, {}))
        await asyncio.wait_for(done.wait(), 20)
        return heard

    heard = asyncio.run(run())
    assert [model for model, _ in heard] == ["a", "a", "a", "b", "c"]
    keys = [key for _, key in heard]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys)) == 3
