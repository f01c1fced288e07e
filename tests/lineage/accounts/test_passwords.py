"""Passwords: real argon2id with OWASP's parameters, and which ones are refused."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher, extract_parameters

from lineage.accounts import passwords
from lineage.errors import InvalidError


def test_the_parameters_are_those_of_owasp(monkeypatch: pytest.MonkeyPatch) -> None:
    real = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
    monkeypatch.setattr(passwords, "_HASHER", real)
    hashed = passwords.password_hash("correct horse battery staple")
    found = extract_parameters(hashed)
    assert (found.type.name, found.memory_cost, found.time_cost, found.parallelism) == ("ID", 19_456, 2, 1)
    assert passwords.matches("correct horse battery staple", hashed)
    assert not passwords.matches("correct horse battery staplf", hashed)
    assert not passwords.is_outdated(hashed)


def test_the_module_itself_uses_them() -> None:
    import importlib.util

    spec = importlib.util.find_spec("lineage.accounts.passwords")
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    assert (fresh._HASHER.memory_cost, fresh._HASHER.time_cost, fresh._HASHER.parallelism) == (19_456, 2, 1)


def test_no_hash_matches_nothing() -> None:
    assert not passwords.matches("no account has this password", None)
    assert not passwords.matches("x", "garbage")


@pytest.mark.parametrize(
    ("password", "wrong"),
    [
        ("", "0 characters"),
        ("short", "5 characters"),
        ("fourteen chars", "14 characters"),
        ("ü" * 600, "at most 1024 bytes"),
        ("aaaaaaaaaaaaaaaa", "repeats"),
        ("abababababababab", "repeats"),
        ("r.okaforr.okaforr.okafor", "repeats"),
        ("plimsoll-plimsoll-1", "repeats"),
    ],
)
def test_a_weak_password_is_refused(password: str, wrong: str) -> None:
    with pytest.raises(InvalidError, match=wrong) as caught:
        passwords.check_password(password, "r.okafor")
    assert caught.value.field == "password"


@pytest.mark.parametrize("password", ["fifteen letters", "Stapel Pferd Batterie", "密码密码 四个字 不够长 的 话 再 加"])
def test_a_few_words_are_enough(password: str) -> None:
    passwords.check_password(password, "r.okafor")


def test_a_password_given_at_sign_in_is_not_longer_than_said() -> None:
    with pytest.raises(InvalidError) as caught:
        passwords.matches("ü" * 600, None)
    assert caught.value.field == "password"
