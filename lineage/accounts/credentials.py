"""The credentials file: hashes of passwords, one-time codes and tokens, by account id.

Who an account is, its roles and whether it is active are facts on record (`lineage.state.people`); a token is good only
while the record says so. The file is always replaced as a whole, and `generation` grows with every change of tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from lineage.accounts.credentials_file import CredentialsFile, Json
from lineage.accounts.passwords import is_outdated, password_hash
from lineage.clock import Clock, instant, now, stamp
from lineage.errors import RefusedError
from lineage.rules.roles import PLATFORM_MACHINES
from lineage.secret_files import write_secret
from lineage.settings import Settings

#: People of the first start: one of each role, and a second admin, because grants take two.
FIRST_PEOPLE = {
    "scientist": "scientist",
    "validator": "validator",
    "operator": "operator",
    "auditor": "auditor",
    "admin": "admin",
    "second-admin": "admin",
}
SESSION, IDLE, CODE = timedelta(hours=12), timedelta(hours=1), timedelta(days=7)
_USE_WRITTEN = timedelta(minutes=5)  # the last use of a session is written at most this often
_DEVICES_MOST = 5


@dataclass(frozen=True)
class First:
    """An account of the first start, which the ledger service puts on record when it opens."""

    account: str
    name: str
    kind: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Session:
    """A new session: its token, which is stored nowhere, its end, and a token by which the device is known again."""

    token: str
    expires_at: str
    device: str


def token_hash(token: str) -> str:
    """SHA-256 of a bearer token, its key in the file."""
    return hashlib.sha256(token.encode()).hexdigest()


class Credentials:
    """The credentials of one home folder."""

    def __init__(self, settings: Settings, *, clock: Clock = now) -> None:
        self._settings = settings
        self._clock = clock
        self._file = CredentialsFile(settings.accounts_file)
        self._used: dict[str, datetime] = {}

    # The first start

    def first_start(self) -> dict[str, str]:
        """Make missing machine tokens and, where there are no people or no admins, those of the first start.

        Returns:
            The new passwords by name, to be shown once.
        """
        with self._file.change() as data:
            for name, roles in PLATFORM_MACHINES.items():
                self._machine(data, name, roles)
            known = {one["name"] for one in data["people"].values()}
            missing = [name for name in FIRST_PEOPLE if name not in known] if self._wants_people(data, known) else []
            return {name: self._first_person(data, name) for name in missing}

    def firsts(self) -> list[First]:
        """Accounts of the first start, people before admins."""
        return [First(**one | {"roles": tuple(one["roles"])}) for one in self._file.read()["firsts"]]

    def adopt(self, first: First, account: str) -> None:
        """Give the credentials of a first account to the account of that name on record, whose own were lost."""
        with self._file.change() as data:
            for one in data["firsts"]:
                if one["account"] == first.account:
                    one["account"] = account
            people, tokens = data["people"], data["tokens"]
            if first.account in people:
                people[account] = people.pop(first.account)
            for token in tokens.values():
                token["account"] = account if token["account"] == first.account else token["account"]

    # Passwords and codes

    def password_of(self, account: str) -> str | None:
        """The hash of an account's password; None where it has none."""
        found: str | None = self._file.read()["people"].get(account, {}).get("hash")
        return found

    def set_password(self, account: str, name: str, hashed: str) -> None:
        """Store a hash; the one-time code is used up, and the account's sessions end."""
        with self._file.change() as data:
            known = data["people"].get(account, {})
            data["people"][account] = {"name": name, "hash": hashed, "devices": known.get("devices", [])}
            self._remove_tokens(data, lambda one, _: one["account"] == account)

    def improve_hash(self, account: str, password: str) -> None:
        """Hash the password again where its hash is of an earlier version."""
        with self._file.change() as data:
            person = data["people"][account]
            if is_outdated(person["hash"]):
                person["hash"] = password_hash(password)

    def first_half(self, request: str) -> str:
        """The first half of a one-time code, for the admin who requests; kept as a hash until it is confirmed.

        Args:
            request: names the request, so that the second half is joined to this one.
        """
        half = _half()
        with self._file.change() as data:
            data["halves"][request] = token_hash(half)
        return half

    def second_half(self, request: str, account: str, name: str) -> str:
        """The second half, for the admin who confirms. The account has no password and no sessions from now on.

        Neither admin can sign in as the account: that takes both halves.

        Raises:
            RefusedError: the first half is not known here.
        """
        half = _half()
        with self._file.change() as data:
            first = data["halves"].pop(request, None)
            if first is None:
                raise RefusedError("the first half of this code is not here; withdraw the request and ask again")
            ends = stamp(self._clock() + CODE)
            code = {"first": first, "second": token_hash(half), "expires_at": ends}
            data["people"][account] = {"name": name, "hash": None, "code": code, "devices": []}
            self._remove_tokens(data, lambda one, _: one["account"] == account)
        return half

    def code_matches(self, account: str, code: str) -> bool:
        """Whether the two halves, written `FIRST-SECOND`, are the account's unexpired one-time code."""
        first, _, second = code.strip().partition("-")
        known = self._file.read()["people"].get(account, {}).get("code")
        if known is None or instant(known["expires_at"]) <= self._clock():
            return False
        right = hmac.compare_digest(token_hash(first), known["first"])
        return hmac.compare_digest(token_hash(second), known["second"]) and right

    def whole_code(self, account: str, name: str) -> str:
        """A one-time code given to one person: for an account that is recovered on the machine."""
        first = self.first_half(account)
        return f"{first}-{self.second_half(account, account, name)}"

    # Sessions and tokens

    def device_of(self, account: str, device: str | None) -> str | None:
        """A short name of a device that signed in to the account before; None for any other."""
        known = self._file.read()["people"].get(account, {}).get("devices", [])
        hashed = token_hash(device) if device else ""
        return hashed[:16] if hashed in known else None

    def open_session(self, account: str, device: str | None, proven: str | None = None) -> Session:
        """Open a session; the caller has checked the password or the identity.

        Args:
            device: what an earlier session on this device returned.
            proven: the hash that the password matched.

        Raises:
            RefusedError: the password was changed since (401).
        """
        token, begins = secrets.token_urlsafe(32), self._clock()
        known = device if device is not None and self.device_of(account, device) else secrets.token_urlsafe(24)
        with self._file.change() as data:
            if proven is not None and data["people"].get(account, {}).get("hash") != proven:
                raise RefusedError("the password was changed a moment ago; sign in again", code="sign_in", status=401)
            self._remove_tokens(data, self._ended)
            person = data["people"].setdefault(account, {"name": "", "hash": None, "devices": []})
            others = [one for one in person.get("devices", []) if one != token_hash(known)]
            person["devices"] = [*others, token_hash(known)][-_DEVICES_MOST:]
            ends = stamp(begins + SESSION)
            self._put_token(data, token, {"account": account, "used_at": stamp(begins), "expires_at": ends})
        return Session(token, ends, known)

    def end_session(self, token: str) -> None:
        """End a session.

        Raises:
            RefusedError: it is the token of a machine account; the platform depends on it.
        """
        with self._file.change() as data:
            known = data["tokens"].get(token_hash(token))
            if known is not None and known["expires_at"] is None:
                raise RefusedError("this is the token of a machine account; only people sign out", code="machine")
            self._remove_tokens(data, lambda _, hashed: hashed == token_hash(token))

    def end_sessions(self, account: str) -> None:
        """End all sessions and tokens of an account."""
        with self._file.change() as data:
            self._remove_tokens(data, lambda one, _: one["account"] == account)

    def add_machine(self, account: str) -> str:
        """A token for a machine account; it is stored nowhere."""
        token = secrets.token_urlsafe(32)
        with self._file.change() as data:
            self._put_token(data, token, {"account": account, "used_at": None, "expires_at": None})
        return token

    def owner_of(self, token: str) -> str:
        """Id of the account that a token belongs to.

        Raises:
            RefusedError: the token is unknown, has expired or was not used for too long (401).
        """
        hashed = token_hash(token)
        known = self._file.read()["tokens"].get(hashed)
        if known is None or self._ended(known, hashed):
            raise RefusedError("the token is unknown or has expired; sign in again", code="token", status=401)
        self._use(hashed, known)
        return str(known["account"])

    def live_tokens(self) -> dict[str, str]:
        """SHA-256 of every live token with its account's id, so that gateways check callers without a request."""
        tokens = self._file.read()["tokens"].items()
        return {hashed: known["account"] for hashed, known in tokens if not self._ended(known, hashed)}

    @property
    def generation(self) -> int:
        """Grows with every change of tokens, also across restarts."""
        return int(self._file.read()["generation"])

    def next_end(self) -> datetime | None:
        """When the next token ends by itself; None where none does."""
        ends = [self._end_of(known, hashed) for hashed, known in self._file.read()["tokens"].items()]
        return min((one for one in ends if one is not None and one > self._clock()), default=None)

    # Inside

    def _wants_people(self, data: Json, known: set[str]) -> bool:
        admins = {name for name, role in FIRST_PEOPLE.items() if role == "admin"}
        return not known or (bool(data["migrated"]) and not known & admins)

    def _first_person(self, data: Json, name: str) -> str:
        account, password = f"p-{secrets.token_hex(8)}", secrets.token_urlsafe(12)
        data["people"][account] = {"name": name, "hash": password_hash(password), "devices": []}
        first = {"account": account, "name": name, "kind": "person", "roles": [FIRST_PEOPLE[name]]}
        data["firsts"].append(first)
        return password

    def _machine(self, data: Json, name: str, roles: tuple[str, ...]) -> None:
        path = self._settings.secrets / f"{name}.token"
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(32))
        token, account = self._settings.token(name), f"m-{name}"
        if data["tokens"].get(token_hash(token), {}).get("account") != account:
            self._remove_tokens(data, lambda one, _: one["account"] == account)
            self._put_token(data, token, {"account": account, "used_at": None, "expires_at": None})
        first = {"account": account, "name": name, "kind": "machine", "roles": list(roles)}
        if first not in data["firsts"]:
            data["firsts"].append(first)

    def _end_of(self, token: Json, hashed: str) -> datetime | None:
        if token["expires_at"] is None:
            return None
        written = instant(token["used_at"])
        used = max(written, self._used.get(hashed, written))
        return min(instant(token["expires_at"]), used + IDLE)

    def _ended(self, token: Json, hashed: str) -> bool:
        ends = self._end_of(token, hashed)
        return ends is not None and ends <= self._clock()

    def _use(self, hashed: str, token: Json) -> None:
        if token["expires_at"] is None:
            return
        moment = self._clock()
        self._used[hashed] = moment
        if moment - instant(token["used_at"]) >= _USE_WRITTEN:
            with self._file.change() as data:
                if hashed in data["tokens"]:
                    data["tokens"][hashed]["used_at"] = stamp(moment)

    def _put_token(self, data: Json, token: str, about: Json) -> None:
        data["tokens"][token_hash(token)] = about
        data["generation"] += 1

    def _remove_tokens(self, data: Json, which: Callable[[Json, str], bool]) -> None:
        kept = {key: value for key, value in data["tokens"].items() if not which(value, key)}
        if len(kept) != len(data["tokens"]):
            data["tokens"] = kept
            data["generation"] += 1
            self._used = {hashed: used for hashed, used in self._used.items() if hashed in kept}


def _half() -> str:
    """Half of a code: 60 random bits in letters that are not mistaken for one another."""
    return "".join(secrets.choice("ABCDEFGHJKMNPQRSTVWXYZ23456789") for _ in range(12))
