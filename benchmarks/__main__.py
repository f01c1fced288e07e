"""`make bench`: run every measurement and print its table; `python -m benchmarks NAME …` runs those that are named."""

from __future__ import annotations

import importlib
import sys
import time

NAMES = (
    "appends",
    "verification",
    "ledger_service",
    "lineage_store",
    "faults.kills",
    "faults.power_loss",
    "faults.mutations",
    "faults.rewinds",
    "faults.false_alarms",
)


def main(names: list[str]) -> None:
    """Run what is named, everything when nothing is."""
    unknown = set(names) - set(NAMES)
    if unknown:
        sys.exit(f"there is no measurement {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    for name in names or NAMES:
        measurement = importlib.import_module(f"benchmarks.{name}")
        began = time.monotonic()
        print(f"\n{name}: {str(measurement.__doc__).splitlines()[0]}", flush=True)
        for line in measurement.run():
            print(f"  {line}", flush=True)
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
