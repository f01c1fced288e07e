"""Folders that only their owner may enter: made, closed, set aside, or refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lineage.errors import UnavailableError
from lineage.private_folders import close_to_others, make_private, open_to_others, tighten


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_new_folder_and_those_above_are_the_owners_alone(tmp_path: Path) -> None:
    assert make_private(tmp_path / "a" / "b", "ray_tmp") is None
    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o700, 0o700)


def test_a_folder_of_this_account_is_kept_with_its_content(tmp_path: Path) -> None:
    make_private(tmp_path / "own", "ray_tmp")
    (tmp_path / "own" / "file").touch()
    assert make_private(tmp_path / "own", "ray_tmp") is None
    assert (tmp_path / "own" / "file").exists()


def test_what_others_could_write_to_is_not_used_again(tmp_path: Path) -> None:
    own = tmp_path / "own"
    for number in (1, 2):
        own.mkdir(exist_ok=True)
        (own / "haproxy.sh").write_text("of another account")
        own.chmod(0o777)
        aside = make_private(own, "ray_tmp")
        assert aside == tmp_path / f"own.open-{number}"
        assert (mode(own), list(own.iterdir())) == (0o700, [])
        assert mode(aside) == 0o700


def link(path: Path) -> None:
    path.with_name("elsewhere").mkdir(mode=0o700)
    path.symlink_to(path.with_name("elsewhere"))


def foreign(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 12_345, 12_345)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (link, "is a symbolic link"),
        (Path.touch, "is no folder"),
        pytest.param(foreign, "belongs to account 12345", marks=pytest.mark.skipif(os.getuid() != 0, reason="chown")),
    ],
)
def test_what_another_account_may_have_made_is_refused(make: Callable[[Path], None], why: str, tmp_path: Path) -> None:
    make(tmp_path / "own")
    with pytest.raises(UnavailableError, match=why) as refused:
        make_private(tmp_path / "own", "ray_tmp")
    assert refused.value.field == "ray_tmp"
    assert "PLIMSOLL_RAY_TMP" in refused.value.message


@pytest.mark.parametrize("bits", [0o777, 0o770])
def test_a_place_in_which_others_may_rename_is_refused(bits: int, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(bits)
    with pytest.raises(UnavailableError, match="may rename what is in"):
        make_private(shared / "own", "ray_tmp")
    shared.chmod(bits | stat.S_ISVTX)  # as /tmp
    make_private(shared / "own", "ray_tmp")


def test_an_open_home_is_closed_with_everything_in_it(tmp_path: Path) -> None:
    home = tmp_path / "var"
    (home / "datasets").mkdir(parents=True)
    (home / "datasets" / "protected.parquet").touch()
    (home / "run.sh").touch()
    (home / "run.sh").chmod(0o755)
    outside = tmp_path / "outside"
    outside.touch()
    outside.chmod(0o644)
    (home / "link").symlink_to(outside)
    home.chmod(0o755)
    assert tighten(home) == 4
    assert not [path for path in (home, *home.rglob("*")) if open_to_others(path)]
    assert mode(home / "run.sh") == 0o700
    assert mode(outside) == 0o644, "a link is not followed"
    assert tighten(home) == 0


def test_processes_make_files_that_others_cannot_open(tmp_path: Path) -> None:
    """And so do processes that they start."""
    make = "from pathlib import Path; Path('made').mkdir(); Path('made/file').touch()"
    script = (
        f"import subprocess, sys; from lineage.private_folders import close_to_others; close_to_others(); "
        f"subprocess.run([sys.executable, '-c', {make!r}], check=True)"
    )
    home = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=os.environ | {"PYTHONPATH": home}, check=True)
    assert (mode(tmp_path / "made"), mode(tmp_path / "made" / "file")) == (0o700, 0o600)


def test_the_mask_is_that_of_the_owner() -> None:
    before = os.umask(0)
    try:
        close_to_others()
        assert os.umask(0) == 0o077
    finally:
        os.umask(before)
