"""Parts of the fold that a page or the serving plane asks for, so that no reader needs all of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from lineage.lifecycle import IN_FLIGHT, State
from lineage.state.entities import Model, ModelSummary, Release, ReleaseSummary
from lineage.state.fold import LedgerState
from lineage.state.safety import Kill

T = TypeVar("T")
#: States of releases that may still move.
OPEN = frozenset({State.TRAINED, State.VALIDATED, State.REGISTERED, State.CHAMPION, State.ROLLING_BACK}) | IN_FLIGHT
_MODEL = tuple(field.name for field in fields(ModelSummary))
_RELEASE = tuple(field.name for field in fields(ReleaseSummary))


@dataclass(frozen=True)
class Page:
    """Some of the entries that match, and how many match in all."""

    entries: list[dict[str, Any]]
    total: int


@dataclass(frozen=True)
class Changes:
    """What changed since a record: models, their releases that may move or answer, and the switch of all models."""

    seq: int
    kill: Kill | None
    models: dict[str, Model]
    releases: dict[str, Release]


def model_summary(model: Model) -> dict[str, Any]:
    """The values of `ModelSummary`, as they are in the fold."""
    return {name: getattr(model, name) for name in _MODEL}


def release_summary(release: Release) -> dict[str, Any]:
    """The values of `ReleaseSummary`, as they are in the fold."""
    return {name: getattr(release, name) for name in _RELEASE}


def models_page(state: LedgerState, *, search: str = "", offset: int = 0, limit: int = 100) -> Page:
    """Models by name.

    Args:
        search: a part of the name, in any case.
    """
    found = sorted(name for name in state.models if search.lower() in name.lower())
    return Page([model_summary(state.models[name]) for name in found[offset : offset + limit]], len(found))


def stopped_page(state: LedgerState, *, limit: int = 100) -> Page:
    """Models that are killed by a switch of their own, by name, then those with open breakers."""
    found = [model for model in state.models.values() if model.kill or model.breakers]
    found.sort(key=lambda model: (model.kill is None, model.model))
    return Page([model_summary(model) for model in found[:limit]], len(found))


def releases_page(
    state: LedgerState,
    *,
    models: Collection[str] = (),
    states: Collection[str] = (),
    search: str = "",
    offset: int = 0,
    limit: int = 100,
) -> Page:
    """Releases, the one that moved last first.

    Args:
        models: of these models only; empty: of all.
        states: in these states only; empty: in any.
        search: a part of the release's name, in any case.
    """

    part = search.lower()

    def wanted(release: Release) -> bool:
        return (not states or release.state in states) and (not part or part in release.release.lower())

    return _page(_releases(state, models), wanted, _last_moved, release_summary, offset, limit)


def changes_since(state: LedgerState, after: int) -> Changes:
    """The models that any record behind `after` is about, with the releases that routing and monitoring need."""
    models = {name: model.copy() for name, model in state.models.items() if model.last_seq > after}
    names = {name for model in models.values() for name in _needed(state, model)}
    return Changes(state.seq, state.kill, models, {name: state.releases[name].copy() for name in sorted(names)})


def _needed(state: LedgerState, model: Model) -> Iterable[str]:
    rollback = (model.rollback.release, model.rollback.to) if model.rollback else ()
    named = (model.champion, model.previous, model.challenger, model.shadow, model.baseline_from, *rollback)
    yield from (name for name in named if name is not None and name in state.releases)
    yield from (name for name in model.names() if state.releases[name].state in OPEN)


def _releases(state: LedgerState, models: Collection[str]) -> Iterable[Release]:
    if not models:
        return state.releases.values()
    known = (state.models[name] for name in models if name in state.models)
    return (state.releases[name] for model in known for name in model.names())


def _last_moved(release: Release) -> int:
    return -(release.steps[-1].seq if release.steps else 0)


def _page(
    found: Iterable[T],
    wanted: Callable[[T], bool],
    order: Callable[[T], Any],
    shown: Callable[[T], dict[str, Any]],
    offset: int,
    limit: int,
) -> Page:
    matching = sorted((one for one in found if wanted(one)), key=order)
    return Page([shown(one) for one in matching[offset : offset + limit]], len(matching))
