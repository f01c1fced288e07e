"""Accounts: who may sign in, for how long, and that the files reveal no secret."""

from __future__ import annotations

import stat
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from lineage import accounts as accounts_module
from lineage.accounts import MACHINES, ROLES, SESSION, Accounts
from lineage.clock import instant
from lineage.errors import InvalidError, PlimsollError, RefusedError, UnavailableError, UnknownError
from lineage.secret_files import write_secret
from lineage.settings import Settings
from tests.support.sample_facts import ManualClock


@pytest.fixture
def accounts(settings: Settings, clock: ManualClock, quick: None, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    monkeypatch.setitem(accounts_module._SCRYPT, "n", 2)  # what is tested is not how slow it is
    return Accounts(settings, clock=clock)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_one_account_a_role_and_machine_tokens(accounts: Accounts, settings: Settings) -> None:
    made = accounts.first_start()
    assert made.keys() == set(ROLES)
    assert accounts.people() == {role: role for role in ROLES}
    assert len(set(made.values())) == len(made)
    for name, role in MACHINES.items():
        who = accounts.who(settings.token(name))
        assert (who.name, who.role) == (name, role)
    assert accounts.first_start() == {}, "passwords are shown once"


def test_files_are_for_their_owner_and_say_no_secret(accounts: Accounts, settings: Settings) -> None:
    passwords = accounts.first_start()
    session = accounts.sign_in("operator", passwords["operator"])["token"]
    secrets = [*passwords.values(), session, *(settings.token(name) for name in MACHINES)]
    text = settings.accounts_file.read_text()
    assert not [secret for secret in secrets if secret in text]
    assert mode(settings.accounts_file) == 0o600
    assert {mode(path) for path in settings.secrets.iterdir()} == {0o600}


def test_a_draft_that_a_crash_left_lends_its_mode_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "x.token.new").write_text("half")
    (tmp_path / "x.token.new").chmod(0o666)
    write_secret(tmp_path / "x.token", "whole")
    assert (mode(tmp_path / "x.token"), (tmp_path / "x.token").read_text()) == (0o600, "whole")


def test_a_session_has_an_end(accounts: Accounts, clock: ManualClock) -> None:
    password = accounts.first_start()["auditor"]
    session = accounts.sign_in("auditor", password)
    assert instant(session["expires_at"]) == clock() + SESSION
    clock.later(hours=12, microseconds=-1)
    assert accounts.who(session["token"]).name == "auditor"
    clock.later(microseconds=1)
    with pytest.raises(RefusedError) as caught:
        accounts.who(session["token"])
    assert (caught.value.status, caught.value.code) == (401, "token")
    accounts.sign_in("auditor", password)
    assert session["token"] not in str(accounts._data)
    assert len(accounts._data["tokens"]) == len(MACHINES) + 1, "sessions that ended are not kept"


@pytest.mark.parametrize(
    ("name", "password"), [("operator", "wrong"), ("nobody", "wrong"), ("operator", ""), ("", "x")]
)
def test_which_of_name_and_password_is_wrong_is_not_said(name: str, password: str, accounts: Accounts) -> None:
    accounts.first_start()
    with pytest.raises(RefusedError) as caught:
        accounts.sign_in(name, password)
    assert caught.value.message == "name or password is wrong"
    assert caught.value.status == 401


def test_ten_wrong_attempts_close_the_door_for_five_minutes(accounts: Accounts, clock: ManualClock) -> None:
    password = accounts.first_start()["operator"]

    def attempt(name: str, word: str) -> int:
        try:
            accounts.sign_in(name, word)
        except RefusedError as error:
            return error.status
        return 200

    assert [attempt("operator", "wrong") for _ in range(11)] == [401] * 10 + [429]
    assert attempt("operator", password) == 429, "the right password does not tell itself apart"
    assert attempt("auditor", "wrong") == 401, "others are not kept out"
    clock.later(seconds=(timedelta(minutes=5)).total_seconds() + 1)
    assert attempt("operator", password) == 200
    assert [attempt("operator", "wrong") for _ in range(9)] + [attempt("operator", password)] == [401] * 9 + [200]
    assert attempt("operator", "wrong") == 401, "a success starts the count anew"


