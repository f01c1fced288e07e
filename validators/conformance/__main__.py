"""Run the conformance suites over what is installed: files in the folders and entry points of any distribution.

    python -m validators.conformance [NAME ...]

Exit status: 0 everything conforms, 1 something does not, 2 no plug-in has that name.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lineage.errors import InvalidError, UnavailableError
from validators.check_runner import run_check
from validators.conformance.checks import problems_of_check
from validators.conformance.drift_statistics import problems_of_statistic
from validators.conformance.outcome import CONFORMS, PROBLEMS, UNKNOWN, write_outcome
from validators.conformance.sample_release import sample_evidence
from validators.plugins import CHECKS, DRIFT_STATISTICS

POINTS = (CHECKS, DRIFT_STATISTICS)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m validators.conformance", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help="checks and drift statistics (default: all)")
    wanted = parser.parse_args(arguments).names
    chosen = {point: [name for name in point.names() if not wanted or name in wanted] for point in POINTS}
    for name in wanted:
        if not any(name in names for names in chosen.values()):
            hints = "; ".join(f"{point.kind}: {point.hint(name)}" for point in POINTS)
            sys.stderr.write(f"no check or drift statistic is called {name!r}; {hints}\n")
            return UNKNOWN
    checks = _report_checks(chosen[CHECKS]) if chosen[CHECKS] else True
    statistics = [_report_statistic(name) for name in chosen[DRIFT_STATISTICS]]
    return CONFORMS if checks and all(statistics) else PROBLEMS


def _report_checks(names: Sequence[str]) -> bool:
    with tempfile.TemporaryDirectory(prefix="conformance-") as home:
        evidence = sample_evidence(Path(home))
        outcomes = []
        for name in names:
            try:
                check = CHECKS.load(name)
            except (InvalidError, UnavailableError) as error:
                outcomes.append(write_outcome(CHECKS, name, [error.message]))
                continue
            problems = problems_of_check(name, check, evidence)
            status = "" if problems else run_check(name, check, evidence, check.limits()).status
            outcomes.append(
                write_outcome(CHECKS, name, problems, f"; on the sample release: {status}" if status else "")
            )
    return all(outcomes)


def _report_statistic(name: str) -> bool:
    try:
        problems = problems_of_statistic(DRIFT_STATISTICS.load(name))
    except (InvalidError, UnavailableError) as error:
        problems = [error.message]
    return write_outcome(DRIFT_STATISTICS, name, problems)


if __name__ == "__main__":
    sys.exit(main())
