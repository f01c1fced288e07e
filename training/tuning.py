"""The part of the search that runs under Ray Tune: one trial, and a line when it ends."""

from __future__ import annotations

import os
from typing import Any

from ray import tune

from training.families.port import Examples
from training.progress import Progress
from training.search import evaluate


def run_trial(
    config: dict[str, Any],
    candidates: list[dict[str, Any]],
    family: str,
    train: Examples,
    validation: Examples,
    seed: int,
    nice: int,
) -> dict[str, Any]:
    """Evaluate the candidate `config["number"]`. Runs in an actor that the next trial uses again."""
    if os.getpriority(os.PRIO_PROCESS, 0) < nice:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    number = config["number"]
    trial = evaluate(family, candidates[number], train, validation, seed)
    return {"number": number, "auc": trial.auc, "fit_seconds": trial.seconds}


class Lines(tune.Callback):
    """Says each trial as it ends."""

    def __init__(self, progress: Progress, candidates: list[dict[str, Any]]) -> None:
        self._progress = progress
        self._candidates = candidates
        self._done = 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Called by Tune in the driver."""
        self._done += 1
        result = trial.last_result
        params = self._candidates[result["number"]]
        shown = ", ".join(f"{name} {value:g}" for name, value in params.items())
        place = f"trial {self._done}/{len(self._candidates)}"
        self._progress.say(f"  {place}  AUC {result['auc']:.4f}  {result['fit_seconds']:.1f} s  {shown}")
