"""Taking back what a group of records did to a fold, at the cost of what they touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from lineage.state.safety import Kill


class Copies(Protocol):
    """A value that can be copied so that the copy goes its own way."""

    def copy(self) -> Copies:
        """The copy."""


V = TypeVar("V", bound=Copies)


@dataclass
class Undo:
    """What the fold was before a group of records."""

    seq: int
    era: int
    changed: int
    etag: int
    kill: Kill | None
    barred: set[str]
    _kept: dict[tuple[int, str], tuple[dict[str, Copies], Copies | None]] = field(default_factory=dict)

    def keep(self, values: dict[str, V], name: str | None) -> None:
        """Remember `values[name]`, or that there is none, before a record changes it for the first time."""
        if name is None or (id(values), name) in self._kept:
            return
        known = values.get(name)
        self._kept[id(values), name] = (values, known.copy() if known else None)  # type: ignore[assignment]

    def restore(self) -> None:
        """Put back what was kept."""
        for (_, name), (values, before) in self._kept.items():
            if before is None:
                values.pop(name, None)
            else:
                values[name] = before
