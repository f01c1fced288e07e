"""Runs one check and derives its status from its findings; a check never decides its own status.

- every finding ok, at least one finding  -> pass
- a finding that is not ok                -> fail
- evidence missing, or the check broke    -> not_evaluated, with the reason; never a pass
- no findings                             -> not_evaluated
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from lineage.errors import PlimsollError
from validators.check import HEADINGS, Check, Finding, Limits, NotEvaluated
from validators.evidence import Evidence

Status = Literal["pass", "fail", "not_evaluated"]

# What a check can raise when it breaks. Anything else stops the validation, which registers nothing either.
_FAULTS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError)
_BREAKS = (*_FAULTS, TypeError, ValueError, PlimsollError, pl.exceptions.PolarsError)


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check. A check that could not be evaluated has one finding that gives the reason."""

    check: str
    code: str
    title: str
    status: Status
    seconds: float
    findings: tuple[Finding, ...]
    headings: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The data of a CheckCompleted fact, without the policy digest."""
        data = {"check": self.check, "code": self.code, "title": self.title, "status": self.status}
        findings = [finding.to_dict() for finding in self.findings]
        return data | {"findings": findings, "seconds": round(self.seconds, 3)}


def run_check(
    name: str, check: Check, evidence: Evidence, limits: Limits, clock: Callable[[], float] = time.perf_counter
) -> CheckResult:
    """Run one check and decide its status from its findings; a check that breaks is never a pass."""
    started = clock()
    try:
        findings = tuple(check.examine(evidence, limits))
    except NotEvaluated as missing:
        status, findings = _not_evaluated(str(missing))
    except _BREAKS as error:
        status, findings = _not_evaluated(f"the check could not run: {type(error).__name__}: {error}")
    else:
        status = "pass" if all(one.ok for one in findings) else "fail"
        if not findings:
            status, findings = _not_evaluated("the check found nothing to judge; no findings is not a pass")
    return CheckResult(name, check.code, check.title, status, clock() - started, findings, headings(check))


def _not_evaluated(why: str) -> tuple[Status, tuple[Finding, ...]]:
    return "not_evaluated", (Finding("evidence", None, None, "==", ok=False, n=0, detail=why),)


def headings(check: Check) -> dict[str, str]:
    """The five headings of a check's docstring and the text below each."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (inspect.getdoc(check) or "").splitlines():
        title = line.strip().rstrip(":")
        if title in HEADINGS and line.rstrip().endswith(":"):
            current = sections.setdefault(title, [])
        else:
            current.append(line.strip())
    return {title: " ".join(filter(None, lines)) for title, lines in sections.items()}
