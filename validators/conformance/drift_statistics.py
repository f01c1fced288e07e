"""The conformance suite of drift statistics, over synthetic samples whose drift is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lineage.errors import InvalidError, PlimsollError
from validators.drift.measure import distance
from validators.drift.port import DriftStatistic

_ROWS, _WINDOW = 3000, 1000
_SAME = 1e-6  # distance of a sample from itself
_FAULTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

Sample = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], bool]


def problems_of_statistic(statistic: DriftStatistic) -> list[str]:
    """What is wrong with a drift statistic, a sentence each; empty if it conforms."""
    found = list(_description_problems(statistic))
    return found or [
        *_still(statistic),
        *_moved(statistic),
        *_orders(statistic),
        *_small(statistic),
        *_refused(statistic),
    ]


def _description_problems(statistic: DriftStatistic) -> Iterator[str]:
    for member in ("title", "usual_limit", "symmetric", "distance"):
        if not hasattr(statistic, member):
            yield f"it has no {member!r}"
            return
    if not isinstance(statistic.title, str) or not statistic.title.strip() or "\n" in statistic.title:
        yield f"title {statistic.title!r} is not one line of text"
    limit: Any = statistic.usual_limit
    if not isinstance(limit, float) or not math.isfinite(limit) or limit <= 0:
        yield f"usual_limit is {limit!r}; expected a finite number above 0, as float"
    if not isinstance(statistic.symmetric, bool):
        yield f"symmetric is {statistic.symmetric!r}; expected True or False"


def _numbers(seed: int, rows: int, shift: float = 0.0, spread: float = 1.0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(shift, spread, rows)


def _codes(seed: int, rows: int, shares: tuple[float, ...]) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).choice(np.arange(len(shares), dtype=np.float64), rows, p=shares)


_REFERENCE = _numbers(1, _ROWS)
_CATEGORIES = _codes(1, _ROWS, (0.5, 0.3, 0.2))

_SAME_SAMPLES: dict[str, Sample] = {
    "the same numbers": (_REFERENCE, _REFERENCE, False),
    "the same categories": (_CATEGORIES, _CATEGORIES, True),
    "a constant that stays": (np.full(_ROWS, 0.5), np.full(_WINDOW, 0.5), False),
    "one category that stays": (np.full(_ROWS, 3.0), np.full(_WINDOW, 3.0), True),
}
_FRESH_SAMPLES: dict[str, Sample] = {
    "fresh numbers of the same distribution": (_REFERENCE, _numbers(2, _WINDOW), False),
    "fresh categories of the same shares": (_CATEGORIES, _codes(2, _WINDOW, (0.5, 0.3, 0.2)), True),
}
_MOVED_SAMPLES: dict[str, Sample] = {
    "numbers shifted by 1.5 standard deviations": (_REFERENCE, _numbers(2, _WINDOW, shift=1.5), False),
    "numbers spread twice as far": (_REFERENCE, _numbers(2, _WINDOW, spread=2.0), False),
    "categories with other shares": (_CATEGORIES, _codes(2, _WINDOW, (0.2, 0.3, 0.5)), True),
    "a category that is new": (_CATEGORIES, _codes(2, _WINDOW, (0.4, 0.2, 0.1, 0.3)), True),
    "a constant that changed": (np.full(_ROWS, 0.5), np.full(_WINDOW, 0.7), False),
    "one category that became another": (np.full(_ROWS, 3.0), np.full(_WINDOW, 4.0), True),
}


def _of(statistic: DriftStatistic, sample: Sample) -> float:
    reference, window, category = sample
    return distance(statistic, pl.Series("reference", reference), pl.Series("window", window), category=category)


def _asked(statistic: DriftStatistic, what: str, sample: Sample, wrong: Callable[[float], str | None]) -> Iterator[str]:
    """The problem of one sample, if there is one: the statistic failed, or its distance is `wrong`."""
    try:
        problem = wrong(_of(statistic, sample))
    except PlimsollError as error:
        problem = error.message
    except _FAULTS as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        yield f"{what}: {problem}"


def _still(statistic: DriftStatistic) -> Iterator[str]:
    for what, sample in _SAME_SAMPLES.items():
        yield from _asked(
            statistic, what, sample, lambda found: None if found <= _SAME else f"distance {found}; expected 0"
        )
    limit = statistic.usual_limit
    for what, sample in _FRESH_SAMPLES.items():
        yield from _asked(
            statistic,
            what,
            sample,
            lambda found: None if found < limit else f"distance {found}; expected less than usual_limit {limit}",
        )


def _moved(statistic: DriftStatistic) -> Iterator[str]:
    limit = statistic.usual_limit
    for what, sample in _MOVED_SAMPLES.items():
        yield from _asked(
            statistic,
            what,
            sample,
            lambda found: None if found >= limit else f"distance {found}; expected at least usual_limit {limit}",
        )


def _orders(statistic: DriftStatistic) -> Iterator[str]:
    """Farther is larger, the order of rows is nothing, a repetition gives the same, and symmetry where promised."""
    near = (_REFERENCE, _numbers(2, _WINDOW, shift=0.5), False)
    yield from _asked(
        statistic,
        "a shift of 2 against one of 0.5",
        (_REFERENCE, _numbers(2, _WINDOW, shift=2.0), False),
        lambda found: None if found > _of(statistic, near) else f"distance {found} is not the larger one",
    )
    reference, window, category = near
    kept = reference.copy(), window.copy()
    others: dict[str, Sample] = {
        "rows in another order": (reference[::-1].copy(), np.sort(window), category),
        "the same question again": near,
    }
    if statistic.symmetric:
        others["reference and window exchanged, which it promises to be the same"] = (window, reference, category)
    for what, other in others.items():
        yield from _asked(
            statistic,
            what,
            other,
            lambda found: (
                None
                if math.isclose(found, _of(statistic, near), rel_tol=1e-9)
                else f"distance {found}; expected {_of(statistic, near)}"
            ),
        )
    if not (np.array_equal(kept[0], reference) and np.array_equal(kept[1], window)):
        yield "it changed the values that it was given"


def _small(statistic: DriftStatistic) -> Iterator[str]:
    """One value on either side gives some distance; `distance` refuses what is not finite."""
    for what, sample in {
        "one value each": (np.array([1.5]), np.array([2.5]), False),
        "one code each": (np.array([1.0]), np.array([2.0]), True),
        "one value against many": (_REFERENCE, np.array([0.0]), False),
    }.items():
        yield from _asked(statistic, what, sample, lambda _: None)


def _refused(statistic: DriftStatistic) -> Iterator[str]:
    for what, wrong in {
        "NaN": np.array([1.0, np.nan]),
        "infinity": np.array([np.inf]),
        "no values": np.empty(0),
    }.items():
        for sample in ((_REFERENCE, wrong, False), (wrong, _REFERENCE, False)):
            try:
                found = _of(statistic, sample)
            except InvalidError:
                continue
            yield f"{what} gives the distance {found}; expected a refusal"
