"""The part of the ledger's fold that serving needs, kept up to date by reading only what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lineage.state.entities import Model, Release
from lineage.state.fold import LedgerState
from lineage.state.safety import Kill
from lineage.state.views import kill_view, model_view, release_view


@dataclass
class LedgerView:
    """Models, their releases that may answer or move, and the kill switch of all models, as of record `seq`."""

    seq: int = 0
    kill: Kill | None = None
    models: dict[str, Model] = field(default_factory=dict)
    releases: dict[str, Release] = field(default_factory=dict)

    @classmethod
    def of(cls, state: LedgerState) -> LedgerView:
        """The whole of a fold."""
        return cls(state.seq, state.kill, state.models, state.releases)

    def updated(self, changes: Mapping[str, Any]) -> LedgerView:
        """The view after changes, as `GET /v1/changes` gives them. What was handed out before stays as it was.

        Raises:
            InvalidError: they cannot be read, e.g. because the ledger service is of another version.
        """
        models = {name: model_view(content) for name, content in changes["models"].items()}
        kept = {name: release for name, release in self.releases.items() if release.model not in models}
        fresh = {name: release_view(content) for name, content in changes["releases"].items()}
        return LedgerView(changes["seq"], kill_view(changes["kill"]), self.models | models, kept | fresh)

    def of_model(self, model: str) -> list[Release]:
        """The releases of a model that are known here, oldest first."""
        return sorted((r for r in self.releases.values() if r.model == model), key=lambda release: release.number)

    def champion(self, model: Model) -> Release | None:
        """The release that answers, or None where the baseline does."""
        return self.releases[model.champion] if model.champion else None
