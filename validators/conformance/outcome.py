"""How the commands of the conformance suites write what they found."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from validators.plugins import PluginPoint

CONFORMS, PROBLEMS, UNKNOWN = 0, 1, 2


def write_outcome(point: PluginPoint, name: str, problems: Sequence[str], note: str = "") -> bool:
    """Write the outcome of one plug-in; whether it conforms."""
    word = f"{len(problems)} problems" if problems else "conforms"
    sys.stdout.write(f"{point.kind:<16} {name:<34} {word}{note}\n")
    sys.stdout.writelines(f"    {problem}\n" for problem in problems)
    return not problems
