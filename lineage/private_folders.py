"""Folders that only their owner may enter: made so, checked, or refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lineage.errors import UnavailableError

#: What group and other accounts may do.
_OTHERS = 0o077


def close_to_others() -> None:
    """Have this process, and those that it starts, make files and folders that no other account may open."""
    os.umask(_OTHERS)


def open_to_others(path: Path) -> bool:
    """Whether group or other accounts have any right at what is there; not those of a symbolic link, which has none."""
    mode = path.lstat().st_mode
    return not stat.S_ISLNK(mode) and bool(mode & _OTHERS)


def make_private(path: Path, setting: str) -> Path | None:
    """Make a folder with mode 0700 in a place where other accounts may write too, or check the one that is there.

    A folder of this account that was open to others may hold what they put there: it is set aside under another name,
    and a new one is made.

    Args:
        setting: names the setting to change, in errors.

    Returns:
        Where the former folder is now; None if nothing was set aside.

    Raises:
        UnavailableError: it is a symbolic link, no folder, or of another account; or other accounts may replace it.
    """
    place = path.parent.resolve() / path.name
    _require_safe_parent(place.parent, setting)
    aside = None
    try:
        place.mkdir(mode=0o700)
        return None
    except FileExistsError:
        pass
    except OSError as error:
        raise UnavailableError(f"cannot make the folder {place}: {error.strerror}", field=setting) from error
    _require_own_folder(place, setting)
    if open_to_others(place):
        place.chmod(0o700)
        aside = _free_name(place)
        place.rename(aside)
        place.mkdir(mode=0o700)
    return aside


def tighten(root: Path) -> int:
    """Take all rights of group and others away from a folder and what is in it, if the folder itself is open to them.

    Returns:
        The number of files and folders that were open; 0 when the folder is closed: nothing in it can be reached.

    Raises:
        UnavailableError: a mode cannot be changed.
    """
    if not root.is_dir() or not open_to_others(root):
        return 0
    count = 0
    try:
        for path in _everything(root):
            if open_to_others(path):
                path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_OTHERS)
                count += 1
    except OSError as error:
        raise UnavailableError(
            f"{error.filename} is open to other accounts of this machine and its mode cannot be changed: "
            f"{error.strerror}; it has to belong to the account that runs the platform",
            field="home",
        ) from error
    return count


def _everything(root: Path) -> Iterator[Path]:
    yield root  # first: from here on no other account reaches the rest
    for folder, folders, files in os.walk(root):
        yield from (Path(folder, name) for name in (*folders, *files))


def _require_own_folder(path: Path, setting: str) -> None:
    found = path.lstat()
    what = ""
    if stat.S_ISLNK(found.st_mode):
        what = "is a symbolic link"
    elif not stat.S_ISDIR(found.st_mode):
        what = "is no folder"
    elif found.st_uid != os.getuid():
        what = f"belongs to account {found.st_uid}, not to this one ({os.getuid()})"
    if what:
        raise UnavailableError(
            f"{path} {what}: another account of this machine may have made it. Expected a folder of mode 0700 that "
            f"this account made; remove it, or set PLIMSOLL_{setting.upper()} to another folder",
            field=setting,
        )


def _require_safe_parent(parent: Path, setting: str) -> None:
    """Refuse a place in which another account could rename what is made there."""
    for folder in (parent, *parent.parents):
        try:
            found = folder.stat()
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            continue
        theirs = found.st_uid not in (0, os.getuid())
        if theirs or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
            raise UnavailableError(
                f"other accounts may rename what is in {folder} (account {found.st_uid}, mode "
                f"{stat.S_IMODE(found.st_mode):04o}); set PLIMSOLL_{setting.upper()} to a folder below one that "
                "only this account may write to, or below /tmp",
                field=setting,
            )


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.open-{number}")).exists():
        number += 1
    return aside
