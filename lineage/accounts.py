"""Accounts of people and machines, and their tokens. The file holds passwords as scrypt and tokens as SHA-256 only."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import orjson

from lineage.clock import Clock, instant, now, stamp
from lineage.errors import InvalidError, RefusedError, UnavailableError, UnknownError
from lineage.rules.proposal import Actor
from lineage.secret_files import write_secret
from lineage.settings import Settings

ROLES = ("scientist", "validator", "operator", "auditor")
MACHINES = {"controller": "service", "trainer": "service", "client": "client"}
SESSION = timedelta(hours=12)
_ATTEMPTS, _WINDOW, _BUCKETS = 10, timedelta(minutes=5), 1_024
_PASSWORD_BYTES = 1_024
_SCRYPT: dict[str, int] = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}


def token_hash(token: str) -> str:
    """SHA-256 of a bearer token, its key in the accounts file."""
    return hashlib.sha256(token.encode()).hexdigest()


class Accounts:
    """The accounts file of one home folder; always replaced as a whole."""

    def __init__(self, settings: Settings, *, clock: Clock = now) -> None:
        self._settings = settings
        self._path = settings.accounts_file
        self._clock = clock
        self._lock = threading.RLock()
        self._failures: dict[str, deque[Any]] = {}
        self._stamp = (0, 0)
        self._data: dict[str, Any] = {"people": {}, "tokens": {}}
        self._load()

    def first_start(self) -> dict[str, str]:
        """Make missing machine tokens and one account per role; return the new passwords by name, to be shown once."""
        with self._transaction():
            for name, role in MACHINES.items():
                self._register_machine(name, role)
            missing = [role for role in ROLES if role not in self._data["people"]]
            return {name: self._set_password(name, role=name) for name in missing}

    def reset_password(self, name: str) -> str:
        """Set a new random password, end the person's sessions and return the password.

        Raises:
            UnknownError: there is no such account.
        """
        with self._transaction():
            if name not in self._data["people"]:
                raise UnknownError(f"there is no account {name!r}; known: {', '.join(self._data['people'])}")
            password = self._set_password(name, role=self._data["people"][name]["role"])
            self._remove_tokens(lambda token: token["name"] == name)
            return password

    def sign_in(self, name: str, password: str) -> dict[str, Any]:
        """Open a session: `{"token", "name", "role", "expires_at"}`.

        Raises:
            RefusedError: name or password is wrong (the message does not say which), or too many attempts.
        """
        with self._lock:
            self._load()
            self._throttle(name)
            known = self._data["people"].get(name)
        # Outside the lock: scrypt is slow on purpose, and other callers should not wait for it.
        given = _scrypt(password, bytes.fromhex(known["salt"]) if known else b"nobody has this")
        with self._transaction():
            person = self._data["people"].get(name)
            if person is None or not hmac.compare_digest(given, person["hash"]):
                self._failures.setdefault(self._bucket(name), deque()).append(self._clock())
                raise RefusedError("name or password is wrong", code="sign_in", status=401)
            self._failures.pop(self._bucket(name), None)
            self._remove_tokens(self._expired)
            token = secrets.token_urlsafe(32)
            expires_at = stamp(self._clock() + SESSION)
            session = {"name": name, "role": person["role"], "expires_at": expires_at}
            self._data["tokens"][token_hash(token)] = session
            return {"token": token, **session}

    def sign_out(self, token: str) -> None:
        """End a session.

        Raises:
            RefusedError: it is the token of a machine account; the platform depends on it.
        """
        with self._transaction():
            known = self._data["tokens"].get(token_hash(token))
            if known is not None and known["expires_at"] is None:
                raise RefusedError(f"{known['name']} is a machine account; only people sign out", code="machine")
            self._data["tokens"].pop(token_hash(token), None)

    def who(self, token: str) -> Actor:
        """The account that a token belongs to.

        Raises:
            RefusedError: the token is unknown or has expired (401).
        """
        with self._lock:
            self._load()
            known = self._data["tokens"].get(token_hash(token))
            if known is None or self._expired(known):
                raise RefusedError("the token is unknown or has expired; sign in again", code="token", status=401)
            return Actor(known["name"], known["role"])

    def live_tokens(self) -> dict[str, dict[str, str]]:
        """SHA-256 of every live token with its owner, so that gateways authenticate callers without a request."""
        with self._lock:
            self._load()
            live = {key: value for key, value in self._data["tokens"].items() if not self._expired(value)}
            return {key: {"name": value["name"], "role": value["role"]} for key, value in live.items()}

    def people(self) -> dict[str, str]:
        """Name and role of every person."""
        with self._lock:
            self._load()
            return {name: person["role"] for name, person in self._data["people"].items()}

    def _expired(self, token: dict[str, Any]) -> bool:
        return token["expires_at"] is not None and instant(token["expires_at"]) <= self._clock()

    def _throttle(self, name: str) -> None:
        failures = self._failures.get(self._bucket(name), deque())
        while failures and failures[0] < self._clock() - _WINDOW:
            failures.popleft()
        if len(failures) >= _ATTEMPTS:
            raise RefusedError(
                f"{len(failures)} failed attempts for this name; wait five minutes", code="throttled", status=429
            )

    def _bucket(self, name: str) -> str:
        """The counter of failures for this name; names without an account share a bounded number of counters."""
        if name in self._data["people"]:
            return name
        return f"#{zlib.crc32(name.encode(errors='replace')) % _BUCKETS}"

    def _register_machine(self, name: str, role: str) -> None:
        path = self._settings.secrets / f"{name}.token"
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(32))
        known = token_hash(self._settings.token(name))
        self._remove_tokens(lambda token: token["name"] == name)
        self._data["tokens"][known] = {"name": name, "role": role, "expires_at": None}

    def _remove_tokens(self, which: Callable[[dict[str, Any]], bool]) -> None:
        self._data["tokens"] = {key: value for key, value in self._data["tokens"].items() if not which(value)}

    def _set_password(self, name: str, *, role: str) -> str:
        password, salt = secrets.token_urlsafe(12), os.urandom(16)
        person = {"role": role, "salt": salt.hex(), "hash": _scrypt(password, salt)}
        self._data["people"][name] = person
        return password

    def _load(self) -> None:
        # `plimsoll accounts` may write while the service runs: the file is authoritative, memory is a copy.
        try:
            seen = self._path.stat()
            changed = (seen.st_mtime_ns, seen.st_ino)
            if changed == self._stamp:
                return
            self._data, self._stamp = orjson.loads(self._path.read_bytes()), changed
        except FileNotFoundError:
            return
        except (OSError, orjson.JSONDecodeError) as error:
            raise UnavailableError(f"the accounts file cannot be read: {error}", field="accounts") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Change the accounts and write them unless an error is raised; excludes other threads and processes."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._path.with_name("accounts.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._load()
            try:
                yield
                write_secret(self._path, orjson.dumps(self._data, option=orjson.OPT_INDENT_2).decode())
            except OSError as error:
                raise UnavailableError(f"accounts cannot be written: {error.strerror}", field="accounts") from error
            finally:
                self._stamp = (0, 0)  # memory may hold half a change: read the file again


def _scrypt(password: str, salt: bytes) -> str:
    raw = password.encode()
    if len(raw) > _PASSWORD_BYTES:
        raise InvalidError(f"a password has at most {_PASSWORD_BYTES} bytes", field="password")
    return hashlib.scrypt(raw, salt=salt, n=_SCRYPT["n"], r=_SCRYPT["r"], p=_SCRYPT["p"], dklen=32).hex()
