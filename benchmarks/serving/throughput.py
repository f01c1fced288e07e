"""Requests a second of governed decisions and of bare models elsewhere, and what they cost in CPU time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.serving import contenders, platform
from benchmarks.serving.contenders import Contender
from benchmarks.serving.peer_mlserver import NotInstalled
from benchmarks.serving.rounds import Round, ratios, take_turns, text
from benchmarks.serving.stage import Stage

CLIENTS = (1, 16)
_ROWS = 6_000


def lines(stage: Stage, folder: Path) -> Iterator[str]:
    """The comparison with one gateway replica, then the floor again with two."""
    favourable = stage.sorted_rows[0][:_ROWS]
    ours = stage.contender("Plimsoll, 1 replica", favourable)
    with ExitStack() as stack:
        floor = stack.enter_context(contenders.floor(folder, stage.model, favourable))
        peers = [*floor, stack.enter_context(contenders.ray_defaults(folder, stage.model, favourable))]
        try:
            peers.append(stack.enter_context(contenders.mlserver(folder, stage.model, favourable)))
        except NotInstalled as missing:
            yield f"without MLServer: {missing}"
        yield _same_model([ours, *peers])
        for clients in CLIENTS:
            yield from _compared([ours, *peers], clients)
    platform.scale(stage.settings, 2)
    ours = stage.contender("Plimsoll, 2 replicas", favourable)
    with contenders.floor(folder, stage.model, favourable) as floor:
        for clients in CLIENTS:
            yield from _compared([ours, floor[0]], clients)
    platform.scale(stage.settings, 1)


def _same_model(all_contenders: Sequence[Contender]) -> str:
    scores = [contenders.score_in(one) for one in all_contenders]
    alike = np.allclose(scores, scores[0], rtol=0, atol=1e-6)
    if not alike:
        raise AssertionError(f"they do not answer with the same model: {scores}")
    return f"all {len(all_contenders)} answer the first row with {scores[0]:.6f}: it is the same model"


def _compared(all_contenders: Sequence[Contender], clients: int) -> Iterator[str]:
    results = take_turns(all_contenders, clients)
    ours = results[0]
    yield f"{clients} client{'s' if clients > 1 else ''}, requests/s, per CPU-second of the server side, p50 and p99:"
    for contender, theirs in zip(all_contenders, results, strict=True):
        yield f"  {contender.name:<24}{_line(theirs)}"
        if theirs is not ours:
            rate = ratios([one.rate for one in ours], [one.rate for one in theirs])
            thrift = ratios([one.thrift for one in ours], [one.thrift for one in theirs])
            yield f"    Plimsoll is {text(rate, 2)}x, per CPU-second {text(thrift, 2)}x"


def _line(rounds: Sequence[Round]) -> str:
    rate, thrift = text([one.rate for one in rounds]), text([one.thrift for one in rounds])
    half, slow = text([one.wait(0.5) for one in rounds], 2), text([one.wait(0.99) for one in rounds], 1)
    failed = sum(one.taken.failed for one in rounds)
    return f"{rate:<22} {thrift:<22} {half} ms, {slow} ms" + (f"  FAILED: {failed}" if failed else "")
