"""The conformance suite of checks."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Iterator
from typing import get_args

from pydantic import ValidationError

from validators.check import HEADINGS, Check, Finding, Limits, Relation
from validators.check_runner import CheckResult, headings, run_check
from validators.conformance.damage import damaged
from validators.evidence import Evidence
from validators.plugins import CHECKS

HEADING_LENGTH = 40  # characters: a sentence
_CODE = re.compile(r"[A-Z]{2,6}[0-9]{3}")
_NAME = re.compile(r"[a-z][a-z0-9_]{2,60}")


def problems_of_check(name: str, check: Check, evidence: Evidence) -> list[str]:
    """What is wrong with a check, a sentence each; empty if it conforms.

    Args:
        name: the name a policy gives it.
        evidence: evidence on a sound release, e.g. of `sample_evidence`. It is damaged in copies.
    """
    found = [*_description_problems(name, check), *_limits_problems(check)]
    if found:
        return found
    limits = check.limits()
    sound = run_check(name, check, evidence, limits)
    found += _result_problems(sound)
    if _without_time(run_check(name, check, evidence, limits)) != _without_time(sound):
        found.append("the same evidence gave other findings the second time")
    for what, broken in damaged(evidence):
        result = run_check(name, check, broken, limits)
        if result.status != "pass":
            found += [f"with {what}: {problem}" for problem in _result_problems(result)]
        elif what == "nothing at all" or result.findings != sound.findings:
            found.append(f"passes with {what}; missing or thin evidence must raise NotEvaluated or fail")
    return found


def _description_problems(name: str, check: Check) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield f"name {name!r} is not lower case with underscores; it is a key of the policy"
    for member in ("code", "title", "limits", "examine"):
        if not hasattr(check, member):
            yield f"it has no {member!r}"
            return
    if not isinstance(check.code, str) or not _CODE.fullmatch(check.code):
        yield f"code {check.code!r} is not 2 to 6 capital letters and 3 digits"
    same = [other for other in CHECKS.names() if other != name and CHECKS.load(other).code == check.code]
    if same:
        yield f"code {check.code!r} is also the code of {', '.join(same)}"
    if not isinstance(check.title, str) or not check.title.strip() or "\n" in check.title:
        yield f"title {check.title!r} is not one line of text"
    written = headings(check)
    for heading in HEADINGS:
        text = written.get(heading, "")
        if len(text) < HEADING_LENGTH:
            yield f"heading {heading!r} has {len(text)} characters in the docstring; expected {HEADING_LENGTH} or more"


def _limits_problems(check: Check) -> Iterator[str]:
    limits = getattr(check, "limits", None)
    if not inspect.isclass(limits) or not issubclass(limits, Limits):
        yield f"limits is {limits!r}; expected a subclass of validators.check.Limits"
        return
    if limits is not Limits and not limits.__dict__.get("__doc__"):
        yield f"{limits.__name__} has no docstring that explains its limits"
    required = [key for key, field in limits.model_fields.items() if field.is_required()]
    if required:
        yield f"{limits.__name__} has no default for {', '.join(required)}"
        return
    try:
        again = limits.model_validate_json(limits().model_dump_json())
    except ValidationError as error:
        yield f"{limits.__name__} refuses its own defaults: {error.errors()[0]['msg']}"
        return
    if again != limits():
        yield f"{limits.__name__} does not come back the same from JSON, in which releases keep it"


def _result_problems(result: CheckResult) -> Iterator[str]:
    names = [finding.name for finding in result.findings]
    if len(set(names)) != len(names):
        yield f"two findings have one name among {names}"
    for finding in result.findings:
        yield from (f"finding {finding.name!r}: {problem}" for problem in _finding_problems(finding))


def _finding_problems(finding: Finding) -> Iterator[str]:
    if not finding.name.strip() or not finding.detail.strip():
        yield "name and detail must not be empty"
    if not isinstance(finding.ok, bool):
        yield f"ok is {finding.ok!r}; expected True or False"
    if type(finding.n) is not int or finding.n < 0:
        yield f"n is {finding.n!r}; expected a whole number of rows"
    if finding.relation not in get_args(Relation):
        yield f"relation is {finding.relation!r}; expected one of {', '.join(get_args(Relation))}"
    numbers = [finding.observed, finding.limit, *(finding.interval or ())]
    if not all(number is None or math.isfinite(number) for number in numbers):
        yield f"observed, limit and interval are {numbers}; expected finite numbers or None"
        return
    if finding.interval is not None and finding.interval[0] > finding.interval[1]:
        yield f"interval {finding.interval} has its ends exchanged"
    if finding.ok and not _holds(finding):
        yield f"it is ok, but {finding.observed} {finding.relation} {finding.limit} does not hold"
    try:
        json.dumps(finding.to_dict(), allow_nan=False)
    except (TypeError, ValueError) as error:
        yield f"it cannot be recorded as JSON: {error}"


def _holds(finding: Finding) -> bool:
    if finding.observed is None or finding.limit is None:
        return True
    match finding.relation:
        case ">=":
            return finding.observed >= finding.limit
        case "<=":
            return finding.observed <= finding.limit
        case "==":
            return finding.observed == finding.limit


def _without_time(result: CheckResult) -> tuple[object, ...]:
    return result.status, result.findings
