"""Does live traffic still look like the traffic the release was judged on? Measured by Evidently, judged by policy.

The method is the policy's; Evidently's own choice is never used, because it changes with the number of rows (at 1,001
rows it moves from a test to a distance). Importing Evidently takes seconds, so this runs in a process of its own:

    python -m validators.drift --reference X.parquet --window Y.parquet --policy Z.json --output out.json
    python -m validators.drift --desk      # one process for many windows: a JSON request a line, a JSON answer a line

A request holds what the options hold: {"reference": path, "window": path, "policy": {..}, "release": name}.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from lineage.digest import digest_of
from lineage.errors import InvalidError, PlimsollError, UnavailableError
from lineage.policy import DriftLimits, Policy, parse_policy

CATEGORY_VALUES = 20  # whole-numbered columns with at most this many values are compared value by value
_OFF = {"EVIDENTLY_DISABLE_TELEMETRY": "1", "ITERATIVE_DO_NOT_TRACK": "do-not-track", "DO_NOT_TRACK": "1"}


def measure_drift(
    reference: pl.DataFrame, window: pl.DataFrame, policy: Policy, release: str | None = None
) -> dict[str, Any]:
    """The data of a DriftMeasured fact.

    Args:
        reference: the release's reference.parquet: feature columns and `score`, numbers as the model took them.
        window: the same columns of live decisions, and `at` (any sortable text or time) if it is to say from when.

    Raises:
        InvalidError: a column of the reference is missing in the window, or is not a number.
    """
    limits = policy.monitor.drift
    columns = list(reference.columns)
    for name in columns:
        if name not in window.columns:
            raise InvalidError(f"the window has no column {name!r}; expected those of the reference", field=name)
    reference, times = _numbers(reference, "reference"), window["at"] if "at" in window.columns else None
    rows: dict[str, Any] = {"rows": window.height, "from": None, "to": None, "reference_rows": reference.height}
    if times is not None and window.height:
        rows |= {"from": str(times.min()), "to": str(times.max())}
    if min(window.height, reference.height) < limits.minimum_rows:
        return _fact(release, rows, [], None, limits, "not_enough_data")
    scores = _evidently(reference, _numbers(window.select(columns), "window"), limits.method, limits.feature_limit)
    features = [
        {
            "feature": name,
            "score": scores[name],
            "method": limits.method,
            "limit": limits.feature_limit,
            "drifted": scores[name] >= limits.feature_limit,
        }
        for name in sorted(columns, key=lambda name: (-scores[name], name))
    ]
    share = sum(scores[name] >= limits.feature_limit for name in columns) / len(columns)
    return _fact(release, rows, features, share, limits, "drift" if share >= limits.limit_share else "ok")


def _fact(
    release: str | None,
    window: dict[str, Any],
    features: list[dict[str, Any]],
    share: float | None,
    limits: DriftLimits,
    verdict: str,
) -> dict[str, Any]:
    fact = {"release": release, "window": window, "features": features, "share_drifted": share}
    fact |= {"limit": limits.limit_share, "verdict": verdict}
    return fact | {"report_digest": digest_of(fact)}


def _numbers(frame: pl.DataFrame, what: str) -> pl.DataFrame:
    for name, kind in frame.schema.items():
        if not kind.is_numeric():
            raise InvalidError(f"column {name!r} of the {what} holds {kind}; expected numbers", field=name)
        if frame[name].null_count() or not frame[name].cast(pl.Float64).is_finite().all():
            raise InvalidError(f"column {name!r} of the {what} has empty or infinite cells", field=name)
    return frame.cast(pl.Float64)


def is_category(column: pl.Series) -> bool:
    """Whether a reference column is compared value by value rather than by bins."""
    return bool((column == column.floor()).all()) and column.n_unique() <= CATEGORY_VALUES


def _evidently(reference: pl.DataFrame, window: pl.DataFrame, method: str, limit: float) -> dict[str, float]:
    """The drift score of each column."""
    os.environ.update(_OFF)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn about its own code
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        categories = [name for name in reference.columns if is_category(reference[name])]
        numbers = [name for name in reference.columns if name not in categories]
        shape = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
        report = Report([ValueDrift(column=name, method=method, threshold=limit) for name in reference.columns])
        found = report.run(
            Dataset.from_pandas(window.to_pandas(), shape), Dataset.from_pandas(reference.to_pandas(), shape)
        )
    return {one["config"]["column"]: float(one["value"]) for one in found.dict()["metrics"]}


def _read(path: object) -> pl.DataFrame:
    try:
        return pl.read_parquet(Path(str(path)))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UnavailableError(f"cannot read {path}: {error}") from error


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Measure what a request names.

    Raises:
        InvalidError: a key is missing or a value is wrong.
        UnavailableError: a file cannot be read.
    """
    for key in ("reference", "window", "policy"):
        if key not in request:
            raise InvalidError(f"the request has no {key!r}; expected reference, window and policy", field=key)
    policy = parse_policy(request["policy"])
    return measure_drift(_read(request["reference"]), _read(request["window"]), policy, request.get("release"))


def desk(source: TextIO, sink: TextIO) -> None:
    """Answer one line for each line, {"answer": ..} or {"error": ..}, until the input ends."""
    for line in source:
        try:
            told: dict[str, Any] = {"answer": answer(json.loads(line))}
        except PlimsollError as error:
            told = error.body()
        except ValueError as error:
            told = InvalidError(f"the request is not JSON: {error}").body()
        sink.write(json.dumps(told) + "\n")
        sink.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 measured, 1 a file cannot be read, 2 a value is wrong."""
    parser = argparse.ArgumentParser(prog="python -m validators.drift", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for name in ("reference", "window", "policy", "output"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--release")
    parser.add_argument("--desk", action="store_true", help="stay, and answer a line for each line")
    given = parser.parse_args(arguments)
    if given.desk:
        sink = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print goes to the log, never between the answers
        desk(sys.stdin, sink)
        return 0
    if None in (given.reference, given.window, given.policy, given.output):
        parser.error("--reference, --window, --policy and --output belong together")
    try:
        policy = json.loads(given.policy.read_text(encoding="utf-8"))
        paths = {"reference": given.reference, "window": given.window}
        measured = answer({**paths, "policy": policy, "release": given.release})
        given.output.write_text(json.dumps(measured) + "\n", encoding="utf-8")
    except PlimsollError as error:
        sys.stderr.write(error.message + "\n")
        return 2 if isinstance(error, InvalidError) else 1
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
