"""Parsed bytes are the verified bytes, even when the folder changes meanwhile."""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lineage.digest import FOLDER_BYTES, digest_files, digest_folder, read_folder
from lineage.errors import InvalidError, PlimsollError, TamperedError, UnavailableError
from lineage.settings import Settings
from lineage.signing import signature_of, verify, verify_files
from tests.support.small_release import FEATURES, customers
from validators.feature_matrix import matrix
from validators.scoring.bundle import parse_bundle
from validators.scoring.port import Rows
from validators.scoring.verified_read import load_verified, read_verified
from validators.scoring.xgboost_without_sklearn import import_xgboost

Copy = Callable[[Path], tuple[Settings, Path]]
ROUNDS = 1_000


@pytest.fixture
def rows() -> Rows:
    return matrix(FEATURES, customers(5, seed=3))


def other_model(folder: Path) -> bytes:
    """A model that any parser takes, and that nobody approved."""
    booster = import_xgboost().Booster(model_file=str(folder / "model.ubj"))
    return bytes(booster[:10].save_raw("ubj"))


def test_files_read_once_have_the_digest_of_their_folder(folder: Path, home: Settings) -> None:
    files = read_folder(folder)
    assert list(files) == sorted(path.name for path in folder.iterdir())
    assert digest_files(folder.name, files) == digest_folder(folder) == "sha256:" + folder.name
    assert "reference.parquet" not in read_verified(folder, "sha256:" + folder.name, home)


def test_what_changes_after_the_look_changes_nothing(folder: Path, copy_of: Copy, rows: Rows) -> None:
    settings, place = copy_of(folder)
    expected = load_verified(place, "sha256:" + folder.name, settings).model.score(rows)
    files = read_verified(place, "sha256:" + folder.name, settings)
    other = other_model(folder)
    (place / "model.ubj").write_bytes(other)
    assert parse_bundle(place, files).model.score(rows).tobytes() == expected.tobytes()
    shutil.rmtree(place)
    assert parse_bundle(place, files).model.score(rows).tobytes() == expected.tobytes()


def overwrite(path: Path, content: bytes, spare: Path) -> None:
    path.write_bytes(content)


def rename(path: Path, content: bytes, spare: Path) -> None:
    spare.write_bytes(content)
    spare.replace(path)


def link(path: Path, content: bytes, spare: Path) -> None:
    aim, turn = spare.with_suffix(".aim"), spare.with_suffix(".turn")
    aim.write_bytes(content)
    turn.unlink(missing_ok=True)
    turn.symlink_to(aim)
    turn.replace(path)


def hard_link(path: Path, content: bytes, spare: Path) -> None:
    spare.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    spare.write_bytes(content)
    os.link(spare, path)


@pytest.mark.parametrize("way", [overwrite, rename, link, hard_link])
def test_of_a_thousand_races_none_is_won(
    folder: Path, copy_of: Copy, rows: Rows, tmp_path: Path, way: Callable[[Path, bytes, Path], None]
) -> None:
    settings, place = copy_of(folder)
    digest = "sha256:" + folder.name
    model = place / "model.ubj"
    good, other = model.read_bytes(), other_model(folder)
    expected = load_verified(place, digest, settings).model.score(rows).tobytes()
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            way(model, other, tmp_path / "spare")
            rename(model, good, tmp_path / "back")

    attacker = threading.Thread(target=swap)
    attacker.start()
    won = 0
    for _ in range(ROUNDS // 4):
        try:
            won += load_verified(place, digest, settings).model.score(rows).tobytes() != expected
        except PlimsollError:
            continue
    over.set()
    attacker.join()
    assert won == 0
    assert load_verified(place, digest, settings).model.score(rows).tobytes() == expected


def add(place: Path) -> None:
    (place / "more").write_text("more")


def remove(place: Path) -> None:
    (place / "model.ubj").unlink()


def link_away(place: Path) -> None:
    (place / "model.ubj").rename(place.parent / "elsewhere")
    (place / "model.ubj").symlink_to(place.parent / "elsewhere")


def pipe(place: Path) -> None:
    (place / "model.ubj").unlink()
    os.mkfifo(place / "model.ubj")


def inner(place: Path) -> None:
    (place / "inner").mkdir()


def line(place: Path) -> None:
    (place / "a\nb").write_text("x")


def flip(place: Path) -> None:
    content = bytearray((place / "model.ubj").read_bytes())
    content[len(content) // 2] ^= 1
    (place / "model.ubj").write_bytes(content)


@pytest.mark.parametrize("harm", [add, remove, link_away, pipe, inner, line, flip])
def test_a_folder_that_is_not_the_one_is_refused(folder: Path, copy_of: Copy, harm: Callable[[Path], None]) -> None:
    settings, place = copy_of(folder)
    harm(place)
    with pytest.raises(TamperedError) as caught:
        load_verified(place, "sha256:" + folder.name, settings)
    assert caught.value.field == "digest"


def test_a_hard_link_to_the_same_bytes_is_a_file_like_another(folder: Path, copy_of: Copy) -> None:
    settings, place = copy_of(folder)
    os.link(place / "model.ubj", place.parent / "second name")
    assert load_verified(place, "sha256:" + folder.name, settings).name == "small-credit"


def test_a_folder_that_is_gone_or_too_large_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(InvalidError, match="more than its limit"):
        read_folder(folder, most=1000)
    assert sum(len(content) for content in read_folder(folder).values()) < FOLDER_BYTES


def test_both_ways_of_verifying_agree(folder: Path, copy_of: Copy) -> None:
    settings, place = copy_of(folder)
    signature = signature_of(place)
    original = signature.read_bytes()
    bundle = json.loads(original)
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])

    def altered(**change: object) -> bytes:
        return json.dumps(bundle | {"dsseEnvelope": bundle["dsseEnvelope"] | change}).encode()

    forged = base64.b64encode(payload.replace(b"model.ubj", b"model.ubk")).decode()
    cases: dict[str, tuple[bytes, bool]] = {
        "as signed": (original, True),
        "another payload": (altered(payload=forged), False),
        "another kind": (altered(payloadType="text/plain"), False),
        "no signature in it": (altered(signatures=[]), False),
        "a signature of nothing": (altered(signatures=[{"sig": "", "keyid": ""}]), False),
        "no JSON": (b"nonsense", False),
        "a list": (b"[]", False),
        "nothing": (b"", False),
        "deep": (b"[" * 100_000, False),
    }
    files = read_folder(place)
    for name, (content, good) in cases.items():
        signature.write_bytes(content)
        for check in (lambda: verify(place, settings), lambda: verify_files(place.name, files, signature, settings)):
            if good:
                check()
                continue
            with pytest.raises(TamperedError) as caught:
                check()
            assert caught.value.field == "signature", name


def test_a_file_too_many_too_few_or_changed_is_not_as_signed(folder: Path, home: Settings) -> None:
    files = read_folder(folder)
    without = {name: content for name, content in files.items() if name != "golden.json"}
    for change, name in (
        (files | {"more": b""}, "more"),
        (without, "golden.json"),
        (files | {"model.ubj": b"x"}, "model.ubj"),
    ):
        with pytest.raises(TamperedError, match=f"{name} not as signed"):
            verify_files(folder.name, change, signature_of(folder), home)
    with pytest.raises(TamperedError, match="no signature"):
        verify_files(folder.name, files, folder.with_name("none.sig"), home)
    with pytest.raises(UnavailableError, match="no signing key"):
        verify_files(folder.name, files, signature_of(folder), Settings(home=folder))
