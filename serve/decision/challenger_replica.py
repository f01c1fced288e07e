"""Challenger pool of Ray Serve: scores challengers in processes of their own, where a crash harms no champion."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import numpy as np

from lineage.diagnostic_log import configure_diagnostic_log
from lineage.errors import PlimsollError, TamperedError
from lineage.settings import Settings
from serve.decision.scoring import score
from serve.models.bundle_store import BundleStore
from serve.routes import Target
from validators.scoring.bundle import Bundle


class Challenger:
    """Scores rows with the bundle that each call names; a bundle is loaded in a thread when it is first named."""

    def __init__(self) -> None:
        configure_diagnostic_log()
        self._store = BundleStore(Settings())
        self._store.warm()
        self._loading = asyncio.Lock()

    async def score(self, release: str, digest: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Score rows of named features: of each the fields of `serve.decision.answers.Scored`, or `{"refused": why}`.

        Raises:
            TamperedError: the bundle's bytes are refused.
        """
        bundle = await self._bundle(Target(release, digest))
        return [_scored(bundle, row) for row in rows]

    async def prepare(self, release: str, digest: str) -> None:
        """Load a bundle and score one row, before traffic needs it.

        Raises:
            TamperedError: the bundle's bytes are refused.
        """
        bundle = await self._bundle(Target(release, digest))
        for scorer in (bundle.model, bundle.baseline):
            row = np.zeros((1, scorer.width))
            scorer.score(row)
            scorer.contributions(row)

    async def _bundle(self, target: Target) -> Any:
        bundle = self._store.get(target)
        if bundle is None:
            async with self._loading:
                await asyncio.to_thread(self._store.load, [target])
            bundle = self._store.get(target)
        if bundle is None:
            raise TamperedError(self._store.refused.get(target.digest, "the bundle could not be loaded"))
        return bundle


def _scored(bundle: Bundle, row: dict[str, Any]) -> dict[str, Any]:
    try:
        return asdict(score(bundle, row))
    except PlimsollError as error:  # the other rows are scored all the same
        return {"refused": f"{type(error).__name__}: {error.message}"}
