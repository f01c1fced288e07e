"""The part of the search that runs under Ray Tune: a trainable for one trial, and a progress line for each."""

from __future__ import annotations

import os
from typing import Any

from ray import tune

from training.family import Examples
from training.progress import Progress
from training.trial import run_trial


def trainable(
    config: dict[str, Any],
    candidates: list[dict[str, Any]],
    family: str,
    train: Examples,
    validation: Examples,
    seed: int,
    nice: int,
) -> dict[str, Any]:
    """Run the trial of candidate `config["number"]`, in an actor that the next trial reuses."""
    if os.getpriority(os.PRIO_PROCESS, 0) < nice:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    number = config["number"]
    trial = run_trial(family, candidates[number], train, validation, seed)
    return {"number": number, "auc": trial.auc, "fit_seconds": trial.seconds}


class TrialProgressCallback(tune.Callback):
    """Writes a line to the progress log when a trial completes."""

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
        self._progress.write(f"  {place}  AUC {result['auc']:.4f}  {result['fit_seconds']:.1f} s  {shown}")
