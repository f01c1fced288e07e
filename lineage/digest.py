"""What a digest is taken of: canonical JSON, one file, or a folder of files."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import orjson

from lineage.errors import InvalidError, UnavailableError


def canonical(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no white space: equal values give equal bytes.

    Raises:
        InvalidError: the value holds something JSON has no form for, NaN and infinity among them.
    """
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InvalidError(f"cannot be written as JSON: {error}; expected objects, lists, text and numbers") from error
    absent = list(value.values()).count(None) if isinstance(value, dict) else 0
    if text.count(b"null") > absent:  # as which NaN would be written
        _refuse_not_finite(value, "")
    return text


def _refuse_not_finite(value: Any, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidError(f"{path or 'the value'} is {value}; expected a finite number", field=path or None)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, inner in items:
        _refuse_not_finite(inner, f"{path}.{name}" if path else str(name))


def digest_bytes(data: bytes) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """The digest of a JSON value, independent of the order of its keys."""
    return digest_bytes(canonical(value))


def digest_file(path: Path) -> str:
    """The digest of a file's bytes.

    Raises:
        UnavailableError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UnavailableError(f"cannot read {path.name!r}: {error}", field=path.name) from error


def digest_folder(folder: Path) -> str:
    """The digest of a flat folder of regular files: names and contents, nothing else.

    It is the SHA-256 of the lines `<sha256 of the file>  <name>`, sorted by name, which `sha256sum * | sha256sum`
    gives too.

    Raises:
        InvalidError: the folder holds a link, a folder or another thing that is not a regular file, a name that could
            pass for two lines, or nothing.
        UnavailableError: a file cannot be read.
    """
    if not folder.is_dir():
        raise UnavailableError(f"there is no folder {folder.name}", field=folder.name)
    lines = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.is_symlink() or not path.is_file():
            raise InvalidError(f"{path.name!r} is not a regular file; a bundle holds files only", field=path.name)
        if not path.name.isprintable():
            raise InvalidError(f"{path.name!r} holds characters that cannot be printed", field="name")
        lines.append(f"{digest_file(path).removeprefix('sha256:')}  {path.name}\n")
    if not lines:
        raise InvalidError(f"folder {folder.name} is empty; a bundle holds at least one file", field=folder.name)
    return digest_bytes("".join(lines).encode())
