"""The vault: one key and one salt for each data subject; destroying both erases the person.

Segments of decisions are never changed, so their fields about a person are encrypted under a key of that person. The
vault is one SQLite file beside the log; its rows are wrapped under a master key in the secrets folder. Two processes
use it: the controller seals, the ledger service opens and erases.

- A *handle* (HMAC of the subject's name under a vault secret) finds the row and never leaves the vault.
- A *pseudonym* identifies the subject in sealed segments. It depends on the salt: without the row it cannot be linked
  to a person, not even with the vault's secret and the name.
- A *commitment*, salted too, identifies the subject in the ledger, so that a restored vault can repeat erasures.

Sealing is AES-256-GCM. The nonce is derived from the salt and the plain text: the same decision sealed again gives the
same bytes, another decision another nonce.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lineage.clock import instant, stamp
from lineage.errors import TamperedError, UnavailableError, UnknownError
from lineage.secret_files import write_secret
from lineage.settings import Settings

KeyState = Literal["kept", "erased", "missing"]
_KEY, _NONCE, _FORM = 32, 12, b"\x01"
_BUSY_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS subjects (
    handle TEXT PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE, commitment TEXT NOT NULL UNIQUE, wrapped BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS erased (pseudonym TEXT PRIMARY KEY, at TEXT NOT NULL, record INTEGER);
CREATE TABLE IF NOT EXISTS leaving (
    handle TEXT NOT NULL, pseudonym TEXT NOT NULL, until TEXT NOT NULL, PRIMARY KEY (handle, pseudonym));
"""


class _Row(NamedTuple):
    key: bytes
    salt: bytes