def test_a_reset_ends_sessions_also_in_a_running_service(
    accounts: Accounts, settings: Settings, clock: ManualClock
) -> None:
    old = accounts.first_start()["validator"]
    token = accounts.sign_in("validator", old)["token"]
    other = accounts.sign_in("auditor", accounts.reset_password("auditor"))["token"]
    new = Accounts(settings, clock=clock).reset_password("validator")
    for refused in (lambda: accounts.who(token), lambda: accounts.sign_in("validator", old)):
        with pytest.raises(RefusedError):
            refused()
    assert accounts.who(accounts.sign_in("validator", new)["token"]).role == "validator"
    assert accounts.who(other).name == "auditor"
    with pytest.raises(UnknownError):
        accounts.reset_password("nobody")


def test_a_reset_is_not_undone_by_a_sign_in_under_way(
    accounts: Accounts, settings: Settings, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = accounts.first_start()["validator"]
    real = accounts_module._scrypt
    reset: list[str] = []

    def slow(password: str, salt: bytes) -> str:
        if not reset and password == old:
            reset.append("now")
            Accounts(settings, clock=clock).reset_password("validator")
        return real(password, salt)

    monkeypatch.setattr(accounts_module, "_scrypt", slow)
    for _ in range(2):
        with pytest.raises(RefusedError):
            accounts.sign_in("validator", old)


def test_many_at_once_lose_nothing(settings: Settings, accounts: Accounts, clock: ManualClock) -> None:
    passwords = accounts.first_start()
    doors = [accounts, Accounts(settings, clock=clock)]
    tokens: list[str] = []

    def sign_in(number: int) -> None:
        name = ROLES[number % 4]
        tokens.append(doors[number % 2].sign_in(name, passwords[name])["token"])

    threads = [threading.Thread(target=sign_in, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 12
    for token in tokens:
        assert accounts.who(token).role in ROLES


def test_signing_out_ends_a_session_but_no_machine(accounts: Accounts, settings: Settings) -> None:
    token = accounts.sign_in("operator", accounts.first_start()["operator"])["token"]
    accounts.sign_out(token)
    accounts.sign_out("never known")
    with pytest.raises(RefusedError):
        accounts.who(token)
    with pytest.raises(RefusedError) as caught:
        accounts.sign_out(settings.token("client"))
    assert caught.value.code == "machine"
    assert accounts.who(settings.token("client")).role == "client"


def test_a_machine_token_is_replaced_by_removing_its_file(accounts: Accounts, settings: Settings) -> None:
    accounts.first_start()
    old = settings.token("trainer")
    (settings.secrets / "trainer.token").unlink()
    accounts.first_start()
    with pytest.raises(RefusedError):
        accounts.who(old)
    assert accounts.who(settings.token("trainer")).name == "trainer"


def test_a_crash_between_token_file_and_accounts_file_heals(
    accounts: Accounts, settings: Settings, clock: ManualClock
) -> None:
    accounts.first_start()
    settings.accounts_file.unlink()
    again = Accounts(settings, clock=clock)
    assert again.first_start().keys() == set(ROLES)
    assert again.who(settings.token("controller")).role == "service"


def test_live_tokens_are_hashes_of_those_that_are_good(accounts: Accounts, clock: ManualClock) -> None:
    token = accounts.sign_in("operator", accounts.first_start()["operator"])["token"]
    live = accounts.live_tokens()
    assert live[accounts_module.token_hash(token)] == {"name": "operator", "role": "operator"}
    assert all(len(key) == 64 for key in live)
    clock.later(hours=12)
    assert {owner["role"] for owner in accounts.live_tokens().values()} == {"service", "client"}


def test_an_unreadable_accounts_file_lets_nobody_in(accounts: Accounts, settings: Settings, clock: ManualClock) -> None:
    accounts.first_start()
    settings.accounts_file.write_text("{")
    for asked in (lambda: accounts.who("x"), lambda: Accounts(settings, clock=clock)):
        with pytest.raises(UnavailableError):
            asked()


def test_a_password_is_not_longer_than_said(accounts: Accounts) -> None:
    accounts.first_start()
    with pytest.raises(InvalidError) as caught:
        accounts.sign_in("operator", "ü" * 600)
    assert caught.value.field == "password"


def test_a_missing_machine_token_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(PlimsollError, match="plimsoll up"):
        settings.token("controller")
