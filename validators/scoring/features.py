"""Parses features as a caller sends them: named values in, one row of numbers out, or an error that names the field.

A category is encoded as its position in `categories`; training encodes with the same code
(`validators.feature_matrix`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from numbers import Real
from typing import Any, Literal

import numpy as np

from lineage.errors import InvalidError
from validators.scoring.port import Rows

_FLOAT32_MOST = 3.4028234663852886e38  # beyond this a tree family would see infinity
_SHOWN = 60  # characters of a wrong value that an error repeats

FeatureType = Literal["number", "integer", "category"]
Category = str | int


@dataclass(frozen=True)
class Feature:
    """One input of a model: its name, what it may be, and how it becomes a number."""

    name: str
    type: FeatureType
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[Category, ...] | None = None
    positions: dict[object, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions: dict[object, int] = {category: position for position, category in enumerate(self.categories or ())}
        object.__setattr__(self, "positions", positions)

    def parse(self, value: Any) -> float:
        """The value as the number the model takes.

        Raises:
            InvalidError: the value is missing, of another type, not finite, out of range or an unknown category.
        """
        if self.type == "category":
            return self._parse_category(value)
        # Nearly every value is one of the two; an isinstance test with an abstract class costs half of all parsing.
        if type(value) not in (float, int) and (isinstance(value, bool) or not isinstance(value, Real)):
            raise self._wrong(value)
        try:
            number = float(value)
        except OverflowError as error:
            raise self._wrong(value) from error
        low = -_FLOAT32_MOST if self.minimum is None else self.minimum
        high = _FLOAT32_MOST if self.maximum is None else self.maximum
        if not low <= number <= high or (self.type == "integer" and not number.is_integer()):  # NaN fails the first
            raise self._wrong(value)
        return number

    def _parse_category(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, str | Real):
            raise self._wrong(value)
        position = self.positions.get(value)
        if position is None:
            raise self._wrong(value)
        return float(position)

    @property
    def expected(self) -> str:
        """Description of a valid value, for errors."""
        if self.type == "category":
            return "one of " + ", ".join(str(category) for category in self.categories or ())
        kind = "a whole number" if self.type == "integer" else "a finite number"
        if self.minimum is not None and self.maximum is not None:
            return f"{kind} from {self.minimum:g} to {self.maximum:g}"
        if self.minimum is not None:
            return f"{kind} of at least {self.minimum:g}"
        return kind if self.maximum is None else f"{kind} of at most {self.maximum:g}"

    def _wrong(self, value: Any) -> InvalidError:
        shown = "nothing" if value is None else repr(value) if _is_short(value) else f"a {type(value).__name__}"
        return InvalidError(
            f"feature {self.name!r} is {shown}; expected {self.expected}", field=self.name, expected=self.expected
        )


def parse_row(features: Iterable[Feature], values: Mapping[str, Any]) -> Rows:
    """Named values as one row, float64[1, f], in the order of `features`.

    Raises:
        InvalidError: a feature is missing, not known, or its value is not what is expected.
    """
    features = tuple(features)
    names = {feature.name for feature in features}
    for name in values:
        if name not in names:
            raise _unknown(name, names)
    numbers = []
    for feature in features:
        if feature.name not in values:
            raise InvalidError(
                f"feature {feature.name!r} is missing; expected {feature.expected}",
                field=feature.name,
                expected=feature.expected,
            )
        numbers.append(feature.parse(values[feature.name]))
    return np.array([numbers], dtype=np.float64)


def _unknown(name: object, names: set[str]) -> InvalidError:
    shown = repr(name) if _is_short(name) else "a long name"
    near = get_close_matches(str(name)[:_SHOWN], sorted(names), 1)
    hint = f"did you mean {near[0]!r}?" if near else f"the model takes {', '.join(sorted(names))}"
    return InvalidError(f"feature {shown} is not known to this model; {hint}", field=str(name)[:_SHOWN])


def _is_short(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _SHOWN
    if isinstance(value, int):
        return value.bit_length() <= 64
    return isinstance(value, float | Real)
