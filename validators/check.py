"""The port of checks: what a check is given, what it answers, and the door that finds the checks.

A check is one file in `checks/`, or an entry point in the group `plimsoll.checks`: a class with `code`, `title`,
`limits` and one method `examine`. It returns findings; it never decides its own status:

- every finding ok, at least one finding  -> pass
- a finding that is not ok                -> fail
- evidence missing, or the check broke    -> not_evaluated, with the reason; never a pass
- no findings                             -> not_evaluated
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field

from lineage.errors import PlimsollError, UnknownError

if TYPE_CHECKING:
    from validators.evidence import Evidence

HEADINGS = ("Purpose", "Test mechanism", "Signs of high risk", "Strengths", "Limitations")
GROUP = "plimsoll.checks"

Status = Literal["pass", "fail", "not_evaluated"]
Relation = Literal[">=", "<=", "=="]
Edges = Annotated[tuple[float, ...], Field(min_length=1, max_length=50, strict=False)]

# What a check can raise when it breaks. Anything else stops the validation, which registers nothing either.
_FAULTS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError)
_BREAKS = (*_FAULTS, TypeError, ValueError, PlimsollError)


class Limits(BaseModel):
    """The limits of one check, as its table in the policy; each check extends it with its own keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class NotEvaluated(Exception):
    """The evidence a check needs is missing or too thin. The message says which and how much is needed."""


@dataclass(frozen=True)
class Finding:
    """One thing a check looked at: `observed relation limit` is `ok`.

    `interval` is the confidence interval of `observed`, `n` the number of rows behind it.
    """

    name: str
    observed: float | None
    limit: float | None
    relation: Relation
    ok: bool
    n: int
    detail: str
    interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The form that facts carry."""
        return asdict(self) | {"interval": None if self.interval is None else list(self.interval)}


class Check(Protocol):
    """One question about a candidate. Its docstring has the five headings an auditor reads."""

    code: ClassVar[str]
    title: ClassVar[str]
    limits: ClassVar[type[Limits]]

    def examine(self, evidence: Evidence, limits: Any) -> list[Finding]:
        """What was found, judged against `limits` (an instance of the check's own `limits`).

        Raises:
            NotEvaluated: the evidence needed is missing or too thin.
        """


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check. A check that could not be evaluated has one finding that says why."""

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


def check_names() -> list[str]:
    """The names of every check that is installed, sorted: files in `checks/` and entry points."""
    from validators import checks as folder

    found = {module.name for module in pkgutil.iter_modules(folder.__path__)}
    return sorted(found | {point.name for point in entry_points(group=GROUP)})


def checks(names: Iterable[str]) -> dict[str, Check]:
    """The checks of these names, in this order.

    Raises:
        UnknownError: no check has that name; an unknown name is not skipped.
    """
    return {name: _find(name) for name in names}


def _find(name: str) -> Check:
    from validators import checks as folder

    if name in {module.name for module in pkgutil.iter_modules(folder.__path__)}:
        module = importlib.import_module(f"{folder.__name__}.{name}")
        return cast(Check, module.check)
    for point in entry_points(group=GROUP, name=name):
        return cast(Check, point.load())
    known = check_names()
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(known)}"
    raise UnknownError(f"no check is called {name!r}; {hint}", field="validation.checks")


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
