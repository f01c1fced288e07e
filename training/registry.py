"""Keep MLflow's aliases in step with the ledger: champion, challenger, previous.

    python -m training.registry credit-default --champion credit-default@2 --previous credit-default@1

An alias not given is removed. The JSON printed has the releases the aliases pointed at `before`, which shows an alias
that was moved by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from lineage.settings import Settings
from training.tracking import ALIASES, Store


def align_aliases(
    settings: Settings, model: str, champion: str | None, challenger: str | None, previous: str | None
) -> dict[str, str | None]:
    """Point each alias at the version of its release, or remove it; returns the releases they pointed at before."""
    return Store(settings).align(model, {"champion": champion, "challenger": challenger, "previous": previous})


def main(arguments: Sequence[str] | None = None) -> int:
    """The command, for a process of its own: MLflow takes seconds to import, which would delay a serving process."""
    parser = argparse.ArgumentParser(prog="python -m training.registry", description=__doc__)
    parser.add_argument("model")
    for alias in ALIASES:
        parser.add_argument(f"--{alias}", metavar="RELEASE", default=None)
    given = parser.parse_args(arguments)
    before = align_aliases(Settings(), given.model, given.champion, given.challenger, given.previous)
    sys.stdout.write(json.dumps({"model": given.model, "before": before}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
