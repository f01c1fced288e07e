"""Sessions in an encrypted cookie: they survive a restart, and only the right key opens them."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from console.access import content_policy
from console.session import Sessions
from console.signin import local


def answer(hours: float = 1.0) -> dict[str, Any]:
    expires = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    return {"token": "t", "name": "ann", "role": "operator", "roles": ["operator"], "expires_at": expires}


def test_a_restart_keeps_sessions(tmp_path: Path) -> None:
    cookie, person = Sessions(tmp_path / "secrets" / "console.key").seal(answer())
    assert Sessions(tmp_path / "secrets" / "console.key").open(cookie) == person


def test_the_key_is_the_owners_alone(tmp_path: Path) -> None:
    Sessions(tmp_path / "console.key")
    assert stat.S_IMODE((tmp_path / "console.key").stat().st_mode) == 0o600


def test_forged_foreign_and_expired_cookies_open_nothing(tmp_path: Path) -> None:
    mine, theirs = Sessions(tmp_path / "a"), Sessions(tmp_path / "b")
    cookie, _ = theirs.seal(answer())
    assert mine.open(cookie) is None
    assert mine.open("x") is None
    assert mine.open(None) is None
    assert mine.open(mine.seal(answer(hours=-1))[0]) is None


def test_the_cookie_does_not_show_the_token(tmp_path: Path) -> None:
    cookie, _ = Sessions(tmp_path / "a").seal(answer() | {"token": "very-secret"})
    assert "very-secret" not in cookie


@pytest.mark.parametrize("bad", ["//evil.example", "https://evil.example", "/\\evil.example", "x", "/a\nb", None])
def test_signing_in_never_leads_elsewhere(bad: str | None) -> None:
    assert local(bad) == "/"
    assert local("/release/m@2?x=1") == "/release/m@2?x=1"


def test_the_policy_allows_no_eval_and_no_inline_script() -> None:
    scripts = content_policy(["'sha256-x'"]).split("script-src")[1].split(";")[0]
    assert "unsafe" not in scripts