class Vault:
    """The vault of one home folder; may be shared by threads and used by several processes.

    It is opened on first use, and made if it is missing, so that a service can start without it.

    Raises (every method):
        UnavailableError: the file cannot be read or written, or another process locks it for too long.
        TamperedError: the master key is not the one that this vault was made with.
    """

    def __init__(self, settings: Settings) -> None:
        self._path, self._master = settings.vault, settings.secrets / "vault.key"
        self._lock = threading.RLock()
        self._held: sqlite3.Connection | None = None
        self._wrap = self._secret = b""

    def identify(self, requests: Sequence[tuple[str, str]]) -> list[str]:
        """The pseudonym of each (subject, time of the decision); a new subject gets a key. One transaction.

        A subject that comes back after an erasure is new. A decision from before the erasure gets the erased pseudonym.
        """
        handles = [self._handle(subject) for subject, _ in requests]
        with self._reading() as db:
            names = _named(db, handles, requests)
        if None in names:
            with self.exclusive() as db:
                pairs = zip(handles, requests, _named(db, handles, requests), strict=True)
                new = {handle: subject for handle, (subject, _), name in pairs if name is None}
                rows = [self._new(handle, subject) for handle, subject in new.items()]
                db.executemany("INSERT INTO subjects VALUES (?, ?, ?, ?)", rows)
                names = _named(db, handles, requests)
        return [str(name) for name in names]

    def pseudonym(self, subject: str, at: str = "9999-12-31T00:00:00Z") -> str:
        """As `identify`, for one subject."""
        return self.identify([(subject, at)])[0]

    def existing_pseudonym(self, subject: str) -> str | None:
        """The subject's pseudonym; None if the vault has no key of that name. Makes no key."""
        handle = self._handle(subject)
        with self._reading() as db:
            return _kept(db, [handle]).get(handle)

    def erased_pseudonym(self, subject: str, at: str) -> str | None:
        """The erased pseudonym of a spooled decision made before the subject's erasure; None for any other decision."""
        with self._reading() as db:
            return _pseudonym_left(_leaving(db), self._handle(subject), at)

    def seal(self, items: Sequence[tuple[str, bytes, bytes]]) -> list[bytes | None]:
        """Encrypt each (pseudonym, associated data, plain text); None where the subject's key is destroyed."""
        rows = self._rows({pseudonym for pseudonym, _, _ in items})
        return [
            None if (row := rows.get(pseudonym)) is None else _sealed(row, about, data)
            for pseudonym, about, data in items
        ]

    def open(self, items: Sequence[tuple[str, bytes, bytes | None]]) -> list[bytes | None]:
        """Decrypt each (pseudonym, associated data, cipher text); None where the key is destroyed.

        Raises:
            TamperedError: the key exists but does not open the data.
        """
        rows = self._rows({pseudonym for pseudonym, _, _ in items})
        return [
            None if data is None or (row := rows.get(pseudonym)) is None else _opened(row, about, data)
            for pseudonym, about, data in items
        ]

    def key_states(self, pseudonyms: Iterable[str]) -> dict[str, KeyState]:
        """The state of each pseudonym's key: kept, erased, or missing (another vault, or an older copy)."""
        words: tuple[KeyState, KeyState] = ("erased", "kept")
        found: dict[str, KeyState] = dict.fromkeys(pseudonyms, "missing")
        among = "WHERE pseudonym IN (SELECT value FROM json_each(?))"
        queries = (f"SELECT pseudonym FROM erased {among}", f"SELECT pseudonym FROM subjects {among}")  # noqa: S608
        with self._reading() as db:
            for word, query in zip(words, queries, strict=True):
                found |= {name: word for (name,) in db.execute(query, (_list(found),))}
        return found

    def commitment(self, pseudonym: str) -> str:
        """The subject's commitment in the ledger, 64 hexadecimal digits.

        Raises:
            UnknownError: the vault has no key of that pseudonym.
        """
        with self._reading() as db:
            row = db.execute("SELECT commitment FROM subjects WHERE pseudonym = ?", (pseudonym,)).fetchone()
        if row is None:
            raise UnknownError("the vault holds no key of that pseudonym", field="subject")
        return str(row[0])

    def erased_by(self, pseudonym: str) -> dict[str, Any] | None:
        """Time (`at`) and record number (`record`) of the erasure; None if there was none."""
        with self._reading() as db:
            row = db.execute("SELECT at, record FROM erased WHERE pseudonym = ?", (pseudonym,)).fetchone()
        return None if row is None else {"at": row[0], "record": row[1]}

    def erase(self, pseudonym: str, at: datetime, record: int | None = None) -> bool:
        """Destroy key and salt; return whether they existed.

        A mark prevents that decisions spooled up to `at` are sealed under a new key; `forget_marks` removes it.
        """
        with self.exclusive() as db:
            row = db.execute("SELECT handle FROM subjects WHERE pseudonym = ?", (pseudonym,)).fetchone()
            if row is not None:
                db.execute("INSERT INTO leaving VALUES (?, ?, ?)", (row[0], pseudonym, stamp(at)))
                db.execute("INSERT OR REPLACE INTO erased VALUES (?, ?, ?)", (pseudonym, stamp(at), record))
                db.execute("DELETE FROM subjects WHERE pseudonym = ?", (pseudonym,))
        return row is not None

    def forget_marks(self, before: datetime) -> None:
        """Remove the marks of erasures before this moment: all decisions before it are sealed."""
        with self._reading() as db:
            gone = [(handle, name) for handle, name, until in _leaving(db) if instant(until) < before]
        if gone:
            with self.exclusive() as db:
                db.executemany("DELETE FROM leaving WHERE handle = ? AND pseudonym = ?", gone)

    def apply_erasures(self, facts: Iterable[dict[str, Any]]) -> int:
        """Repeat the erasures of SubjectErased records for keys that still exist; return the number of keys destroyed.

        Needed after an old copy of the vault was restored, and after a crash between record and erasure.
        """
        count = 0
        for fact in facts:
            with self._reading() as db:
                query = "SELECT pseudonym FROM subjects WHERE commitment = ?"
                row = db.execute(query, (fact["data"]["commitment"],)).fetchone()
            if row is not None:
                count += self.erase(row[0], instant(fact["at"]), fact["seq"])
        return count

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._held is not None:
                self._held.close()
                self._held = None

    def _handle(self, subject: str) -> str:
        with self._reading():
            return _mac(self._secret, b"handle", subject.encode()).hex()

    def _new(self, handle: str, subject: str) -> tuple[str, str, str, bytes]:
        key, salt, nonce = (secrets.token_bytes(size) for size in (_KEY, _KEY, _NONCE))
        pseudonym = _mac(self._secret, b"pseudonym", salt, subject.encode()).hex()[:32]
        commitment = _mac(salt, b"commitment", handle.encode()).hex()
        wrapped = nonce + AESGCM(self._wrap).encrypt(nonce, key + salt, pseudonym.encode())
        return handle, pseudonym, commitment, wrapped

    def _rows(self, pseudonyms: set[str]) -> dict[str, _Row]:
        with self._reading() as db:
            query = "SELECT pseudonym, wrapped FROM subjects WHERE pseudonym IN (SELECT value FROM json_each(?))"
            found = db.execute(query, (_list(pseudonyms),)).fetchall()
        wrap = AESGCM(self._wrap)
        rows = {}
        for pseudonym, wrapped in found:
            try:
                plain = wrap.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], pseudonym.encode())
            except InvalidTag as error:
                raise TamperedError("a row of the vault is not what was written", field="vault") from error
            rows[pseudonym] = _Row(plain[:_KEY], plain[_KEY:])
        return rows

    def _db(self) -> sqlite3.Connection:
        if self._held is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_name(self._path.name + ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # two processes that start together would make two master keys
                master = _master(self._master, self._path)
                self._wrap, self._secret = (_mac(master, name) for name in (b"wrap", b"names"))
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
                self._held = _connect(self._path, _mac(master, b"check").hex())
        return self._held

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _as_unavailable():
            yield self._db()

    @contextmanager
    def exclusive(self) -> Iterator[sqlite3.Connection]:
        """A write transaction, durable when it ends; no other thread or process makes or destroys keys meanwhile."""
        with self._lock, _as_unavailable():
            db = self._db()
            if db.in_transaction:
                yield db
                return
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise


def _mac(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 of the parts, each prefixed by its length, so that different lists are different messages."""
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(key, message, "sha256")


def _sealed(row: _Row, about: bytes, data: bytes) -> bytes:
    nonce = _mac(row.salt, b"nonce", about, data)[:_NONCE]
    return _FORM + nonce + AESGCM(row.key).encrypt(nonce, data, about)


def _opened(row: _Row, about: bytes, data: bytes) -> bytes:
    try:
        if data[:1] != _FORM:
            raise InvalidTag
        return AESGCM(row.key).decrypt(data[1 : 1 + _NONCE], data[1 + _NONCE :], about)
    except (InvalidTag, ValueError) as error:
        raise TamperedError("what is sealed here was not sealed for this decision", field="sealed") from error


def _named(db: sqlite3.Connection, handles: list[str], requests: Sequence[tuple[str, str]]) -> list[str | None]:
    """The pseudonym of each request: the erased one for decisions before an erasure; None for a new subject."""
    leaving, known = _leaving(db), _kept(db, handles)
    pairs = zip(handles, requests, strict=True)
    return [_pseudonym_left(leaving, handle, at) or known.get(handle) for handle, (_, at) in pairs]


def _kept(db: sqlite3.Connection, handles: Iterable[str]) -> dict[str, str]:
    query = "SELECT handle, pseudonym FROM subjects WHERE handle IN (SELECT value FROM json_each(?))"
    return dict(db.execute(query, (_list(set(handles)),)).fetchall())


def _leaving(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
    return db.execute("SELECT handle, pseudonym, until FROM leaving ORDER BY until").fetchall()


def _pseudonym_left(leaving: list[tuple[str, str, str]], handle: str, at: str) -> str | None:
    for one, pseudonym, until in leaving:
        if one == handle and instant(at) <= instant(until):
            return pseudonym
    return None


def _list(names: Iterable[str]) -> str:
    return orjson.dumps(sorted(names)).decode()


def _connect(path: Path, check: str) -> sqlite3.Connection:
    with _as_unavailable():
        db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        # A rollback journal is deleted with each commit; a write-ahead log would keep erased rows for a while.
        for pragma in ("journal_mode = DELETE", "secure_delete = ON", "synchronous = EXTRA"):
            db.execute(f"PRAGMA {pragma}").fetchall()
        db.executescript(_SCHEMA)
        db.execute("INSERT OR IGNORE INTO meta VALUES ('check', ?)", (check,))
        (held,) = db.execute("SELECT value FROM meta WHERE name = 'check'").fetchone()
    if held != check:
        db.close()
        raise TamperedError(
            "secrets/vault.key is not the key that the vault of subjects was made with; "
            "put both back from the same backup",
            field="vault",
        )
    return db


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(f"the vault of subject keys does not answer: {error}", field="vault") from error


def _master(path: Path, vault: Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text().strip())
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise UnavailableError(f"the vault's master key at {path} cannot be read: {error}", field="vault") from error
    if vault.exists() and vault.stat().st_size:
        raise UnavailableError(
            f"the vault is there but its master key {path.name} is not; put it back from your backup of the secrets: "
            "with a new one no sealed data could be opened",
            field="vault",
        )
    write_secret(path, secrets.token_hex(_KEY))
    return bytes.fromhex(path.read_text())
