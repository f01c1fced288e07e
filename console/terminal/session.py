"""Sign-in of the terminal: a token from `PLIMSOLL_TOKEN`, or the session that `plimsoll login` stored."""

from __future__ import annotations

import os

import orjson

from lineage.errors import RefusedError
from lineage.secret_files import write_secret
from lineage.settings import Settings
from plimsoll import Client


def save(settings: Settings, session: dict[str, str]) -> None:
    """Store a session for later commands in a file that only its owner may read."""
    write_secret(settings.secrets / "session.json", orjson.dumps(session).decode())


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


def client(settings: Settings) -> Client:
    """A client with the token of the signed-in person."""
    return Client(token(settings), gateway=settings.gateway_url, ledger=settings.ledger_url)
