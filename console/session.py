"""Sessions of people: their ledger token in an encrypted cookie, so that a restart of the console keeps them.

The cookie is HttpOnly and SameSite=Strict. Its key lies in the secrets folder, readable by its owner only. Signing out
ends the token at the ledger, which is why a copied cookie is worth nothing afterwards.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from console.formatting import moment
from lineage.errors import UnavailableError

COOKIE = "plimsoll_session"
CSRF_COOKIE = "_csrf_token"


@dataclass(frozen=True)
class Person:
    """The signed-in person of this request. `token` is theirs at the ledger; `csrf` ties forms to this session."""

    name: str
    role: str
    token: str
    expires_at: str
    csrf: str
    roles: tuple[str, ...] = ()

    def expired(self, now: datetime | None = None) -> bool:
        """The ledger would no longer take the token."""
        return moment(self.expires_at) <= (now or datetime.now(UTC))

    def sent(self, token: str | None) -> bool:
        """A form or callback carries this session's CSRF token."""
        return bool(token) and hmac.compare_digest(str(token).encode(), self.csrf.encode())


WHO: ContextVar[Person | None] = ContextVar("who", default=None)


def signed_in() -> Person:
    """The person of this request.

    Raises:
        LookupError: the request has no session. The access middleware lets none of these through to a page.
    """
    person = WHO.get()
    if person is None:
        raise LookupError("this request has no session")
    return person


class Sessions:
    """Seals and opens session cookies with the key at `path`, which is made when missing.

    Raises:
        UnavailableError: the key cannot be read or made.
    """

    def __init__(self, path: Path) -> None:
        self._fernet = Fernet(_key(path))

    def open(self, cookie: str | None) -> Person | None:
        """The person in a cookie, or None when it is absent, forged, foreign or expired."""
        if not cookie:
            return None
        try:
            known = json.loads(self._fernet.decrypt(cookie.encode()))
            person = Person(**known | {"roles": tuple(known["roles"])})
        except (InvalidToken, ValueError, TypeError, KeyError):
            return None
        return None if person.expired() else person

    def seal(self, answer: dict[str, Any]) -> tuple[str, Person]:
        """A cookie for the ledger's answer `{token, name, role, roles, expires_at}`."""
        person = Person(
            name=answer["name"],
            role=answer["role"],
            token=answer["token"],
            expires_at=answer["expires_at"],
            csrf=secrets.token_urlsafe(24),
            roles=tuple(answer["roles"]),
        )
        return self._fernet.encrypt(json.dumps(asdict(person)).encode()).decode(), person


def _key(path: Path) -> bytes:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(Fernet.generate_key())
        return path.read_bytes().strip()
    except OSError as error:
        raise UnavailableError(f"cannot keep the console's session key at {path}: {error.strerror}") from error
