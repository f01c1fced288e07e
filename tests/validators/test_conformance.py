"""Every installed check and drift statistic conforms, and the suites find what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import Field

from validators.check import Finding, Limits
from validators.conformance.checks import problems_of_check
from validators.conformance.drift_statistics import problems_of_statistic
from validators.conformance.sample_release import sample_evidence
from validators.drift.port import Values
from validators.evidence import Evidence
from validators.plugins import CHECKS, DRIFT_STATISTICS


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return sample_evidence(tmp_path_factory.mktemp("sample"))


@pytest.mark.parametrize("name", CHECKS.names())
def test_every_installed_check_conforms(name: str, evidence: Evidence) -> None:
    assert problems_of_check(name, CHECKS.load(name), evidence) == []


@pytest.mark.parametrize("name", DRIFT_STATISTICS.names())
def test_every_installed_statistic_conforms(name: str) -> None:
    assert problems_of_statistic(DRIFT_STATISTICS.load(name)) == []


class SomeLimits(Limits):
    """How many rows are enough."""

    minimum_rows: int = Field(default=100, ge=1)


class Sound:
    """Whether there are enough rows.

    Purpose:
        Find a holdout that is too small for any other check to be worth reading.
    Test mechanism:
        The rows of the holdout are counted and compared with minimum_rows.
    Signs of high risk:
        A count near the limit, or one that falls from release to release.
    Strengths:
        Exact, quick, and free of every assumption about the distribution.
    Limitations:
        Nothing is learned about what the rows hold, only how many there are.
    """

    code: ClassVar[str] = "ZZ900"
    title: ClassVar[str] = "Enough rows"
    limits: ClassVar[type[Limits]] = SomeLimits

    def examine(self, evidence: Evidence, limits: Any) -> list[Finding]:
        rows = evidence.holdout.height
        least = limits.minimum_rows
        return [Finding("rows", rows, least, ">=", ok=rows >= least, n=rows, detail="rows of the holdout")]


class NoHeadings(Sound):
    """Whether there are enough rows."""


class OneHeadingEmpty(Sound):
    __doc__ = str(Sound.__doc__).replace("The rows of the holdout are counted and compared with minimum_rows.", "")


class SecondCode(Sound):
    __doc__ = Sound.__doc__
    code = "PL001"


class ShapelessCode(Sound):
    __doc__ = Sound.__doc__
    code = "rows"


class NeedsLimits(Sound):
    __doc__ = Sound.__doc__

    class Required(Limits):
        """One that has no default."""

        minimum_rows: int

    limits = Required


class AnyLimits(Sound):
    __doc__ = Sound.__doc__
    limits = dict  # type: ignore[assignment]


class AlwaysPasses(Sound):
    __doc__ = Sound.__doc__

    def examine(self, evidence: Evidence, limits: Any) -> list[Finding]:
        return [Finding("fine", 1, 1, "==", ok=True, n=1, detail="always")]


class FiveAreEnough(Sound):
    __doc__ = Sound.__doc__

    def examine(self, evidence: Evidence, limits: Any) -> list[Finding]:
        rows = evidence.holdout.height
        return [Finding("rows", rows, 1, ">=", ok=rows >= 1, n=rows, detail="rows of the holdout")]


class Infinite(Sound):
    __doc__ = Sound.__doc__

    def examine(self, evidence: Evidence, limits: Any) -> list[Finding]:
        return [Finding("ratio", float("inf"), 1, ">=", ok=True, n=evidence.holdout.height, detail="a ratio")]


class Contradicts(Sound):
    __doc__ = Sound.__doc__

    def examine(self, evidence: Evidence, limits: Any) -> list[Finding]:
        return [Finding("rows", 1, 100, ">=", ok=True, n=evidence.holdout.height, detail="rows")]


class Random(Sound):
    __doc__ = Sound.__doc__

    def examine(self, evidence: Evidence, limits: Any) -> list[Finding]:
        found = float(np.random.default_rng().random())
        return [Finding("chance", found, 2, "<=", ok=evidence.holdout.height > 5, n=1, detail="chance")]


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (NoHeadings(), "heading 'Purpose'"),
        (OneHeadingEmpty(), "heading 'Test mechanism' has 0 characters"),
        (SecondCode(), "also the code of beats_baseline_and_champion"),
        (ShapelessCode(), "code 'rows'"),
        (NeedsLimits(), "no default for minimum_rows"),
        (AnyLimits(), "expected a subclass of validators.check.Limits"),
        (AlwaysPasses(), "passes with nothing at all"),
        (FiveAreEnough(), "passes with a holdout of 5 rows"),
        (Infinite(), "expected finite numbers"),
        (Contradicts(), "1 >= 100 does not hold"),
        (Random(), "other findings the second time"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_check_that_does_not_conform_is_found(check: Any, problem: str, evidence: Evidence) -> None:
    assert any(problem in one for one in problems_of_check("enough_rows", check, evidence))


def test_the_sound_check_conforms_and_its_name_must_be_a_key(evidence: Evidence) -> None:
    assert problems_of_check("enough_rows", Sound(), evidence) == []
    assert "lower case" in problems_of_check("Enough-Rows", Sound(), evidence)[0]


class MeanShift:
    """The difference of the means, in standard deviations of both samples."""

    title: ClassVar[str] = "Shift of the mean"
    usual_limit: ClassVar[float] = 0.2
    symmetric: ClassVar[bool] = True

    def distance(self, reference: Values, window: Values, *, category: bool) -> float:
        return float(abs(reference.mean() - window.mean()) / max(np.r_[reference, window].std(), 1e-9))


class Blind(MeanShift):
    """A statistic that calls every shift ok."""

    def distance(self, reference: Values, window: Values, *, category: bool) -> float:
        return 0.0


class NotANumber(MeanShift):
    def distance(self, reference: Values, window: Values, *, category: bool) -> float:
        return float("nan")


class Signed(MeanShift):
    def distance(self, reference: Values, window: Values, *, category: bool) -> float:
        return float(window.mean() - reference.mean())


class FalselySymmetric(MeanShift):
    def distance(self, reference: Values, window: Values, *, category: bool) -> float:
        return float(abs(reference.mean() - window.mean()) / max(reference.std(), 1e-3) ** 2)


class NeedsTwo(MeanShift):
    def distance(self, reference: Values, window: Values, *, category: bool) -> float:
        return super().distance(reference, window, category=category) / (len(window) - 1)


class Sorts(MeanShift):
    def distance(self, reference: Values, window: Values, *, category: bool) -> float:
        reference.sort()
        return super().distance(reference, window, category=category)


class NoLimit(MeanShift):
    usual_limit = 0.0


@pytest.mark.parametrize(
    ("statistic", "problem"),
    [
        (MeanShift(), "numbers spread twice as far"),  # only the mean is not enough
        (Blind(), "numbers shifted by 1.5 standard deviations: distance 0.0; expected at least usual_limit 0.2"),
        (NotANumber(), "expected a finite distance"),
        (Signed(), "expected a finite distance of at least 0"),
        (FalselySymmetric(), "which it promises to be the same"),
        (NeedsTwo(), "one value each: ZeroDivisionError"),
        (Sorts(), "read-only"),
        (NoLimit(), "usual_limit is 0.0"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_statistic_that_does_not_conform_is_found(statistic: Any, problem: str) -> None:
    assert any(problem in one for one in problems_of_statistic(statistic)), problems_of_statistic(statistic)


def test_the_sample_release_is_the_same_every_time(evidence: Evidence, tmp_path: Path) -> None:
    assert sample_evidence(tmp_path).digest == evidence.digest
