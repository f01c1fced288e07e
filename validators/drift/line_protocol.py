"""Drift measured on request: a JSON line in, a JSON line out, so that one process serves many windows.

A request holds {"reference": path, "window": path, "policy": {..}, "release": name}; the answer {"answer": the data of
a DriftMeasured fact} or {"error": ..}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from lineage.errors import InvalidError, PlimsollError, UnavailableError
from lineage.policy import parse_policy
from validators.drift.measure import measure_drift


def answer_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the window that a request names.

    Raises:
        InvalidError: a key is missing or a value is wrong.
        UnavailableError: a file cannot be read, or the statistic failed.
    """
    for key in ("reference", "window", "policy"):
        if key not in request:
            raise InvalidError(f"the request has no {key!r}; expected reference, window and policy", field=key)
    policy = parse_policy(request["policy"])
    return measure_drift(_read(request["reference"]), _read(request["window"]), policy, request.get("release"))


def answer_lines(source: TextIO, sink: TextIO) -> None:
    """Answer each line of `source` with one line in `sink`, until the input ends."""
    for line in source:
        try:
            reply: dict[str, Any] = {"answer": answer_request(json.loads(line))}
        except PlimsollError as error:
            reply = error.body()
        except ValueError as error:
            reply = InvalidError(f"the request is not JSON: {error}").body()
        sink.write(json.dumps(reply) + "\n")
        sink.flush()


def _read(path: object) -> pl.DataFrame:
    try:
        return pl.read_parquet(Path(str(path)))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UnavailableError(f"cannot read {path}: {error}") from error
