"""Monitor: seal what was decided, compare live traffic with the reference, and ask for retraining when it moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from serve.intention import Intention, View


def drift_intentions(model: View, release: View, data: dict[str, Any], last: str | None) -> list[Intention]:
    """The facts that follow from a measurement of drift.

    Args:
        data: of DriftMeasured.
        last: the verdict of the measurement before, None for the first.
    """
    name = model["model"]
    intentions = [Intention("DriftMeasured", name, data, about_release=False)]
    if data["verdict"] != "drift" or last == "drift":
        return intentions
    moved = [feature["feature"] for feature in data["features"] if feature["drifted"]]
    summary = f"{data['release']}: {len(moved)} of {len(data['features'])} inputs moved: {', '.join(moved[:5])}"
    intentions.append(_alert(name, "drift", "ticket", summary))
    if release["policy"]["monitor"]["drift"]["retrain"] and not model["requests"] and not model["challenger"]:
        request = _request(model, release, summary)
        if request is not None:
            intentions.append(request)
    return intentions


def fairness_intentions(model: View, data: dict[str, Any], last: str | None) -> list[Intention]:
    """The facts that follow from a measurement of live fairness."""
    intentions = [Intention("FairnessMeasured", model["model"], data, about_release=False)]
    if data["verdict"] == "breach" and last != "breach":
        summary = f"{data['release']}: favourable rates by {data['attribute']} differ, ratio {data['ratio']:.3f}"
        intentions.append(_alert(model["model"], "fairness", "page", summary))
    return intentions


def window_frame(names: Sequence[str], records: list[dict[str, Any]]) -> pl.DataFrame:
    """Decisions in the form of the bundle's reference: features as the model took them, `score`, and `at`."""
    rows = [[float(value) for value in record["features"]] for record in records]
    columns = {name: [row[position] for row in rows] for position, name in enumerate(names)}
    rest = {"score": [float(record["score"]) for record in records], "at": [str(record["at"]) for record in records]}
    return pl.DataFrame(columns | rest)


def _request(model: View, release: View, why: str) -> Intention | None:
    """Retrain as the champion was trained; None where nobody ever said how."""
    known = [job for job in model["jobs"].values() if job.get("folder")]
    if not known:
        return None
    data = {"folder": known[-1]["folder"], "why": why, "author": release["author"], "evidence": None, "options": {}}
    return Intention("RetrainRequested", model["model"], data, reason=why, about_release=False)


def _alert(model: str, alert: str, severity: str, summary: str) -> Intention:
    data = {"alert": alert, "severity": severity, "summary": summary, "evidence": None}
    return Intention("AlertRaised", model, data, about_release=False)
