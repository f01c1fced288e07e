"""Verb 1, train: pin the data, search, fit, bundle. Records DatasetPinned and ModelTrained."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from lineage.policy import Policy
from lineage.settings import Settings
from training.bundle import Description, Trained, Written, write_bundle
from training.cluster import connect_early
from training.datafile import DataFile
from training.dataset import Pin, Pinned, pin_dataset
from training.family import Examples, Range
from training.features import training_frame
from training.fingerprint import Provenance, provenance
from training.origin import bind_features
from training.plugins import family_of
from training.progress import Progress
from training.search import best, draw, search
from training.spec import Spec, load_reasons
from training.split import split
from training.tracking import Tracker
from training.trial import Trial, run_trial
from validators.feature_matrix import matrix
from validators.scoring.features import Feature
from validators.validate import Ledger

Shape = Literal["search", "quick", "deep"]

#: Parameters for drills of the canary: such a model ranks as well and passes every check, but is slow to explain
#: (measured: 50 ms of TreeSHAP a row instead of 0.4).
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
    """What one run chooses: author, seed, trials, and for drills a shape or a fault."""

    author: str
    seed: int
    trials: int
    shape: Shape = "search"
    fault: str | None = None
    request: int | None = None


@dataclass(frozen=True)
class Candidate:
    """A trained release that is not validated yet."""

    release: str
    run_id: str
    written: Written
    fingerprint: str
    holdout: pl.DataFrame
    policy: Policy


def train(
    spec: Spec, options: Options, settings: Settings, ledger: Ledger, tracker: Tracker, progress: Progress
) -> Candidate:
    """Make a candidate and put it on record. Opens the spec; what it calls takes values.

    Raises:
        InvalidError: the folder, its data or an option is not what is expected.
        UnavailableError: Ray, MLflow or the disk failed.
    """
    started = time.perf_counter()
    model, key, label = spec.model.name, spec.data.key, spec.data.label
    policy = spec.load_policy()
    described = description_of(spec, policy.digest)
    cluster = connect_early(settings) if options.shape == "search" else None
    pinned = pin(model, spec.data_file, options.fault, settings, ledger, progress)
    with progress.step("features") as notes:
        parts = split(training_frame(spec.feature_source, pinned.data, key, label, settings), key, model)
        sizes = f"{parts.train.height:,} train, {parts.validation.height:,} choose, {parts.holdout.height:,} held out"
        notes.append(f"Feast service {spec.features.service}: {sizes}")
    learn, choose = (examples(part, spec.inputs, label) for part in (parts.train, parts.validation))
    if cluster is not None:
        with progress.step("ray"):
            cluster.result()
    trial = _search(spec.training.champion, spec.training.ranges, learn, choose, options, settings, progress)
    with progress.step("bundle") as notes:
        trained = _fit(spec.training.champion, spec.training.baseline, trial, learn, options.seed)
        written = write_bundle(described, trained, parts.validation, spec.decision.approval_rate, settings)
        notes.append(f"{written.digest[:19]}, {len(trained.model) / 1024:.0f} KiB, threshold {written.threshold:.4f}")
        notes.append(bind_features(spec.feature_source, written.digest, settings))
    with progress.step("record") as notes:
        made_of = provenance(spec.folder, pinned.data.digest, trial.params, options.seed)
        run_id = _log_run(tracker, model, spec.features.service, trial, options, written)
        data = _fact(options, pinned, trial, trained, written, policy, made_of)
        data |= {"run_id": run_id, "features": list(spec.features.names)}
        data["seconds"] = round(time.perf_counter() - started, 3)
        release = str(ledger.append("ModelTrained", model=model, data=data)["release"])
        notes.append(f"{release}, MLflow run {run_id[:8]}")
    holdout = _with_protected(parts.holdout, pinned.protected, key)
    return Candidate(release, run_id, written, made_of.fingerprint, holdout, policy)


def description_of(spec: Spec, policy: str) -> Description:
    """What release.json is to state about a release of this spec.

    Args:
        policy: the digest of the policy.

    Raises:
        UnavailableError: the file of reasons cannot be read.
        InvalidError: a feature has no reason.
    """
    decision = spec.decision
    return Description(
        model=spec.model.name,
        entity=spec.data.entity,
        inputs=spec.inputs,
        favourable=decision.favourable,
        adverse=decision.adverse,
        explain=decision.explain,
        reasons_most=decision.reasons_most,
        reasons=load_reasons(spec.folder / decision.reasons, spec.features.names),
        policy_digest=policy,
    )


def pin(
    model: str, file: DataFile, fault: str | None, settings: Settings, ledger: Ledger, progress: Progress
) -> Pinned:
    """Pin the data set and record which version it is."""
    with progress.step("pin") as notes:
        pinned = pin_dataset(model, file, settings, fault)
        ledger.append("DatasetPinned", model=model, data=pinned.data.to_dict())
        notes.append(f"version {pinned.data.version}{' (new)' if pinned.data.new else ''}, {pinned.data.rows:,} rows")
        notes.append(pinned.data.digest[:19])
    return pinned


def examples(frame: pl.DataFrame, inputs: Sequence[Feature], label: str) -> Examples:
    """A part of the training frame as rows float64[n, f] in the order of `inputs` and outcomes bool[n]."""
    return Examples(matrix(inputs, frame), frame[label].to_numpy() == 1)


def _search(
    name: str,
    ranges: Mapping[str, Range],
    learn: Examples,
    choose: Examples,
    options: Options,
    settings: Settings,
    progress: Progress,
) -> Trial:
    """The best trial of the family called `name`; without `ranges` its own are searched."""
    family = family_of(name)
    defaults = family.defaults()
    with progress.step("search") as notes:
        if options.shape != "search":
            params = defaults if options.shape == "quick" else {**defaults, **DEEP}
            trial = run_trial(name, params, learn, choose, options.seed)
            notes.append(f"shape {options.shape}: no search, AUC {trial.auc:.4f}")
            return trial
        candidates = draw(ranges or family.space(), defaults, options.trials, options.seed)
        trials = search(name, candidates, learn, choose, options.seed, settings, progress)
        chosen = best(trials)
        notes.append(f"best of {len(trials)} trials: AUC {chosen.auc:.4f}")
    return chosen


def _fit(champion: str, baseline: str, trial: Trial, learn: Examples, seed: int) -> Trained:
    """The champion with the parameters of the trial, the baseline with its defaults."""
    simple = family_of(baseline)
    return Trained(
        champion,
        trial.model or family_of(champion).fit(trial.params, learn, seed),
        baseline,
        simple.fit(simple.defaults(), learn, seed),
    )


def _with_protected(holdout: pl.DataFrame, protected: Pin, key: str) -> pl.DataFrame:
    """The holdout beside the protected attributes: for the checks, after the model is made."""
    return holdout.join(protected.read(), on=key, how="left", maintain_order="left")


def _log_run(tracker: Tracker, model: str, service: str, trial: Trial, options: Options, written: Written) -> str:
    """Log the finished run to MLflow; its id."""
    params = {**trial.params, "seed": options.seed, "shape": options.shape}
    tags = {"feast.feature_service": service, "plimsoll.digest": written.digest}
    return tracker.log_run(model, params, _metrics(trial, written), tags, written.folder)


def _metrics(trial: Trial, written: Written) -> dict[str, float]:
    return {"validation_auc": trial.auc, "threshold": written.threshold, "fit_seconds": round(trial.seconds, 3)}


def _fact(
    options: Options,
    pinned: Pinned,
    trial: Trial,
    trained: Trained,
    written: Written,
    policy: Policy,
    made_of: Provenance,
) -> dict[str, Any]:
    """The data of a ModelTrained fact without run, features and seconds."""
    return {
        "author": options.author,
        "request": options.request,
        "family": trained.family,
        "params": trial.params,
        "metrics": _metrics(trial, written),
        "dataset": pinned.to_dict(),
        "digest": written.digest,
        "signature_key": written.signature_key,
        "code_digest": made_of.code,
        "environment_digest": made_of.environment,
        "seed": options.seed,
        "policy": policy.to_dict(),
        "policy_digest": policy.digest,
        "threshold": written.threshold,
        "fingerprint": made_of.fingerprint,
    }
