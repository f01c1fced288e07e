"""Verb 1, train: pin the data, search, fit, bundle. Records DatasetPinned and ModelTrained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from lineage.settings import Settings
from training.bundle import Trained, Written, write_bundle
from training.cluster import connect_early
from training.dataset import Pinned, pin_dataset
from training.families.port import Examples, Range, family_of
from training.features import training_frame
from training.fingerprint import code_digest, environment_digest, fingerprint
from training.origin import bind_features
from training.progress import Progress
from training.search import Trial, best, draw, evaluate, search
from training.spec import Spec, load_reasons
from training.split import Split, split
from training.tracking import Tracker
from validators.feature_matrix import matrix
from lineage.policy import Policy
from validators.validate import Ledger

Shape = Literal["search", "quick", "deep"]

#: Ranks as well as the others and passes every check, but explaining one answer takes longer than a customer waits
#: (measured: 50 ms of TreeSHAP a row instead of 0.4): for drills of the canary.
DEEP: dict[str, Any] = {
    "trees": 360,
    "max_depth": 16,
    "learning_rate": 0.02,
    "subsample": 0.8,
    "colsample_bytree": 0.5,
    "min_child_weight": 1.0,
    "reg_lambda": 5.0,
}


@dataclass(frozen=True)
class Options:
    """What a run may vary."""

    author: str
    seed: int
    trials: int
    shape: Shape = "search"
    fault: str | None = None
    request: int | None = None


@dataclass(frozen=True)
class Candidate:
    """A trained release that nobody has validated yet."""

    release: str
    run_id: str
    written: Written
    fingerprint: str
    holdout: pl.DataFrame
    policy: Policy


def train(
    spec: Spec, options: Options, settings: Settings, ledger: Ledger, tracker: Tracker, progress: Progress
) -> Candidate:
    """Make a candidate and put it on record.

    Raises:
        InvalidError: the folder, its data or an option is not what is expected.
        UnavailableError: Ray, MLflow or the disk failed.
    """
    started = time.perf_counter()
    policy, reasons = spec.load_policy(), load_reasons(spec)
    cluster = connect_early(settings) if options.shape == "search" else None
    pinned = pin(spec, options, settings, ledger, progress)
    with progress.step("features") as told:
        frame = training_frame(spec, pinned.data, settings)
        parts = split(frame, spec.data.key, spec.model.name)
        sizes = f"{parts.train.height:,} train, {parts.validation.height:,} choose, {parts.holdout.height:,} held out"
        told.append(f"Feast service {spec.features.service}: {sizes}")
    if cluster is not None:
        with progress.step("ray"):
            cluster.result()
    trial = _search(spec, options, parts, settings, progress)
    with progress.step("bundle") as told:
        trained = _fit(spec, trial, parts, options.seed)
        digest = policy.digest
        written = write_bundle(spec, trained, parts.validation, reasons, digest, settings)
        told.append(f"{written.digest[:19]}, {len(trained.model) / 1024:.0f} KiB, threshold {written.threshold:.4f}")
        told.append(bind_features(spec, written.digest, settings))
    with progress.step("record") as told:
        holdout = _with_protected(spec, parts.holdout, pinned)
        candidate = _record(
            spec, options, pinned, trial, written, policy, holdout, ledger, tracker, time.perf_counter() - started
        )
        told.append(f"{candidate.release}, MLflow run {candidate.run_id[:8]}")
    return candidate


def pin(spec: Spec, options: Options, settings: Settings, ledger: Ledger, progress: Progress) -> Pinned:
    """Pin the data set and record which version it is."""
    with progress.step("pin") as told:
        pinned = pin_dataset(spec, settings, options.fault)
        ledger.append("DatasetPinned", model=spec.model.name, data=pinned.data.to_dict())
        told.append(f"version {pinned.data.version}{' (new)' if pinned.data.new else ''}, {pinned.data.rows:,} rows")
        told.append(pinned.data.digest[:19])
    return pinned


def _search(spec: Spec, options: Options, parts: Split, settings: Settings, progress: Progress) -> Trial:
    family = family_of(spec.training.champion)
    space = {name: Range(**span.model_dump()) for name, span in spec.training.search.items()} or family.space()
    defaults = family.defaults()
    learn, choose = examples(spec, parts.train), examples(spec, parts.validation)
    with progress.step("search") as told:
        if options.shape != "search":
            params = defaults if options.shape == "quick" else {**defaults, **DEEP}
            trial = evaluate(spec.training.champion, params, learn, choose, options.seed)
            told.append(f"shape {options.shape}: no search, AUC {trial.auc:.4f}")
            return trial
        candidates = draw(space, defaults, options.trials, options.seed)
        trials = search(spec.training.champion, candidates, learn, choose, options.seed, settings, progress)
        chosen = best(trials)
        told.append(f"best of {len(trials)} trials: AUC {chosen.auc:.4f}")
    return chosen


def _fit(spec: Spec, trial: Trial, parts: Split, seed: int) -> Trained:
    learn = examples(spec, parts.train)
    champion, baseline = family_of(spec.training.champion), family_of(spec.training.baseline)
    return Trained(
        spec.training.champion,
        trial.model or champion.fit(trial.params, learn, seed),
        spec.training.baseline,
        baseline.fit(baseline.defaults(), learn, seed),
    )


def examples(spec: Spec, frame: pl.DataFrame) -> Examples:
    """A part of the training frame as rows and outcomes."""
    return Examples(matrix(spec.inputs, frame), frame[spec.data.label].to_numpy() == 1)


def _with_protected(spec: Spec, holdout: pl.DataFrame, pinned: Pinned) -> pl.DataFrame:
    """The holdout beside the protected attributes: for the checks, after the model is made."""
    return holdout.join(pinned.protected.read(), on=spec.data.key, how="left", maintain_order="left")


def _record(
    spec: Spec,
    options: Options,
    pinned: Pinned,
    trial: Trial,
    written: Written,
    policy: Policy,
    holdout: pl.DataFrame,
    ledger: Ledger,
    tracker: Tracker,
    seconds: float,
) -> Candidate:
    code, environment = code_digest(spec.folder), environment_digest()
    mark = fingerprint(pinned.data.digest, code, environment, trial.params, options.seed)
    metrics = {"validation_auc": trial.auc, "threshold": written.threshold, "fit_seconds": round(trial.seconds, 3)}
    tags = {"feast.feature_service": spec.features.service, "plimsoll.digest": written.digest}
    run_id = tracker.log_run(spec.model.name, _params(trial, options), metrics, tags, written.folder)
    data = {
        "author": options.author,
        "request": options.request,
        "run_id": run_id,
        "family": spec.training.champion,
        "params": trial.params,
        "metrics": metrics,
        "dataset": pinned.to_dict(),
        "digest": written.digest,
        "signature_key": written.signature_key,
        "code_digest": code,
        "environment_digest": environment,
        "seed": options.seed,
        "policy": policy.to_dict(),
        "policy_digest": policy.digest,
        "features": list(spec.features.names),
        "threshold": written.threshold,
        "seconds": round(seconds, 3),
        "fingerprint": mark,
    }
    record = ledger.append("ModelTrained", model=spec.model.name, data=data)
    return Candidate(str(record["release"]), run_id, written, mark, holdout, policy)


def _params(trial: Trial, options: Options) -> Mapping[str, Any]:
    return {**trial.params, "seed": options.seed, "shape": options.shape}
