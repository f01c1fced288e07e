"""Entries of the fold as other processes read them: the JSON of the ledger service, parsed into the same types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lineage.errors import InvalidError
from lineage.state.entities import Model, ModelSummary, Release, ReleaseSummary
from lineage.state.safety import Kill

_MODEL, _RELEASE, _KILL = TypeAdapter(Model), TypeAdapter(Release), TypeAdapter(Kill | None)
_MODELS, _RELEASES = TypeAdapter(list[ModelSummary]), TypeAdapter(list[ReleaseSummary])


def model_view(content: Mapping[str, Any]) -> Model:
    """A model, as `GET /v1/models/{model}` gives it.

    Raises:
        InvalidError: it is not one, e.g. because the ledger service is of another version.
    """
    view: Model = _parsed(_MODEL, content)
    return view


def release_view(content: Mapping[str, Any]) -> Release:
    """A release, as `GET /v1/releases/{release}` gives it.

    Raises:
        InvalidError: it is not one.
    """
    view: Release = _parsed(_RELEASE, content)
    return view


def kill_view(content: Mapping[str, Any] | None) -> Kill | None:
    """A kill switch, or None where it is not pulled.

    Raises:
        InvalidError: it is not one.
    """
    view: Kill | None = _parsed(_KILL, content)
    return view


def _parsed(adapter: TypeAdapter[Any], content: Any) -> Any:
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidError(f"the ledger service answered {field}: {first['msg']}", field=field) from error
