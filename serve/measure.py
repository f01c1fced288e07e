"""The measuring half of monitoring: drift in a process of its own, live fairness by joining protected attributes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from serve.conduct import Conduct
from serve.helpers import DeskProcess
from serve.intention import View
from serve.monitor import candidates_waiting, drift_intentions, fairness_intentions, window_frame

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
        model, release, records = await self._window(name, "drift")
        if release is None or not self._is_new(f"drift {name}", records):
            return
        settings = self._conduct.settings
        folder = settings.artefacts / release["digest"].removeprefix("sha256:")
        frame = await asyncio.to_thread(window_frame, release["features"], records)
        path = settings.run / f"window-{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(frame.write_parquet, path)
        data = await self._drift_desk.ask(
            {
                "reference": str(folder / "reference.parquet"),
                "window": str(path),
                "policy": release["policy"],
                "release": release["release"],
            }
        )
        assert self._conduct.state is not None  # noqa: S101
        waiting = candidates_waiting(self._conduct.state["releases"], release)
        for intention in drift_intentions(model, release, waiting, data):
            await self._conduct.state_fact(intention)

    async def _fairness(self, name: str) -> None:
        model, release, records = await self._window(name, "fairness")
        if release is None or not self._is_new(f"fairness {name}", records):
            return
        from serve.protected import disparities  # deltalake is imported when it is first needed

        settings, policy = self._conduct.settings, release["policy"]
        limits, grouping = policy["monitor"]["fairness"], policy["validation"].get("group_fairness", {})
        found = await asyncio.to_thread(disparities, settings, name, records, limits, grouping)
        for disparity in found:
            data = disparity.to_dict(release["release"], "live")
            for intention in fairness_intentions(model, data):
                await self._conduct.state_fact(intention)

    async def _window(self, name: str, section: str) -> tuple[View, View | None, list[dict[str, Any]]]:
        state = self._conduct.state
        assert state is not None  # noqa: S101
        model = state["models"][name]
        release = self._champion(model)
        if release is None:
            return model, None, []
        most = int(release["policy"]["monitor"]["drift"]["window"])
        most = most if section == "drift" else max(most, 2000)
        records = await asyncio.to_thread(self._conduct.keeper.latest, release, most)
        return model, release if records else None, records

    def _is_new(self, name: str, records: list[dict[str, Any]]) -> bool:
        """Nothing is measured twice: without new decisions there is no new fact."""
        newest = records[-1]["decision_id"]
        changed = self._seen.get(name) != newest
        self._seen[name] = newest
        return changed
