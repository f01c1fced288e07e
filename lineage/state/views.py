"""Entries of the fold as other processes read them: the JSON of the ledger service, parsed into the same types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from lineage.errors import InvalidError
from lineage.state.entities import Model, ModelSummary, Release, ReleaseSummary
from lineage.state.keys import Away
from lineage.state.safety import Kill

T = TypeVar("T")


@dataclass(frozen=True)
class ModelsPage:
    """Some models, how many there are in all, the kill switch of all of them, and whether the witness is away."""

    models: list[ModelSummary]
    total: int
    kill: Kill | None
    away: Away | None = None


@dataclass(frozen=True)
class ReleasesPage:
    """Some releases with their models by name, how many match in all, and the kill switch of all models."""

    releases: list[ReleaseSummary]
    total: int
    models: dict[str, ModelSummary] = field(default_factory=dict)
    kill: Kill | None = None


_MODEL, _RELEASE = TypeAdapter(Model), TypeAdapter(Release)
_KILL: TypeAdapter[Kill | None] = TypeAdapter(Kill | None)
_MODELS, _RELEASES = TypeAdapter(ModelsPage), TypeAdapter(ReleasesPage)


def model_view(content: Mapping[str, Any]) -> Model:
    """A model, as `GET /v1/models/{model}` gives it.

    Raises:
        InvalidError: it is not one, e.g. because the ledger service is of another version.
    """
    return parsed(_MODEL, content)


def release_view(content: Mapping[str, Any]) -> Release:
    """A release, as `GET /v1/releases/{release}` gives it.

    Raises:
        InvalidError: it is not one.
    """
    return parsed(_RELEASE, content)


def kill_view(content: Mapping[str, Any] | None) -> Kill | None:
    """A kill switch, or None where it is not pulled.

    Raises:
        InvalidError: it is not one.
    """
    return parsed(_KILL, content)


def models_view(content: Mapping[str, Any]) -> ModelsPage:
    """A page of models, as `GET /v1/models` and `GET /v1/stopped` give it.

    Raises:
        InvalidError: it is not one.
    """
    return parsed(_MODELS, content)


def releases_view(content: Mapping[str, Any]) -> ReleasesPage:
    """A page of releases, as `GET /v1/releases` gives it.

    Raises:
        InvalidError: it is not one.
    """
    return parsed(_RELEASES, content)


def parsed(adapter: TypeAdapter[T], content: Any) -> T:
    """An answer of the ledger service as the type of `adapter`.

    Raises:
        InvalidError: it is none, e.g. because the ledger service is of another version.
    """
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidError(f"the ledger service answered {field}: {first['msg']}", field=field) from error
