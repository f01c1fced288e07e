"""The measuring half of monitoring: drift in a process of its own, live fairness by joining protected attributes.

Decisions about people who were erased cannot be measured; every measurement says how many it passed over.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from lineage.digest import digest_of
from serve.controller.reconciler import Conduct
from serve.controller.subprocesses import DeskProcess
from serve.intent import View
from serve.monitor import candidates_waiting, drift_intentions, fairness_intentions, window_frame
from serve.record.decision_log import Window

log = logging.getLogger(__name__)


class Measure:
    """Measures every champion as often as its policy says."""

    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct
        self._drift_desk = DeskProcess("validators.drift")
        self._seen: dict[str, str] = {}

    def tick(self) -> None:
        """Start what is due."""
        for model in self._conduct.models():
            release = self._champion(model)
            if release is None:
                continue
            name, monitor = model["model"], release["policy"]["monitor"]
            self._conduct.start(f"drift {name}", monitor["drift"]["every_seconds"], self._drift, name)
            self._conduct.start(f"fairness {name}", monitor["fairness"]["every_seconds"], self._fairness, name)

    def seal_seconds(self) -> float:
        """How often to seal: the shortest that any champion's policy wants, 5 s where there is none."""
        champions = [release for model in self._conduct.models() if (release := self._champion(model))]
        return min((float(release["policy"]["monitor"]["seal_seconds"]) for release in champions), default=5.0)

    def _champion(self, model: View) -> View | None:
        state = self._conduct.state
        return state["releases"][model["champion"]] if state and model["champion"] else None

    async def _drift(self, name: str) -> None:
        model, release, window = await self._window(name, "drift")
        if release is None or not self._is_new(f"drift {name}", window):
            return
        settings = self._conduct.settings
        folder = settings.artefacts / release["digest"].removeprefix("sha256:")
        frame = await asyncio.to_thread(window_frame, release["features"], window.records)
        path = settings.run / f"window-{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        request = {"reference": str(folder / "reference.parquet"), "window": str(path)}
        request |= {"policy": release["policy"], "release": release["release"]}
        try:
            await asyncio.to_thread(frame.write_parquet, path)
            measured = await self._drift_desk.ask(request)
        finally:
            path.unlink(missing_ok=True)  # people's values stay under their keys
        data = counting_erased(measured, window.erased)
        assert self._conduct.state is not None  # noqa: S101
        waiting = candidates_waiting(self._conduct.state["releases"], release)
        for intention in drift_intentions(model, release, waiting, data):
            await self._conduct.state_fact(intention)

    async def _fairness(self, name: str) -> None:
        model, release, window = await self._window(name, "fairness")
        if release is None or not self._is_new(f"fairness {name}", window):
            return
        from serve.controller.live_fairness import disparities  # deltalake is imported when it is first needed

        settings, policy = self._conduct.settings, release["policy"]
        limits, grouping = policy["monitor"]["fairness"], policy["validation"].get("group_fairness", {})
        found = await asyncio.to_thread(disparities, settings, name, window.records, limits, grouping)
        for disparity in found:
            data = disparity.to_dict(release["release"], "live") | {"erased": window.erased}
            for intention in fairness_intentions(model, data):
                await self._conduct.state_fact(intention)

    async def _window(self, name: str, section: str) -> tuple[View, View | None, Window]:
        state = self._conduct.state
        assert state is not None  # noqa: S101
        model = state["models"][name]
        release = self._champion(model)
        if release is None:
            return model, None, Window()
        most = int(release["policy"]["monitor"]["drift"]["window"])
        most = most if section == "drift" else max(most, 2000)
        window = await asyncio.to_thread(self._conduct.keeper.latest, release, most)
        return model, release if window.records else None, window

    def _is_new(self, name: str, window: Window) -> bool:
        """Nothing is measured twice: without new decisions there is no new fact."""
        newest = window.records[-1]["decision_id"]
        changed = self._seen.get(name) != newest
        self._seen[name] = newest
        return changed


def counting_erased(measured: dict[str, Any], erased: int) -> dict[str, Any]:
    """The data of a DriftMeasured fact that also says how many decisions were passed over; its digest covers that."""
    fact = {name: value for name, value in measured.items() if name != "report_digest"}
    fact["window"] = fact["window"] | {"erased": erased}
    return fact | {"report_digest": digest_of(fact)}
