"""A model together with the kill switch of all models: what a page needs to say who answers now."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lineage.state.entities import ModelSummary
from lineage.state.safety import Kill


@dataclass(frozen=True)
class ModelNow:
    """A model with the kill switch of all models beside it."""

    model: ModelSummary
    kill_of_all: Kill | None = None

    @property
    def stopped(self) -> str:
        """What answers under the kill switches: `baseline`, `nothing`, or empty where none is pulled."""
        return self.model.stopped(self.kill_of_all)

    @property
    def champion(self) -> str:
        """The release that answers by itself, in words where there is none."""
        return self.model.champion or "the baseline"

    def with_champion(self, champion: str) -> ModelNow:
        """The same after another release or `baseline` has taken all traffic."""
        return replace(self, model=replace(self.model, champion=champion, share=0.0))

    def with_challenger(self, challenger: str | None, share: float) -> ModelNow:
        """The same with this share of traffic for a challenger."""
        return replace(self, model=replace(self.model, challenger=challenger, share=share))

    def with_kill(self, kill: Kill | None) -> ModelNow:
        """The same with the model's own kill switch in this position."""
        return replace(self, model=replace(self.model, kill=kill))
