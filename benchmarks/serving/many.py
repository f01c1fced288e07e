"""500 models behind one gateway: memory of each, and random ones against a hot one."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.serving.home import named
from benchmarks.serving.load import request_of
from benchmarks.serving.model import rows
from benchmarks.serving.rounds import QUICK, ratios, take_turns, text
from benchmarks.serving.stage import Stage, staged
from validators.scoring.xgboost_without_sklearn import import_xgboost

MODELS = 50 if QUICK else 500
CLIENTS = (1, 8)
_REQUESTS = 8_000


def lines(home: Path, few: tuple[int, float]) -> Iterator[str]:
    """Memory, then waits.

    Args:
        few: models and MiB of a gateway replica with few models, from the same run.
    """
    with staged(home, MODELS, "never") as stage:
        right = stage.check_champions()
        yield f"{MODELS} models ready {stage.seconds:.0f} s after the start; {right} of {MODELS} answer as they should"
        whole, bare = stage.memory(), _bare(stage.settings.artefacts)
        each = (whole - few[1]) / (MODELS - few[0])
        yield (
            f"  gateway replica: {few[1]:.0f} MiB with {few[0]}, {whole:.0f} MiB with {MODELS}; "
            f"a model {each:.3f} MiB, a bare Booster {bare:.3f} MiB: {each / bare:.2f}x"
        )
        for clients in CLIENTS:
            yield from _asked(stage, clients)


def _asked(stage: Stage, clients: int) -> Iterator[str]:
    draw, asked = random.Random(4), rows(_REQUESTS, seed=31)
    bodies = [json.dumps({"features": named(row), "key": f"customer-{at}"}).encode() for at, row in enumerate(asked)]
    hot = [request_of("/decide/model-000", body, stage.token) for body in bodies]
    names = (draw.choice(stage.champions).model for _ in bodies)
    any_one = [request_of(f"/decide/{name}", body, stage.token) for name, body in zip(names, bodies, strict=True)]
    one, spread = take_turns([stage.asked_for("one", hot), stage.asked_for("any", any_one)], clients)
    for name, rounds in (("one hot model", one), ("any of them", spread)):
        rate, failed = text([round_.rate for round_ in rounds]), sum(round_.taken.failed for round_ in rounds)
        half, slow = (text([round_.wait(share) for round_ in rounds], 2) for share in (0.5, 0.99))
        summary = f"p50 {half} ms, p99 {slow} ms, {rate} requests/s" + (f"  FAILED: {failed}" if failed else "")
        yield f"  {clients} client{'s' if clients > 1 else ' '} {name:<14}{summary}"
    for share in (0.5, 0.99):
        ratio = ratios([round_.wait(share) for round_ in spread], [round_.wait(share) for round_ in one])
        yield f"    p{100 * share:.0f} of any is {text(ratio, 2)}x of the hot one's"


def _bare(artefacts: Path) -> float:
    """MiB that one Booster needs in a process that holds all of them and nothing else."""
    command = [sys.executable, "-m", "benchmarks.serving.many", str(artefacts)]
    return float(subprocess.check_output(command, text=True))


def _measured(artefacts: Path) -> float:
    """Load every model of a folder; return the growth in MiB for each, all of them asked once."""
    boosters, process, xgb = [], psutil.Process(), import_xgboost()
    row, before = rows(1, seed=5), 0.0
    files = sorted(artefacts.glob("*/model.ubj"))
    for path in [files[0], *files]:  # the first one also includes what all share
        booster = xgb.Booster({"nthread": 1})
        booster.load_model(path)
        booster.inplace_predict(row, validate_features=False)
        boosters.append(booster)
        before = before or float(process.memory_full_info().uss)
    return (float(process.memory_full_info().uss) - before) / 2**20 / len(files)


if __name__ == "__main__":
    print(_measured(Path(sys.argv[1])))
