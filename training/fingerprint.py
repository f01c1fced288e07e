"""What made a release: the code, the installed distributions and everything else that a rerun has to repeat."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import lineage
import validators
from lineage.digest import digest_file, digest_of

_CODE = {".py", ".toml", ".yaml", ".html"}


def code_digest(model_folder: Path) -> str:
    """The digest of our code and of the model folder without its data."""
    roots = {"model": model_folder, "training": Path(__file__).parent}
    roots |= {package.__name__: Path(str(package.__file__)).parent for package in (lineage, validators)}
    found = {}
    for name, root in roots.items():
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix in _CODE:
                found[f"{name}/{path.relative_to(root).as_posix()}"] = digest_file(path)
    return digest_of(found)


def environment_digest() -> str:
    """The digest of the Python version and every installed distribution with its version."""
    names = {f"{one.metadata['Name']}=={one.version}" for one in distributions()}
    return digest_of({"python": platform.python_version(), "machine": platform.machine(), "packages": sorted(names)})


def fingerprint(dataset: str, code: str, environment: str, params: Mapping[str, Any], seed: int) -> str:
    """One digest over all of it: equal fingerprints promise equal bytes."""
    return digest_of(
        {"dataset": dataset, "code": code, "environment": environment, "params": dict(params), "seed": seed}
    )
