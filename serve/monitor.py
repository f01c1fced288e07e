"""Monitor: compares live traffic with the reference, raises alerts, and requests retraining when it drifted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from lineage.state.entities import Model, Release
from serve.intent import Intention
from serve.ledger_view import LedgerView


def drift_intentions(model: Model, release: Release, waiting: Sequence[str], data: dict[str, Any]) -> list[Intention]:
    """The facts that follow from a measurement of drift.

    RetrainRequested precedes AlertRaised, because an open alert suppresses further requests: a controller that ends
    between the two neither repeats nor loses the request.

    Args:
        waiting: undecided candidates newer than the champion; while there are any, no retraining is requested.
        data: of DriftMeasured.
    """
    name = model.model
    intentions = [Intention("DriftMeasured", name, data, about_release=False)]
    if data["verdict"] != "drift" or model.alert("drift", data["release"]) is not None:
        return intentions
    moved = [feature["feature"] for feature in data["features"] if feature["drifted"]]
    summary = f"{data['release']}: {len(moved)} of {len(data['features'])} inputs moved: {', '.join(moved[:5])}"
    idle = not model.requests and not model.challenger and not waiting
    if release.terms.monitor.drift.retrain and idle:
        request = _request(model, release, summary)
        if request is not None:
            intentions.append(request)
    return [*intentions, _alert(name, "drift", data["release"], "ticket", summary)]


def fairness_intentions(model: Model, data: dict[str, Any]) -> list[Intention]:
    """The facts that follow from a measurement of live fairness."""
    intentions = [Intention("FairnessMeasured", model.model, data, about_release=False)]
    attribute = data["attribute"]
    if data["verdict"] == "breach" and model.alert("fairness", attribute) is None:
        summary = f"{data['release']}: favourable rates by {attribute} differ, ratio {data['ratio']:.3f}"
        intentions.append(_alert(model.model, "fairness", attribute, "page", summary, data["release"]))
    return intentions


def candidates_waiting(view: LedgerView, champion: Release) -> list[str]:
    """Releases of the champion's model that are newer than it and not yet decided on."""
    undecided = ("trained", "validated", "registered")
    return [
        release.release
        for release in view.of_model(champion.model)
        if release.number > champion.number and release.state in undecided
    ]


def window_frame(names: Sequence[str], records: list[dict[str, Any]]) -> pl.DataFrame:
    """Decisions in the columns of the bundle's reference: encoded features, `score`, and `at`; one row each."""
    rows = [[float(value) for value in record["features"]] for record in records]
    columns = {name: [row[position] for row in rows] for position, name in enumerate(names)}
    rest = {"score": [float(record["score"]) for record in records], "at": [str(record["at"]) for record in records]}
    return pl.DataFrame(columns | rest)


def _request(model: Model, release: Release, why: str) -> Intention | None:
    """RetrainRequested with the folder of the last job; None where the model had no job."""
    if model.last_job is None:
        return None
    data: dict[str, Any] = {"folder": model.last_job.folder, "why": why, "author": release.author}
    data |= {"evidence": None, "options": {}}
    return Intention("RetrainRequested", model.model, data, reason=why, about_release=False)


def _alert(model: str, alert: str, about: str, severity: str, summary: str, release: str | None = None) -> Intention:
    data: dict[str, Any] = {"alert": alert, "about": about, "release": release, "severity": severity}
    return Intention("AlertRaised", model, data | {"summary": summary, "evidence": None}, about_release=False)
