"""The validation report: one self-contained HTML file, verdict first, then failed checks before passed ones."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lineage.errors import InvalidError
from lineage.policy import Policy
from validators.check import HEADINGS, Finding
from validators.check_runner import CheckResult
from validators.evidence import Evidence

_SAFE = re.compile(r"[a-z0-9][a-z0-9@._-]{0,120}")
_ORDER = {"fail": 0, "not_evaluated": 1, "pass": 2}
_WORDS = {"fail": "failed", "not_evaluated": "not evaluated", "pass": "passed"}


@dataclass(frozen=True)
class Report:
    """Everything the page shows."""

    release: str
    results: tuple[CheckResult, ...]
    evidence: Evidence
    policy: Policy
    about: dict[str, Any]
    made_at: datetime | None = None

    @property
    def passed(self) -> bool:
        return bool(self.results) and all(result.status == "pass" for result in self.results)


def report_path(reports: Path, release: str) -> Path:
    """The path of the report of a release.

    Raises:
        InvalidError: the name of the release cannot be a file name.
    """
    if not _SAFE.fullmatch(release):
        raise InvalidError(f"release {release!r} cannot name a file; expected model@number", field="release")
    return reports / f"{release}.html"


def write_report(report: Report, reports: Path) -> Path:
    """Write the page atomically: the file is whole or absent."""
    path = report_path(reports, report.release)
    reports.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=reports, prefix=".report-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(render(report))
    return Path(name).rename(path)


def render(report: Report) -> str:
    """The page as text."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": number, "interval": interval}
    made = report.made_at or datetime.now(UTC)
    ordered = sorted(report.results, key=lambda result: _ORDER[result.status])
    spec = report.evidence.bundle.spec
    counts = {word: sum(result.status == status for result in ordered) for status, word in _WORDS.items()}
    return templates.get_template("report.html").render(
        report=report,
        results=ordered,
        words=_WORDS,
        counts=counts,
        headings=HEADINGS,
        spec=spec,
        facts=_facts(report),
        policy=json.dumps(report.policy.to_dict(), indent=2),
        made=f"{made:%Y-%m-%d %H:%M:%S} UTC",
    )


def _facts(report: Report) -> list[tuple[str, str]]:
    """The table of what was judged, label and value."""
    evidence, spec = report.evidence, report.evidence.bundle.spec
    return [
        ("Release", report.release),
        ("Bundle digest", evidence.digest),
        ("Champion compared with", evidence.champion_release or "none yet: this would be the first"),
        ("Model family", f"{spec.family}, baseline {spec.baseline.family}"),
        ("Decision", f"{spec.adverse} at a score of {spec.threshold:.6f} or above, else {spec.favourable}"),
        ("Holdout", f"{evidence.holdout.height:,} rows, {int(evidence.outcomes.sum()):,} adverse"),
        ("Policy digest", report.policy.digest),
        *((label, str(value)) for label, value in report.about.items()),
    ]


def number(value: float | None) -> str:
    """A number for display: whole numbers whole, others with four significant digits."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def interval(finding: Finding) -> str:
    """An interval, or a dash."""
    if finding.interval is None:
        return "–"
    return f"{finding.interval[0]:.4f} to {finding.interval[1]:.4f}"
