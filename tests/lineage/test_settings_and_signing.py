"""Settings, and the key that signs."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from lineage.clock import instant, stamp
from lineage.errors import PlimsollError, RefusedError, TamperedError, UnavailableError
from lineage.settings import RAY_TMP_MAX_BYTES, Settings
from lineage.signing import key_name, make_keys, sign, verify


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLIMSOLL_HOME", str(tmp_path))
    monkeypatch.setenv("PLIMSOLL_LEDGER_PORT", "7999")
    settings = Settings()
    assert (settings.root, settings.ledger_url) == (tmp_path, "http://127.0.0.1:7999")
    monkeypatch.setenv("PLIMSOLL_LEDGER_PORT", "80")
    with pytest.raises(ValidationError, match="ledger_port"):
        Settings()


def test_one_setting_moves_every_port_that_is_not_set_itself() -> None:
    ports = {name for name in Settings.model_fields if name.endswith("_port")}
    before, after = Settings(), Settings(port_offset=100, console_port=9_999)
    moved = {name: getattr(after, name) - getattr(before, name) for name in ports - {"console_port"}}
    assert (set(moved.values()), after.console_port) == ({100}, 9_999)
    assert before.ray_ports + 256 <= after.ray_ports or after.ray_ports + 256 <= before.ray_ports


def test_another_process_gets_the_same_settings_in_another_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    here = Settings(home=Path("var"), port_offset=300, ledger_port=7_999, witness_home=Path("seen"))
    for name, value in here.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    there = Settings()
    assert (there.root, there.witness_home) == (tmp_path / "var", tmp_path / "seen")
    assert {k: v for k, v in there if k not in ("home", "witness_home", "root")} == {
        k: v for k, v in here if k not in ("home", "witness_home", "root")
    }


def test_two_homes_share_no_ray_folder(tmp_path: Path) -> None:
    one, two = Settings(home=tmp_path / "one").ray_tmp, Settings(home=tmp_path / "two").ray_tmp
    assert one != two
    assert max(len(os.fsencode(folder)) for folder in (one, two)) <= RAY_TMP_MAX_BYTES


def test_the_ray_folder_is_in_tmpdir_unless_that_is_too_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")  # noqa: S108
    assert Settings().ray_tmp.parent == Path("/var/tmp")  # noqa: S108
    long = tmp_path / ("t" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert Settings().ray_tmp.parent == Path("/tmp")  # noqa: S108


def test_everything_lies_under_the_home(settings: Settings) -> None:
    for name in ("log_folder", "lineage_store", "accounts_file", "secrets", "artefacts", "spool", "decisions", "run"):
        assert settings.root in getattr(settings, name).parents


def test_the_key_is_made_once_and_for_its_owner(settings: Settings) -> None:
    with pytest.raises(UnavailableError):
        key_name(settings)
    name = make_keys(settings)
    assert make_keys(settings) == key_name(settings) == name
    private = settings.root / "keys" / "signing.key"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_a_crash_while_making_the_key_heals(settings: Settings) -> None:
    folder = settings.root / "keys"
    folder.mkdir(parents=True)
    (folder / "signing.pub").write_bytes(b"of a pair that never was")
    name = make_keys(settings)
    bundle = settings.artefacts / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "release.json").write_text("{}")
    assert sign(bundle, settings) == name
    verify(bundle, settings)


def test_another_key_does_not_vouch(settings: Settings, tmp_path: Path) -> None:
    make_keys(settings)
    bundle = settings.artefacts / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "release.json").write_text("{}")
    with pytest.raises(TamperedError, match="no signature"):
        verify(bundle, settings)
    other = Settings(home=tmp_path / "other")
    make_keys(other)
    sign(bundle, other)
    with pytest.raises(TamperedError):
        verify(bundle, settings)
    verify(bundle, other)


def test_an_error_is_its_json_body() -> None:
    error = RefusedError("no", code="stale", status=412, field="etag", etag=7)
    assert error.body() == {"error": "no", "code": "stale", "field": "etag", "etag": 7}
    assert isinstance(error, PlimsollError)


def test_times_stand_in_records_as_utc_with_microseconds() -> None:
    text = "2026-11-23T10:00:00.000001Z"
    assert stamp(instant(text)) == text
    assert stamp(instant("2026-11-23T12:00:00.000001+02:00")) == text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback_needs_no_tls(host: str) -> None:
    settings = Settings(host=host, unsafe_plain_http=True)
    settings.require_safe_host()
    assert settings.unsafe == {}, "nothing is bypassed"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.4", "ledger.bank.example", "localhost.bank.example", ""])  # noqa: S104
def test_clear_text_beyond_this_machine_is_refused_unless_it_is_said_to_be_wanted(host: str) -> None:
    with pytest.raises(RefusedError, match="PLIMSOLL_UNSAFE_PLAIN_HTTP") as refused:
        Settings(host=host).require_safe_host()
    assert (refused.value.code, refused.value.field) == ("plain_http", "host")
    wanted = Settings(host=host, unsafe_plain_http=True)
    wanted.require_safe_host()
    assert list(wanted.unsafe) == ["plain_http"]
