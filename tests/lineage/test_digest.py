"""Digests: equal content gives equal digests, and nothing else does."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.digest import canonical, digest_bytes, digest_file, digest_folder, digest_of
from lineage.errors import InvalidError, UnavailableError


@settings(max_examples=50)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 9) | st.none()))
def test_the_order_of_keys_is_no_content(value: dict[str, int | None]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical(turned) == canonical(value)
    assert json.loads(canonical(value)) == value
    assert digest_of(turned) == digest_of(value) == digest_bytes(canonical(value))


@pytest.mark.parametrize(
    "value", [float("nan"), [1, float("inf")], {"a": {"b": [float("-inf")]}}, {1, 2}, 2**64, "\ud800"]
)
def test_what_json_cannot_say_has_no_digest(value: object) -> None:
    with pytest.raises(InvalidError):
        canonical(value)


def test_the_place_of_nan_is_named() -> None:
    with pytest.raises(InvalidError) as caught:
        canonical({"a": None, "metrics": [{"rate": float("nan")}]})
    assert caught.value.field == "metrics.0.rate"


def test_a_folder_is_its_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("2")
    (tmp_path / "a").write_text("1")
    lines = "".join(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in (("a", "1"), ("b", "2")))
    before = digest_folder(tmp_path)
    assert before == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
    (tmp_path / "a").rename(tmp_path / "c")
    assert digest_folder(tmp_path) != before


def test_a_bundle_holds_plain_files_only(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    with pytest.raises(UnavailableError):
        digest_folder(folder)
    folder.mkdir()
    with pytest.raises(InvalidError):
        digest_folder(folder)
    (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(InvalidError):
        digest_folder(folder)
    (folder / "link").unlink()
    (folder / "inner").mkdir()
    with pytest.raises(InvalidError):
        digest_folder(folder)


@pytest.mark.parametrize("name", [b"a\nb", b"a\x1b[2J", b"\xff\xfe"])
def test_a_name_never_passes_for_two_lines(name: bytes, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(name)).write_text("x")
    with pytest.raises(InvalidError) as caught:
        digest_folder(tmp_path)
    assert caught.value.field == "name"


def test_a_file_that_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("a\0b")):
        with pytest.raises(UnavailableError):
            digest_file(path)
