"""Undo of a group of records in the fold; costs only what they changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from lineage.state.keys import Away, KeyRing
from lineage.state.people import People
from lineage.state.safety import Kill


class Copyable(Protocol):
    """A value with an independent copy."""

    def copy(self) -> Copyable:
        """An independent copy."""


V = TypeVar("V", bound=Copyable)


@dataclass
class Undo:
    """The values of the fold before a group of records changed them."""

    seq: int
    era: int
    changed: int
    etag: int
    kill: Kill | None
    people: People
    barred: set[str]
    keys: KeyRing = field(default_factory=KeyRing)
    away: Away | None = None
    digests: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sealed: set[int] = field(default_factory=set)  # names that the group added
    _kept: dict[tuple[int, str], tuple[dict[str, Copyable], Copyable | None]] = field(default_factory=dict)

    def keep(self, values: dict[str, V], name: str | None) -> None:
        """Store `values[name]`, or its absence, before a record changes it for the first time."""
        if name is None or (id(values), name) in self._kept:
            return
        known = values.get(name)
        self._kept[id(values), name] = (values, known.copy() if known else None)  # type: ignore[assignment]

    def restore(self) -> None:
        """Restore the stored values."""
        for (_, name), (values, before) in self._kept.items():
            if before is None:
                values.pop(name, None)
            else:
                values[name] = before
