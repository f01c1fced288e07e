"""TOML documents that people write: read, parsed into frozen values, or refused with the key that is wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lineage.errors import InvalidError, UnavailableError

P = TypeVar("P", bound=BaseModel)

_SHOWN = 80  # characters of a wrong value that an error repeats


class Part(BaseModel):
    """A table of a document: closed, frozen, without NaN, infinity or silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        UnavailableError: the file cannot be read.
        InvalidError: it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnavailableError(f"cannot read {path}: {error.strerror}", field=path.name) from error
    except ValueError as error:
        raise InvalidError(f"{path.name} is not TOML: {error}", field=path.name) from error


def parse_part(shape: type[P], content: Any, source: str, prefix: str = "") -> P:
    """`content` as a `shape`.

    Args:
        source: the file the content came from, named by errors.
        prefix: where in the file it is, e.g. "validation.group_fairness".

    Raises:
        InvalidError: names file, key, value and what was expected.
    """
    try:
        return shape.model_validate(content, extra="forbid")
    except ValidationError as error:
        raise _explain(error, source, shape, prefix) from error


def refuse(source: str, path: str, value: Any, expected: str) -> InvalidError:
    """The error for a value that is not what was expected."""
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
    what = f"{path} is {shown}" if path else f"the document is {shown}"
    return InvalidError(f"{source}: {what}; expected {expected}", field=path or None)


def unknown_key(source: str, path: str, known: Iterable[str], also: str = "") -> InvalidError:
    """The error for a key that does not exist, with the nearest that does."""
    known = list(known)
    near = get_close_matches(path.rpartition(".")[2], known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known) or 'nothing'}"
    return InvalidError(f"{source}: {path} is not a known key; {hint}{also}", field=path)


def _explain(error: ValidationError, source: str, shape: type[BaseModel], prefix: str) -> InvalidError:
    """The first thing that is wrong, as one sentence that names the key; the rest is counted."""
    first, *more = error.errors(include_url=False)
    path = ".".join(filter(None, [prefix, *(str(part) for part in first["loc"])]))
    also = f" ({len(more)} more values are wrong)" if more else ""
    if first["type"] == "extra_forbidden":
        return unknown_key(source, path, _keys(shape, first["loc"][:-1]), also)
    if first["type"] == "missing":
        return InvalidError(f"{source}: {path} is missing{also}", field=path)
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return refuse(source, path, first["input"], expected + also)


def _keys(shape: type[BaseModel], parts: tuple[int | str, ...]) -> list[str]:
    for part in parts:
        field = shape.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not isinstance(inner, type) or not issubclass(inner, BaseModel):
            return []
        shape = inner
    return list(shape.model_fields)
