"""The environment that a model is trained or answered in: interpreter, machine and installed distributions."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import distributions

from lineage.digest import digest_of


@cache
def environment_digest() -> str:
    """The digest of the Python version, the machine's architecture and every installed distribution; taken once."""
    names = {f"{one.metadata['Name']}=={one.version}" for one in distributions()}
    return digest_of({"python": platform.python_version(), "machine": platform.machine(), "packages": sorted(names)})
