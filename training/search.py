"""Search parameters with Ray Tune.

The candidates are drawn before the first trial starts, from the seed alone, so the winner does not depend on which
trial finishes first.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lineage.errors import UnavailableError
from lineage.settings import Settings
from training.cluster import connect
from training.family import Examples, Range
from training.progress import Progress
from training.trial import Trial

_NICE = 10  # serving on the same machine comes first


def draw(space: Mapping[str, Range], defaults: Mapping[str, Any], trials: int, seed: int) -> list[dict[str, Any]]:
    """`trials` sets of parameters: the defaults first, the rest from `seed`."""
    source = random.Random(seed)  # noqa: S311 - a search, not a secret
    drawn = [dict(defaults)]
    while len(drawn) < trials:
        drawn.append({**defaults, **{name: _pick(space[name], source) for name in sorted(space)}})
    return drawn


def _pick(span: Range, source: random.Random) -> float | int:
    if span.log:
        value = math.exp(source.uniform(math.log(span.low), math.log(span.high)))
    else:
        value = source.uniform(span.low, span.high)
    return round(value) if span.whole else float(f"{value:.6g}")


def best(trials: Sequence[Trial]) -> Trial:
    """The highest AUC; of equals the first drawn."""
    return max(trials, key=lambda trial: trial.auc)


def search(
    family: str,
    candidates: Sequence[Mapping[str, Any]],
    train: Examples,
    validation: Examples,
    seed: int,
    settings: Settings,
    progress: Progress,
) -> list[Trial]:
    """Evaluate every candidate on the cluster, in the order drawn.

    Raises:
        UnavailableError: a trial failed.
    """
    connect(settings)
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback

    from training.tuning import TrialProgressCallback, trainable

    drawn = [dict(one) for one in candidates]
    fixed = {"candidates": drawn, "family": family, "train": train, "validation": validation, "seed": seed}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trainable, **fixed, nice=_NICE), {"cpu": 1}),
        param_space={"number": tune.grid_search(list(range(len(drawn))))},
        tune_config=tune.TuneConfig(reuse_actors=True, metric="auc", mode="max"),
        run_config=tune.RunConfig(
            name=f"run-{os.getpid()}-{time.time_ns()}",
            storage_path=str(settings.root / "tune"),
            verbose=0,
            callbacks=[TrialProgressCallback(progress, drawn), JsonLoggerCallback()],
        ),
    )
    results = tuner.fit()
    for failed in results.errors:
        raise UnavailableError(f"a trial failed: {failed}") from failed
    found = {one.metrics["number"]: one.metrics for one in results}
    return [Trial(one, found[number]["auc"], found[number]["fit_seconds"]) for number, one in enumerate(drawn)]
