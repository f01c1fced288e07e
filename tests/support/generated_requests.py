"""Requests made up from a schema: the same ones in every run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

Made = TypeVar("Made")


def for_each(strategy: st.SearchStrategy[Made], examples: int, check: Callable[[Made], None]) -> None:
    """Check so many; what fails is told as it was made, since to make it smaller is to send it again."""

    @settings(max_examples=examples, phases=[Phase.generate])
    @given(strategy)
    def each(made: Made) -> None:
        check(made)

    each()
