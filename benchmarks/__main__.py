"""`make bench`: run every measurement and print its table; `python -m benchmarks NAME …` runs the named ones.

A measurement is a module here with a function `run` that yields lines. `PLIMSOLL_BENCH=quick` shortens those that
support it.
"""

from __future__ import annotations

import importlib
import re
import sys
import time
from pathlib import Path

_FOLDER = Path(__file__).parent
_FIRST = ("appends", "verification", "ledger_service", "lineage_store", "serving", "resident")
_RUN = re.compile(r"^def run\(", re.MULTILINE)


def names() -> list[str]:
    """Names of all measurements: first those of one part of the platform each, then the fault runs."""
    found = []
    for path in sorted(_FOLDER.rglob("*.py")):
        parts = path.relative_to(_FOLDER).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and _RUN.search(path.read_text()):
            found.append(name)
    return sorted(found, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))


def main(wanted: list[str]) -> None:
    """Run the named measurements, or all."""
    known = names()
    unknown = set(wanted) - set(known)
    if unknown:
        sys.exit(f"there is no measurement {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    for name in wanted or known:
        measurement = importlib.import_module(f"benchmarks.{name}")
        began = time.monotonic()
        print(f"\n{name}: {str(measurement.__doc__).splitlines()[0]}", flush=True)
        for line in measurement.run():
            print(f"  {line}", flush=True)
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
