"""Sign-in of the terminal: a token from `PLIMSOLL_TOKEN`, or the session that `plimsoll login` stored."""

from __future__ import annotations

import os
from typing import Any

import orjson

from lineage.errors import RefusedError
from lineage.secret_files import write_secret
from lineage.settings import Settings
from plimsoll import Admin, Client


def save(settings: Settings, session: dict[str, Any]) -> None:
    """Store a session, and by what the device is known again, in files that only their owner may read."""
    write_secret(settings.secrets / "session.json", orjson.dumps(session).decode())
    devices = _devices(settings) | {session["name"]: session["device"]}
    write_secret(settings.secrets / "devices.json", orjson.dumps(devices).decode())


def device(settings: Settings, name: str) -> str | None:
    """What an earlier sign-in of this person gave, so that guesses made elsewhere do not lock them out here."""
    return _devices(settings).get(name)


def _devices(settings: Settings) -> dict[str, str]:
    path = settings.secrets / "devices.json"
    known: dict[str, str] = orjson.loads(path.read_bytes()) if path.is_file() else {}
    return known


def delete(settings: Settings) -> None:
    """Delete the stored session."""
    (settings.secrets / "session.json").unlink(missing_ok=True)


def token(settings: Settings) -> str:
    """The bearer token to use.

    Raises:
        RefusedError: there is neither a variable nor a stored session.
    """
    if given := os.environ.get("PLIMSOLL_TOKEN"):
        return given
    path = settings.secrets / "session.json"
    if not path.is_file():
        raise RefusedError("not signed in: run `plimsoll login NAME`, or set PLIMSOLL_TOKEN", code="token", status=401)
    return str(orjson.loads(path.read_bytes())["token"])


def admin(settings: Settings) -> Admin:
    """A client for accounts with the token of the signed-in person."""
    return Admin(token(settings), ledger=settings.ledger_url)


def client(settings: Settings) -> Client:
    """A client with the token of the signed-in person."""
    return Client(token(settings), gateway=settings.gateway_url, ledger=settings.ledger_url)
