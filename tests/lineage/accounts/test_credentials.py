"""The credentials file: sessions, codes and tokens by account, and that the files reveal no secret."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import orjson
import pytest

from lineage.accounts import passwords
from lineage.accounts.credentials import FIRST_PEOPLE, IDLE, SESSION, Credentials, token_hash
from lineage.clock import instant
from lineage.errors import PlimsollError, RefusedError, UnavailableError
from lineage.rules.roles import PLATFORM_MACHINES
from lineage.secret_files import write_secret
from lineage.settings import Settings
from tests.support.sample_facts import ManualClock


@pytest.fixture
def credentials(settings: Settings, clock: ManualClock, quick: None) -> Credentials:
    return Credentials(settings, clock=clock)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def account_of(credentials: Credentials, name: str) -> str:
    return next(first.account for first in credentials.firsts() if first.name == name)


def test_the_first_start_makes_people_two_admins_and_machine_tokens(
    credentials: Credentials, settings: Settings
) -> None:
    made = credentials.first_start()
    assert list(made) == list(FIRST_PEOPLE)
    assert list(FIRST_PEOPLE.values()).count("admin") == 2
    assert len(set(made.values())) == len(made)
    firsts = {first.name: first for first in credentials.firsts()}
    assert {name: first.roles for name, first in firsts.items() if first.kind == "machine"} == PLATFORM_MACHINES
    assert len({first.account for first in firsts.values()}) == len(made) + len(PLATFORM_MACHINES)
    for name in PLATFORM_MACHINES:
        assert credentials.owner_of(settings.token(name)) == f"m-{name}"
    assert credentials.first_start() == {}, "passwords are shown once"


def test_files_are_for_their_owner_and_hold_no_secret(credentials: Credentials, settings: Settings) -> None:
    made = credentials.first_start()
    account = account_of(credentials, "operator")
    session = credentials.open_session(account, None)
    halves = [credentials.first_half("12"), credentials.second_half("12", account, "operator")]
    secrets = [*made.values(), session.token, session.device, *halves]
    secrets += [settings.token(name) for name in PLATFORM_MACHINES]
    text = settings.accounts_file.read_text()
    assert not [secret for secret in secrets if secret in text]
    assert mode(settings.accounts_file) == 0o600
    assert {mode(path) for path in settings.secrets.iterdir()} == {0o600}


def test_a_draft_that_a_crash_left_lends_its_mode_to_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.token.new").write_text("half")
    (tmp_path / "x.token.new").chmod(0o666)
    write_secret(tmp_path / "x.token", "whole")
    assert (mode(tmp_path / "x.token"), (tmp_path / "x.token").read_text()) == (0o600, "whole")


def test_a_session_ends_after_twelve_hours_of_use(credentials: Credentials, clock: ManualClock) -> None:
    credentials.first_start()
    account = account_of(credentials, "auditor")
    session = credentials.open_session(account, None)
    assert instant(session.expires_at) == clock() + SESSION
    for _ in range(23):
        clock.later(minutes=30)
        assert credentials.owner_of(session.token) == account
    clock.later(minutes=30)
    with pytest.raises(RefusedError) as caught:
        credentials.owner_of(session.token)
    assert (caught.value.status, caught.value.code) == (401, "token")


def test_a_session_ends_when_it_was_not_used_for_an_hour(
    credentials: Credentials, settings: Settings, clock: ManualClock
) -> None:
    credentials.first_start()
    session = credentials.open_session(account_of(credentials, "auditor"), None)
    clock.later(minutes=59)
    credentials.owner_of(session.token)
    clock.later(minutes=59)
    assert Credentials(settings, clock=clock).owner_of(session.token), "a restart knows the last use"
    clock.later(seconds=IDLE.total_seconds())
    assert token_hash(session.token) not in credentials.live_tokens()
    with pytest.raises(RefusedError):
        credentials.owner_of(session.token)


def test_the_next_end_is_the_earliest_of_all_sessions(credentials: Credentials, clock: ManualClock) -> None:
    credentials.first_start()
    assert credentials.next_end() is None, "machines have none"
    first = credentials.open_session(account_of(credentials, "auditor"), None)
    assert credentials.next_end() == clock() + IDLE
    clock.later(minutes=20)
    credentials.open_session(account_of(credentials, "operator"), None)
    credentials.owner_of(first.token)
    assert credentials.next_end() == clock() + IDLE


def test_every_change_of_tokens_raises_the_generation_also_after_a_restart(
    credentials: Credentials, settings: Settings, clock: ManualClock
) -> None:
    credentials.first_start()
    seen = [credentials.generation]
    session = credentials.open_session(account_of(credentials, "auditor"), None)
    seen.append(credentials.generation)
    credentials.end_session(session.token)
    seen.append(Credentials(settings, clock=clock).generation)
    credentials.add_machine("m-1")
    seen.append(credentials.generation)
    credentials.end_sessions("m-1")
    seen.append(credentials.generation)
    assert seen == sorted(set(seen))


def test_a_device_is_known_again_and_only_to_its_account(credentials: Credentials) -> None:
    credentials.first_start()
    auditor, operator = (account_of(credentials, name) for name in ("auditor", "operator"))
    device = credentials.open_session(auditor, None).device
    assert credentials.device_of(auditor, device) is not None
    assert credentials.device_of(operator, device) is None
    assert credentials.open_session(auditor, device).device == device
    assert credentials.open_session(operator, device).device != device
    for _ in range(5):
        credentials.open_session(auditor, None)
    assert credentials.device_of(auditor, device) is None, "the five newest are kept"


def test_a_code_takes_both_halves_and_a_week_at_most(credentials: Credentials, clock: ManualClock) -> None:
    credentials.first_start()
    account = account_of(credentials, "validator")
    session = credentials.open_session(account, None)
    first = credentials.first_half("41")
    assert credentials.owner_of(session.token), "a request alone ends nothing"
    second = credentials.second_half("41", account, "validator")
    with pytest.raises(RefusedError):
        credentials.owner_of(session.token)
    assert credentials.password_of(account) is None
    assert credentials.code_matches(account, f"{first}-{second}")
    for wrong in (f"{first}-", f"-{second}", f"{second}-{first}", first, second, "", "-", f"{first}-{second}x"):
        assert not credentials.code_matches(account, wrong), wrong
    assert not credentials.code_matches(account_of(credentials, "auditor"), f"{first}-{second}")
    clock.later(days=7)
    assert not credentials.code_matches(account, f"{first}-{second}")


def test_a_code_is_used_once(credentials: Credentials) -> None:
    credentials.first_start()
    account = account_of(credentials, "validator")
    code = credentials.whole_code(account, "validator")
    assert credentials.code_matches(account, code)
    credentials.set_password(account, "validator", passwords.password_hash("correct horse battery"))
    assert not credentials.code_matches(account, code)


def test_the_second_half_needs_the_first_of_the_same_request(credentials: Credentials) -> None:
    credentials.first_start()
    credentials.first_half("41")
    with pytest.raises(RefusedError, match="ask again"):
        credentials.second_half("42", "p-1", "x")


def test_a_session_is_not_opened_for_a_password_that_was_changed_meanwhile(credentials: Credentials) -> None:
    credentials.first_start()
    account = account_of(credentials, "validator")
    proven = credentials.password_of(account)
    credentials.set_password(account, "validator", passwords.password_hash("another password"))
    with pytest.raises(RefusedError) as caught:
        credentials.open_session(account, None, proven)
    assert caught.value.status == 401


def test_many_at_once_lose_nothing(settings: Settings, credentials: Credentials, clock: ManualClock) -> None:
    credentials.first_start()
    files = [credentials, Credentials(settings, clock=clock)]
    accounts = [account_of(credentials, name) for name in ("auditor", "operator")]
    tokens: list[str] = []

    def sign_in(number: int) -> None:
        tokens.append(files[number % 2].open_session(accounts[number % 2], None).token)

    threads = [threading.Thread(target=sign_in, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({credentials.owner_of(token) for token in tokens}) == 2
    assert len(set(tokens)) == 12


def test_signing_out_ends_a_session_but_no_machine(credentials: Credentials, settings: Settings) -> None:
    credentials.first_start()
    session = credentials.open_session(account_of(credentials, "operator"), None)
    other = credentials.open_session(account_of(credentials, "operator"), None)
    credentials.end_session(session.token)
    credentials.end_session("never known")
    with pytest.raises(RefusedError):
        credentials.owner_of(session.token)
    assert credentials.owner_of(other.token)
    with pytest.raises(RefusedError) as caught:
        credentials.end_session(settings.token("client"))
    assert caught.value.code == "machine"
    assert credentials.owner_of(settings.token("client")) == "m-client"


def test_a_machine_token_is_replaced_by_removing_its_file(credentials: Credentials, settings: Settings) -> None:
    credentials.first_start()
    old = settings.token("trainer")
    (settings.secrets / "trainer.token").unlink()
    credentials.first_start()
    with pytest.raises(RefusedError):
        credentials.owner_of(old)
    assert credentials.owner_of(settings.token("trainer")) == "m-trainer"


def test_a_lost_file_is_made_anew(credentials: Credentials, settings: Settings, clock: ManualClock) -> None:
    credentials.first_start()
    settings.accounts_file.unlink()
    again = Credentials(settings, clock=clock)
    assert again.first_start().keys() == FIRST_PEOPLE.keys()
    assert again.owner_of(settings.token("controller")) == "m-controller"


def test_live_tokens_are_hashes_of_those_that_are_good(credentials: Credentials, clock: ManualClock) -> None:
    credentials.first_start()
    account = account_of(credentials, "operator")
    token = credentials.open_session(account, None).token
    live = credentials.live_tokens()
    assert live[token_hash(token)] == account
    assert all(len(key) == 64 for key in live)
    clock.later(hours=12)
    assert set(credentials.live_tokens().values()) == {f"m-{name}" for name in PLATFORM_MACHINES}


def test_a_file_of_an_earlier_version_is_read(credentials: Credentials, settings: Settings) -> None:
    salt = bytes(16)
    import hashlib

    hashed = hashlib.scrypt(b"an old password", salt=salt, n=2**14, r=8, p=1, dklen=32).hex()
    person = {"role": "validator", "salt": salt.hex(), "hash": hashed}
    old = {"people": {"validator": person}, "tokens": {"ab": {"name": "x", "role": "y", "expires_at": None}}}
    settings.accounts_file.parent.mkdir(parents=True, exist_ok=True)
    settings.accounts_file.write_bytes(orjson.dumps(old))
    assert list(credentials.first_start()) == ["scientist", "operator", "auditor", "admin", "second-admin"]
    known = credentials.password_of("validator")
    assert passwords.matches("an old password", known)
    assert not passwords.matches("another password", known)
    assert known is not None
    assert passwords.is_outdated(known)
    credentials.improve_hash("validator", "an old password")
    better = credentials.password_of("validator")
    assert passwords.matches("an old password", better)
    assert better is not None
    assert not passwords.is_outdated(better)


def test_an_unreadable_file_lets_no_one_in(credentials: Credentials, settings: Settings, clock: ManualClock) -> None:
    credentials.first_start()
    settings.accounts_file.write_text("{")
    for asked in (lambda: credentials.owner_of("x"), lambda: Credentials(settings, clock=clock).live_tokens()):
        with pytest.raises(UnavailableError):
            asked()


def test_a_missing_machine_token_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(PlimsollError, match="plimsoll up"):
        settings.token("controller")
