"""SHA-256 digests of JSON values, files and folders, and the reading of folders for that."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from lineage.errors import InvalidError, UnavailableError

FOLDER_BYTES = 1024 * 1024 * 1024  # bytes of a folder that is read into memory
_READ_BYTES = 4 * 1024 * 1024
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def canonical(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no white space: equal values give equal bytes.

    Raises:
        InvalidError: the value cannot be written as JSON, e.g. NaN or infinity.
    """
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InvalidError(f"cannot be written as JSON: {error}; expected objects, lists, text and numbers") from error
    absent = list(value.values()).count(None) if isinstance(value, dict) else 0
    if text.count(b"null") > absent:  # orjson writes NaN as null
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
    """The digest of a flat folder of regular files, over names and contents.

    It is the SHA-256 of the lines `<sha256 of the file>  <name>`, sorted by name, as `sha256sum * | sha256sum` gives.

    Raises:
        InvalidError: the folder is empty or holds a link, a folder, another irregular file, or a name with control
            characters.
        UnavailableError: a file cannot be read.
    """
    if not folder.is_dir():
        raise UnavailableError(f"there is no folder {folder.name}", field=folder.name)
    found = {}
    for path in folder.iterdir():
        _check_name(path.name)
        if path.is_symlink() or not path.is_file():
            raise _irregular(path.name)
        found[path.name] = digest_file(path)
    return _digest_of_lines(folder.name, found)


def digest_files(name: str, files: Mapping[str, bytes]) -> str:
    """The digest that `digest_folder` gives for a folder called `name` with these files.

    Raises:
        InvalidError: there is no file, or a name holds control characters.
    """
    for one in files:
        _check_name(one)
    return _digest_of_lines(name, {one: digest_bytes(content) for one, content in files.items()})


def read_folder(folder: Path, most: int = FOLDER_BYTES) -> dict[str, bytes]:
    """The content of every file of a flat folder by name, sorted; each file is opened once and read to its end.

    The bytes returned can be checked and used without reading again. Links are not followed; pipes and devices are not
    waited for.

    Args:
        folder: the folder.
        most: largest total size in bytes.

    Raises:
        InvalidError: the folder holds anything but regular files, or more than `most` bytes.
        UnavailableError: the folder does not exist or a file cannot be read.
    """
    files: dict[str, bytes] = {}
    left = most
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"there is no folder {folder.name} ({error.strerror})", field=folder.name) from error
    try:
        for name in sorted(os.listdir(place)):  # noqa: PTH208  of the open folder, whatever its path now names
            files[name] = _read_once(name, place, left)
            left -= len(files[name])
    finally:
        os.close(place)
    return files


def _read_once(name: str, place: int, most: int) -> bytes:
    try:
        number = os.open(name, _OPEN_FLAGS, dir_fd=place)
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise _irregular(name)
            parts: list[bytes] = []
            while most >= 0 and (part := os.read(number, _READ_BYTES)):
                parts.append(part)
                most -= len(part)
        finally:
            os.close(number)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):  # a link; a pipe, socket or device
            raise _irregular(name) from error
        raise UnavailableError(f"cannot read {name!r}: {error.strerror}", field=name) from error
    if most < 0:
        raise InvalidError(f"the folder holds more than its limit with {name!r}; it is not a bundle", field=name)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _irregular(name: str) -> InvalidError:
    return InvalidError(f"{name!r} is not a regular file; a bundle holds files only", field=name)


def _check_name(name: str) -> None:
    if not name.isprintable():
        raise InvalidError(f"{name!r} holds characters that cannot be printed", field="name")


def _digest_of_lines(name: str, digests: Mapping[str, str]) -> str:
    if not digests:
        raise InvalidError(f"folder {name} is empty; a bundle holds at least one file", field=name)
    lines = [f"{digests[one].removeprefix('sha256:')}  {one}\n" for one in sorted(digests)]
    return digest_bytes("".join(lines).encode())
