"""Strict JSON parser: refuses duplicate names and numbers that cannot be represented exactly.

orjson refuses invalid UTF-8, lone surrogates, NaN, deep nesting and trailing content. It accepts two things that are
refused here: the last of two members of one name, and whole numbers of more than 64 bits, which it rounds. The check
costs little for valid bodies: every member has one colon outside of strings, so if the body has as many colons as
members, none was lost; only otherwise it is parsed again by the slower parser of the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from lineage.errors import InvalidError
from serve.gateway.messages import RequestError

#: Whole numbers beyond this are not all exact in 64-bit floating point.
EXACT_MOST = 2**53
_SHOWN = 40  # characters of a wrong number that an error repeats


@dataclass(frozen=True)
class _Literal:
    """A number as its literal text."""

    text: str
    whole: bool

    @property
    def problem(self) -> str | None:
        if self.whole and (len(self.text) > 20 or abs(int(self.text)) > EXACT_MOST):
            return f"a whole number from -2**53 to 2**53 ({EXACT_MOST}), beyond which digits would be lost"
        if not self.whole and abs(float(self.text)) == float("inf"):
            return "a number that 64-bit floating point can hold (below 1.8e308)"
        return None


def read_object(body: bytes) -> dict[str, Any]:
    """Parse a body that must be a JSON object.

    Raises:
        RequestError: it is not JSON, not an object, or has a name twice (400).
        InvalidError: a number is beyond what floating point can hold (422).
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "infinity" in str(error):
            refuse_inexact(body)
        raise _malformed(str(error)) from error
    if type(content) is not dict:
        raise _malformed(f"it is a {type(content).__name__}")
    colons = body.count(b":")
    if colons != _members(content) and not _only_in_texts(content, body, colons):
        _parse_literally(body)
    return content


def check_names(content: dict[str, Any], known: frozenset[str]) -> None:
    """Refuse an object with unknown members.

    Raises:
        InvalidError: names the first of them.
    """
    for name in sorted(content.keys() - known):
        expected = ", ".join(sorted(known))
        raise InvalidError(f"{name[:60]!r} is not known here; expected {expected}", field=name[:60])


def are_exact(values: Iterable[Any]) -> bool:
    """Whether every number is small enough to be exact; other values are ignored."""
    for value in values:
        kind = type(value)
        if (kind is float or kind is int) and not -EXACT_MOST <= value <= EXACT_MOST:
            return False
    return True


def refuse_inexact(body: bytes) -> None:
    """Refuse whole numbers beyond 2**53 and numbers beyond floating point, by their literal text.

    Raises:
        InvalidError: names the first such number and its path.
        RequestError: the body is not JSON.
    """
    stack: list[tuple[str, Any]] = [("", _parse_literally(body))]
    while stack:
        path, value = stack.pop()
        if isinstance(value, _Literal):
            if value.problem:
                shown = value.text if len(value.text) <= _SHOWN else f"{value.text[:_SHOWN]}…"
                message = f"{_printable(path) or 'the body'} is {shown}; expected {value.problem}"
                raise InvalidError(message, field=_printable(path.removeprefix("features.")) or "body")
        elif isinstance(value, dict):
            stack += [(f"{path}.{name}".lstrip("."), inner) for name, inner in reversed(value.items())]
        elif isinstance(value, list):
            stack += [(f"{path}[{place}]", inner) for place, inner in reversed(list(enumerate(value)))]


def _members(content: dict[str, Any]) -> int:
    """Count the members of the objects that requests consist of; deeper objects are not counted."""
    members = len(content)
    for part in content.values():
        kind = type(part)
        if kind is dict:
            members += len(part)
        elif kind is list:
            for item in part:
                if type(item) is dict:
                    inner = item.get("parameters")
                    members += len(item) + (len(inner) if type(inner) is dict else 0)
    return members


def _only_in_texts(content: dict[str, Any], body: bytes, colons: int) -> bool:
    """Whether the surplus colons are inside strings of the parsed content, such as a customer's key.

    Without escapes these strings are literally in the body; a value lost to a duplicate name is not among them.
    """
    if b"\\" in body:
        return False
    in_texts = sum(part.count(":") for part in content.values() if type(part) is str)
    return colons - in_texts == _members(content)


def _parse_literally(body: bytes) -> Any:
    """Parse a body with numbers kept as their literal text, in linear time.

    Raises:
        RequestError: it is not JSON, or an object has a name twice.
    """
    try:
        return json.loads(
            body,
            object_pairs_hook=_refuse_duplicates,
            parse_int=lambda text: _Literal(text, whole=True),
            parse_float=lambda text: _Literal(text, whole=False),
        )
    except (ValueError, RecursionError) as error:
        raise _malformed(str(error)) from error


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        message = f"{name[:60]!r} is there twice in one object; expected each name once"
        raise RequestError(message, 400, "duplicate", _printable(name))
    return members


def _printable(name: str) -> str:
    return name[:60].encode(errors="replace").decode()  # a lone surrogate cannot be encoded


def _malformed(why: str) -> RequestError:
    return RequestError(f"the body is not what is expected, a JSON object: {why}", 400, "malformed", "body")
