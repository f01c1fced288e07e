"""Cost of an exact explanation: adverse decisions with reasons beside favourable ones without."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.serving.rounds import ratios, take_turns, text
from benchmarks.serving.stage import Stage

CLIENTS = 8


def lines(stage: Stage) -> Iterator[str]:
    """Latency with and without, and the ratio of adjacent rounds."""
    favourable, adverse = stage.sorted_rows
    without = stage.contender("without", favourable[: len(adverse)])
    explained = stage.contender("explained", adverse)
    plain, with_reasons = take_turns([without, explained], CLIENTS)
    yield f"{CLIENTS} clients, p50 and p99 of a decision:"
    for name, rounds in (("without explanation", plain), ("with exact reasons", with_reasons)):
        rate, failed = text([one.rate for one in rounds]), sum(one.taken.failed for one in rounds)
        half, slow = (text([one.wait(share) for one in rounds], 2) for share in (0.5, 0.99))
        yield f"  {name:<22}{half} ms, {slow} ms, {rate} requests/s" + (f"  FAILED: {failed}" if failed else "")
    for share in (0.5, 0.99):
        ratio = ratios([one.wait(share) for one in with_reasons], [one.wait(share) for one in plain])
        yield f"  p{100 * share:.0f} with reasons is {text(ratio, 2)}x of without"
