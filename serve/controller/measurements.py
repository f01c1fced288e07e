"""Measurements of live traffic: drift in a process of its own, fairness by a join with protected attributes.

Decisions about people who were erased cannot be measured; every measurement states how many it left out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from lineage.digest import digest_of
from lineage.state.entities import Model, Release
from serve.controller.reconciler import Reconciler
from serve.controller.subprocesses import LineProcess
from serve.monitor import candidates_waiting, drift_intentions, fairness_intentions, window_frame
from serve.record.decision_log import Window

_FAIRNESS_ROWS = 2_000


class Measurements:
    """Measures every champion at the intervals of its policy."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._drift_process = LineProcess("validators.drift")
        self._seen: dict[str, str] = {}

    def tick(self) -> None:
        """Start what is due."""
        for model in self._reconciler.models():
            release = self._reconciler.view.champion(model)
            if release is None:
                continue
            name, monitor = model.model, release.terms.monitor
            self._reconciler.start(f"drift {name}", monitor.drift.every_seconds, self._drift, name)
            self._reconciler.start(f"fairness {name}", monitor.fairness.every_seconds, self._fairness, name)

    def seal_seconds(self) -> float:
        """Seconds between two sealings: the shortest of all champions' policies, 5 s without a champion."""
        view = self._reconciler.view
        champions = [release for model in self._reconciler.models() if (release := view.champion(model))]
        return min((release.terms.monitor.seal_seconds for release in champions), default=5.0)

    async def _drift(self, name: str) -> None:
        model, release, window = await self._window(name)
        if release is None or not self._is_new(f"drift {name}", window):
            return
        settings = self._reconciler.settings
        folder = settings.artefacts / release.digest.removeprefix("sha256:")
        frame = await asyncio.to_thread(window_frame, release.features, window.records)
        path = settings.run / f"window-{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        request: dict[str, Any] = {"reference": str(folder / "reference.parquet"), "window": str(path)}
        request |= {"policy": release.policy, "release": release.release}
        try:
            await asyncio.to_thread(frame.write_parquet, path)
            measured = await self._drift_process.ask(request)
        finally:
            path.unlink(missing_ok=True)  # personal values are kept under their keys only
        data = counting_erased(measured, window.erased)
        waiting = candidates_waiting(self._reconciler.view, release)
        for intention in drift_intentions(model, release, waiting, data):
            await self._reconciler.record(intention)

    async def _fairness(self, name: str) -> None:
        model, release, window = await self._window(name, _FAIRNESS_ROWS)
        if release is None or not self._is_new(f"fairness {name}", window):
            return
        from serve.controller.live_fairness import disparities  # deltalake is imported when it is first needed

        settings, terms = self._reconciler.settings, release.terms
        grouping = terms.validation.limits.get("group_fairness", {})
        found = await asyncio.to_thread(disparities, settings, name, window.records, terms.monitor.fairness, grouping)
        for disparity in found:
            data = disparity.to_dict(release.release, "live") | {"erased": window.erased}
            for intention in fairness_intentions(model, data):
                await self._reconciler.record(intention)

    async def _window(self, name: str, least: int = 0) -> tuple[Model, Release | None, Window]:
        """The champion's newest decisions, as many as the policy's drift window and at least `least`."""
        model = self._reconciler.view.models[name]
        release = self._reconciler.view.champion(model)
        if release is None:
            return model, None, Window()
        most = max(release.terms.monitor.drift.window, least)
        window = await asyncio.to_thread(self._reconciler.decisions.latest, release, most)
        return model, release if window.records else None, window

    def _is_new(self, name: str, window: Window) -> bool:
        """Whether there are decisions since the last measurement of this name."""
        newest = window.records[-1]["decision_id"]
        changed = self._seen.get(name) != newest
        self._seen[name] = newest
        return changed


def counting_erased(measured: dict[str, Any], erased: int) -> dict[str, Any]:
    """The data of DriftMeasured with the number of erased decisions; `report_digest` covers it."""
    fact = {name: value for name, value in measured.items() if name != "report_digest"}
    fact["window"] = fact["window"] | {"erased": erased}
    return fact | {"report_digest": digest_of(fact)}
