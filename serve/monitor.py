"""Monitor: seal what was decided, compare live traffic with the reference, and ask for retraining when it moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from lineage.state.fold import alert_name
from serve.intent import Intention, View


def drift_intentions(model: View, release: View, waiting: Sequence[str], data: dict[str, Any]) -> list[Intention]:
    """The facts that follow from a measurement of drift.

    Retraining comes before the alert that ends the asking: a controller that dies between the two asks for nothing
    twice and forgets nothing.

    Args:
        waiting: candidates newer than the champion that nobody has decided on; while there are any, another one would
            help nobody.
        data: of DriftMeasured.
    """
    name = model["model"]
    intentions = [Intention("DriftMeasured", name, data, about_release=False)]
    if data["verdict"] != "drift" or alert_name("drift", data["release"]) in model["alerts"]:
        return intentions
    moved = [feature["feature"] for feature in data["features"] if feature["drifted"]]
    summary = f"{data['release']}: {len(moved)} of {len(data['features'])} inputs moved: {', '.join(moved[:5])}"
    idle = not model["requests"] and not model["challenger"] and not waiting
    if release["policy"]["monitor"]["drift"]["retrain"] and idle:
        request = _request(model, release, summary)
        if request is not None:
            intentions.append(request)
    return [*intentions, _alert(name, "drift", data["release"], "ticket", summary)]


def fairness_intentions(model: View, data: dict[str, Any]) -> list[Intention]:
    """The facts that follow from a measurement of live fairness."""
    intentions = [Intention("FairnessMeasured", model["model"], data, about_release=False)]
    attribute = data["attribute"]
    if data["verdict"] == "breach" and alert_name("fairness", attribute) not in model["alerts"]:
        summary = f"{data['release']}: favourable rates by {attribute} differ, ratio {data['ratio']:.3f}"
        intentions.append(_alert(model["model"], "fairness", attribute, "page", summary))
    return intentions


def candidates_waiting(releases: dict[str, View], champion: View) -> list[str]:
    """Releases of the champion's model that are newer than it and that nobody has decided on."""
    undecided = ("trained", "validated", "registered")
    return [
        name
        for name, release in releases.items()
        if release["model"] == champion["model"]
        and release["number"] > champion["number"]
        and release["state"] in undecided
    ]


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


def _alert(model: str, alert: str, about: str, severity: str, summary: str) -> Intention:
    data = {"alert": alert, "about": about, "severity": severity, "summary": summary, "evidence": None}
    return Intention("AlertRaised", model, data, about_release=False)
