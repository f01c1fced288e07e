"""Measure drift from the command line. Importing Evidently takes seconds, so this runs in a process of its own.

    python -m validators.drift --reference X.parquet --window Y.parquet --policy Z.json --output out.json
    python -m validators.drift --desk      # one process for many windows: a JSON request a line, a JSON answer a line

A request holds what the options hold: {"reference": path, "window": path, "policy": {..}, "release": name}.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lineage.errors import InvalidError, PlimsollError
from validators.drift.line_protocol import answer_lines, answer_request


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 measured, 1 a file cannot be read, 2 a value is wrong."""
    parser = argparse.ArgumentParser(prog="python -m validators.drift", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for name in ("reference", "window", "policy", "output"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--release")
    parser.add_argument("--desk", action="store_true", help="stay, and answer a line for each line")
    given = parser.parse_args(arguments)
    if given.desk:
        sink = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print goes to the log, never between the answers
        answer_lines(sys.stdin, sink)
        return 0
    if None in (given.reference, given.window, given.policy, given.output):
        parser.error("--reference, --window, --policy and --output belong together")
    return _measure(given)


def _measure(given: argparse.Namespace) -> int:
    try:
        policy = json.loads(given.policy.read_text(encoding="utf-8"))
        paths = {"reference": given.reference, "window": given.window}
        measured = answer_request({**paths, "policy": policy, "release": given.release})
        given.output.write_text(json.dumps(measured) + "\n", encoding="utf-8")
    except PlimsollError as error:
        sys.stderr.write(error.message + "\n")
        return 2 if isinstance(error, InvalidError) else 1
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
