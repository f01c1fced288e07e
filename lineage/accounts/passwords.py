"""Hashes of passwords: argon2id with OWASP's parameters; hashes of earlier versions are read and replaced at sign-in.

Source: OWASP Password Storage Cheat Sheet (argon2id: 19 MiB, 2 passes, 1 lane); NIST SP 800-63B-4 3.1.1 (15 characters
where a password is the only factor, no rules of composition).
"""

from __future__ import annotations

import hashlib
import hmac

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from lineage.errors import InvalidError

LEAST_CHARACTERS = 15
_MOST_BYTES = 1_024
_SCRYPT = "scrypt$"  # of versions 0.1 and 0.2: N=2^14, r=8, p=1
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_NO_ACCOUNT = _HASHER.hash("no account has this password")


def password_hash(password: str) -> str:
    """The argon2id hash of a password, with its salt and parameters."""
    return _HASHER.hash(password)


def matches(password: str, known: str | None) -> bool:
    """Whether the password has this hash; takes the same time where there is none."""
    if len(password.encode()) > _MOST_BYTES:
        raise InvalidError(f"a password has at most {_MOST_BYTES} bytes", field="password")
    if known is not None and known.startswith(_SCRYPT):
        salt, expected = known.removeprefix(_SCRYPT).split("$")
        given = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1, dklen=32)
        return hmac.compare_digest(given.hex(), expected)
    try:
        return _HASHER.verify(known or _NO_ACCOUNT, password) and known is not None
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(known: str) -> bool:
    """Whether the hash was made with other parameters than those of now."""
    return known.startswith(_SCRYPT) or _HASHER.check_needs_rehash(known)


def of_scrypt(salt: str, digest: str) -> str:
    """A hash of versions 0.1 and 0.2 in the form that `matches` takes; both arguments are hexadecimal."""
    return f"{_SCRYPT}{salt}${digest}"


def check_password(password: str, name: str) -> None:
    """Refuse a new password that is too short, too long or easily guessed.

    Raises:
        InvalidError: says what is wrong with it.
    """
    if len(password) < LEAST_CHARACTERS:
        raise InvalidError(
            f"the password has {len(password)} characters; expected at least {LEAST_CHARACTERS}: a few words do",
            field="password",
        )
    if len(password.encode()) > _MOST_BYTES:
        raise InvalidError(f"a password has at most {_MOST_BYTES} bytes", field="password")
    plain = password.casefold()
    if len(set(plain)) < 5 or plain.strip(name.casefold()) == "" or "plimsoll" in plain:
        raise InvalidError("the password repeats a few characters, your name or this product's", field="password")
