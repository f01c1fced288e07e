"""The plug-in points of the validators, and how plug-ins are found: a file in a folder, or an entry point.

A plug-in is a module in the folder of its kind, or an entry point in the group of its kind in any installed
distribution. Its name is the name of the module or of the entry point. They are listed once per process.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lineage.errors import InvalidError, UnavailableError, UnknownError


@dataclass(frozen=True)
class PluginPoint:
    """One kind of plug-in and where plug-ins of this kind are found.

    Attributes:
        kind: what errors call such a plug-in.
        package: import name of the folder whose modules are plug-ins; names that begin with an underscore are not.
        group: the group of entry points.
        attribute: what a module of the folder defines, and what an entry point refers to.
        field: the key of a policy or model.toml that names a plug-in; errors carry it.
    """

    kind: str
    package: str
    group: str
    attribute: str
    field: str

    def names(self) -> list[str]:
        """The names of every installed plug-in, sorted. Nothing is imported but the folder's own package."""
        return sorted(_sources(self))

    def hint(self, name: str) -> str:
        """What to write instead of an unknown name: the closest installed name, or all of them."""
        known = self.names()
        near = get_close_matches(name, known, 1)
        return f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(known) or 'none'}"

    def load(self, name: str) -> Any:
        """The plug-in called `name`.

        Raises:
            UnknownError: none has that name; an unknown name is never a default.
            InvalidError: several sources claim the name.
            UnavailableError: its module cannot be imported or does not define it.
        """
        sources = _sources(self).get(name, ())
        if not sources:
            raise UnknownError(f"no {self.kind} is called {name!r}; {self.hint(name)}", field=self.field)
        if len(sources) > 1:
            claims = " and ".join(_described(one) for one in sources)
            raise InvalidError(
                f"{self.kind} {name!r} is defined more than once: by {claims}; rename or uninstall all but one",
                field=self.field,
            )
        try:
            return sources[0].load()
        except (ImportError, AttributeError) as error:
            raise UnavailableError(
                f"{self.kind} {name!r} cannot be loaded from {_described(sources[0])}: {error}; repair or uninstall it",
                field=self.field,
            ) from error


@cache
def _sources(point: PluginPoint) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Every source of every name. A module of the folder is written as the entry point that it amounts to."""
    folder = importlib.import_module(point.package)
    found: dict[str, tuple[EntryPoint, ...]] = {
        module.name: (EntryPoint(module.name, f"{point.package}.{module.name}:{point.attribute}", point.group),)
        for module in pkgutil.iter_modules(folder.__path__)
        if not module.name.startswith("_")
    }
    for entry in entry_points(group=point.group):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def _described(source: EntryPoint) -> str:
    """Where a plug-in comes from, for errors."""
    return source.value if source.dist is None else f"{source.value} of distribution {source.dist.name}"


CHECKS = PluginPoint("check", "validators.checks", "plimsoll.checks", "check", "validation.checks")
DRIFT_STATISTICS = PluginPoint(
    "drift statistic",
    "validators.drift.statistics",
    "plimsoll.drift_statistics",
    "statistic",
    "monitor.drift.method",
)
SCORING_FAMILIES = PluginPoint(
    "model family", "validators.scoring.families", "plimsoll.scoring_families", "parse", "family"
)
