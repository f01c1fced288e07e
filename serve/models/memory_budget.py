"""Models in memory within a budget; the least recently used are evicted."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection
from dataclasses import dataclass

from validators.scoring.bundle import Bundle


@dataclass(slots=True)
class _Place:
    """A model's memory in bytes; `bundle` is None while it is being parsed."""

    cost: int
    bundle: Bundle | None
    used: int


class ModelMemory:
    """Bundles with their models, by digest. `get` takes no lock; all methods are thread-safe.

    Args:
        budget: bytes for all models. It is never exceeded, because memory is reserved before a model is parsed.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.taken, self.evictions = budget, 0, 0
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()
        self._uses = itertools.count()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, digest: object) -> bool:
        return digest in self._places

    def get(self, digest: str) -> Bundle | None:
        """The bundle, or None where its model is not in memory; counts as a use."""
        place = self._places.get(digest)
        if place is None:
            return None
        place.used = next(self._uses)
        return place.bundle

    def fits_beside(self, cost: int, keep: Collection[str]) -> bool:
        """Whether a model of `cost` bytes fits if every model but those of `keep` is evicted."""
        with self._lock:
            kept = sum(place.cost for digest, place in self._places.items() if digest in keep)
            return kept + cost <= self.budget

    def reserve(self, digest: str, cost: int, keep: Collection[str]) -> bool:
        """Reserve `cost` bytes, evicting least recently used models but none of `keep`; False where they do not fit."""
        with self._lock:
            others = [(place.used, one) for one, place in self._places.items() if one not in keep and place.bundle]
            freed = sum(self._places[one].cost for _, one in others)
            if digest in self._places or self.taken - freed + cost > self.budget:
                return False
            for _, one in sorted(others):
                if self.taken + cost <= self.budget:
                    break
                self.taken -= self._places.pop(one).cost
                self.evictions += 1
            self._places[digest] = _Place(cost, None, next(self._uses))
            self.taken += cost
            return True

    def fill(self, digest: str, bundle: Bundle) -> None:
        """Store the bundle in its reservation."""
        self._places[digest].bundle = bundle

    def release(self, digest: str) -> None:
        """Cancel a reservation."""
        with self._lock:
            self.taken -= self._places.pop(digest).cost
