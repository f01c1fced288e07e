"""Digests of everything that a rerun has to repeat: code, installed distributions, data, parameters and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lineage
import validators
from lineage.digest import digest_file, digest_of
from validators.environment import environment_digest

_CODE = {".py", ".toml", ".yaml", ".html"}


@dataclass(frozen=True)
class Provenance:
    """Digests of what made a release; equal fingerprints promise equal bytes."""

    code: str
    environment: str
    fingerprint: str


def provenance(model_folder: Path, dataset: str, params: Mapping[str, Any], seed: int) -> Provenance:
    """The provenance of a fit.

    Args:
        dataset: the digest of the pinned data.
    """
    code, environment = code_digest(model_folder), environment_digest()
    made_of = {"dataset": dataset, "code": code, "environment": environment, "params": dict(params), "seed": seed}
    return Provenance(code, environment, digest_of(made_of))


def code_digest(model_folder: Path) -> str:
    """The digest of this project's code and of the model folder without its data."""
    roots = {"model": model_folder, "training": Path(__file__).parent}
    roots |= {package.__name__: Path(str(package.__file__)).parent for package in (lineage, validators)}
    found = {}
    for name, root in roots.items():
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix in _CODE:
                found[f"{name}/{path.relative_to(root).as_posix()}"] = digest_file(path)
    return digest_of(found)
