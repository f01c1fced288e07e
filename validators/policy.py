"""`policy.toml` as an author writes it: closed, complete, and refused with the key that is wrong.

The type is `lineage.policy.Policy`. Here are the rules for a policy that is new: no unknown key, known checks with
valid limits, steps that can lead to the championship, values that fit together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lineage.errors import InvalidError
from lineage.policy import FORMAT, BreakerLimits, DriftLimits, Policy
from validators.check import Limits
from validators.plugins import CHECKS, DRIFT_STATISTICS
from validators.toml_document import parse_part, read_toml, refuse, unknown_key

#: Steps of traffic where the author names none.
STEPS = {"canary": [0.25], "rollout": [0.5, 1.0]}


def load_policy(path: Path) -> Policy:
    """Read and check a policy file.

    Raises:
        UnavailableError: the file cannot be read.
        InvalidError: it is not TOML, or a key or value is wrong.
        UnknownError: a check that is not installed.
    """
    return check_policy(read_toml(path), source=path.name)


def check_policy(content: Mapping[str, Any], source: str = "policy") -> Policy:
    """A new policy in plain values, checked; every default is written out.

    Raises:
        InvalidError: names the key, its value and what was expected.
        UnknownError: a check that is not installed.
    """
    given = dict(content)
    version = given.pop("format", FORMAT)
    if version != FORMAT:
        raise refuse(source, "format", version, f"{FORMAT}, the one that this version reads")
    if "validation" not in given:
        raise InvalidError(f"{source}: validation is missing", field="validation")
    for section, steps in STEPS.items():
        table = given.get(section, {})
        given[section] = {"steps": steps, **table} if isinstance(table, Mapping) else table
    given["validation"] = _validation(given["validation"], source)
    policy = parse_part(Policy, given, source)
    _check_steps(policy, source)
    _check_drift(policy.monitor.drift, source)
    _check_breaker(policy.serving.breaker, source)
    return policy


def limits_of(policy: Policy) -> dict[str, Limits]:
    """The limits of each check that the policy names, in their own types.

    Raises:
        InvalidError: a limit is wrong.
        UnknownError: a check that is not installed.
    """
    return _limits(policy.validation.checks, policy.validation.limits, "policy")


def _validation(table: Any, source: str) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise refuse(source, "validation", table, "a table with `checks` and the limits of each check")
    names = table.get("checks")
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise refuse(source, "validation.checks", names, "a list that names at least one check")
    if len(set(names)) != len(names):
        raise refuse(source, "validation.checks", list(names), "each check once")
    for name in names:
        CHECKS.load(name)
    for name in set(table) - {"checks", *names}:
        raise unknown_key(source, f"validation.{name}", ["checks", *names], " (a table is for a check that is named)")
    limits = _limits(names, table, source)
    return {"checks": list(names)} | {name: one.model_dump(mode="json") for name, one in limits.items()}


def _limits(names: Any, tables: Mapping[str, Any], source: str) -> dict[str, Limits]:
    return {
        name: parse_part(CHECKS.load(name).limits, tables.get(name, {}), source, f"validation.{name}") for name in names
    }


def _check_steps(policy: Policy, source: str) -> None:
    for section in ("canary", "rollout"):
        if not getattr(policy, section).steps:
            raise refuse(source, f"{section}.steps", [], "at least 1 share")
    if policy.canary.steps[-1] >= 1:
        shares = list(policy.canary.steps)
        raise refuse(source, "canary.steps", shares, "steps below 1: a canary never carries all traffic")
    if policy.rollout.steps[-1] != 1:
        raise refuse(source, "rollout.steps", list(policy.rollout.steps), "1.0 as the last of the steps")


def _check_drift(drift: DriftLimits, source: str) -> None:
    if drift.method not in DRIFT_STATISTICS.names():
        expected = f"the name of a drift statistic; {DRIFT_STATISTICS.hint(drift.method)}"
        raise refuse(source, "monitor.drift.method", drift.method, expected)
    if drift.minimum_rows > drift.window:
        expected = f"at most window {drift.window}: nothing could be judged"
        raise refuse(source, "monitor.drift.minimum_rows", drift.minimum_rows, expected)


def _check_breaker(breaker: BreakerLimits, source: str) -> None:
    if breaker.minimum > breaker.window:
        expected = f"at most window {breaker.window}: nothing could open the breaker"
        raise refuse(source, "serving.breaker.minimum", breaker.minimum, expected)
    low, high = breaker.favourable_low, breaker.favourable_high
    if low is not None and high is not None and low >= high:
        raise refuse(source, "serving.breaker.favourable_low", low, f"less than favourable_high {high}")
