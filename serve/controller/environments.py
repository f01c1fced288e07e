"""Releases that were trained in another environment than this one: their golden rows are answered again, on record.

A gateway replica loads no bundle whose golden rows do not match; here the same proof becomes a fact, so that a reader
of the record knows in which environments a release is proven to answer as it did.
"""

from __future__ import annotations

import asyncio
from typing import Any

from lineage.errors import PlimsollError
from lineage.state.alerts import ENVIRONMENT
from lineage.state.entities import Model, Release
from serve.controller.effects import golden_here
from serve.controller.reconciler import Reconciler
from serve.intent import Intention
from validators.environment import environment_digest

_EVERY_SECONDS = 300.0


class Environments:
    """Proves every release that may answer once in each environment that is not its own."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._here: str | None = None

    def tick(self) -> None:
        """Start what is due."""
        if self._here is None:
            self._reconciler.start("environment", _EVERY_SECONDS, self._look)
            return
        for model in self._reconciler.models():
            for release in self._unproven(model, self._here):
                name = f"environment {release.release}"
                self._reconciler.start(name, _EVERY_SECONDS, self._reproduce, model, release)

    async def _look(self) -> None:
        self._here = await asyncio.to_thread(environment_digest)  # takes a second or two

    def _unproven(self, model: Model, here: str) -> list[Release]:
        named = (model.champion, model.previous, model.challenger, model.shadow, model.baseline_from)
        releases = [self._reconciler.view.releases[name] for name in dict.fromkeys(named) if name]
        return [
            release
            for release in releases
            if here not in (release.environment_digest, *model.reproduced.get(release.release, ()))
        ]

    async def _reproduce(self, model: Model, release: Release) -> None:
        about = {"release": release.release}
        try:
            golden = await asyncio.to_thread(golden_here, self._reconciler.settings, release.digest)
        except PlimsollError as error:
            if model.alert(ENVIRONMENT, release.release) is None:
                summary = f"{release.release} does not answer here as where it was trained: {error.message}"
                data: dict[str, Any] = {
                    "alert": ENVIRONMENT,
                    "about": release.release,
                    "severity": "page",
                    "summary": summary,
                }
                data |= about | {"evidence": None}
                await self._reconciler.record(Intention("AlertRaised", model.model, data, about_release=False))
            raise
        environments = {"trained_in": release.environment_digest, "environment": self._here}
        data = about | environments | {"digest": release.digest, "golden": golden}
        await self._reconciler.record(Intention("EnvironmentReproduced", model.model, data, about_release=False))
