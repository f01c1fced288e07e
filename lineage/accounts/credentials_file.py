"""The file that holds credentials: read when it changed, replaced as a whole, migrated from earlier versions."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from lineage.accounts.passwords import of_scrypt
from lineage.errors import UnavailableError
from lineage.secret_files import write_secret

_FORMAT = 2
Json = dict[str, Any]


class CredentialsFile:
    """One file; `read` gives a snapshot that no later change touches."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._stamp = (0, 0)
        self._data: Json = _empty()

    def read(self) -> Json:
        """The content, `{"generation", "firsts", "people", "tokens", "halves", "migrated"}`; not to be changed.

        Raises:
            UnavailableError: the file cannot be read.
        """
        # `plimsoll up` may write before the service runs: the file is authoritative, memory is a copy.
        try:
            seen = self._path.stat()
            changed = (seen.st_mtime_ns, seen.st_ino)
            if changed != self._stamp:
                with self._lock:
                    self._data, self._stamp = _present(orjson.loads(self._path.read_bytes())), changed
        except FileNotFoundError:
            return self._data
        except (OSError, orjson.JSONDecodeError) as error:
            raise UnavailableError(f"the accounts file cannot be read: {error}", field="accounts") from error
        return self._data

    @contextmanager
    def change(self) -> Iterator[Json]:
        """A copy to change, written unless an error is raised; excludes other threads and processes.

        Raises:
            UnavailableError: the file cannot be read or written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._path.with_name("accounts.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            copy: Json = orjson.loads(orjson.dumps(self.read()))
            yield copy
            try:
                write_secret(self._path, orjson.dumps(copy, option=orjson.OPT_INDENT_2).decode())
            except OSError as error:
                raise UnavailableError(f"accounts cannot be written: {error.strerror}", field="accounts") from error


def _empty() -> Json:
    return {"v": _FORMAT, "generation": 0, "migrated": False, "firsts": [], "people": {}, "tokens": {}, "halves": {}}


def _present(data: Json) -> Json:
    """The file in the present form. Up to version 0.2 it listed people by name, which is their id from then on."""
    if data.get("v") == _FORMAT:
        return data
    people = {
        name: {"name": name, "hash": of_scrypt(person["salt"], person["hash"]), "devices": []}
        for name, person in data["people"].items()
    }
    return _empty() | {"migrated": True, "people": people}
