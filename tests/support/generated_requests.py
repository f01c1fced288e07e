"""Requests generated from a schema, the same in every run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

Made = TypeVar("Made")


def for_each(strategy: st.SearchStrategy[Made], examples: int, check: Callable[[Made], None]) -> None:
    """Check `examples` of them; failures are not shrunk, because that would send further requests."""

    @settings(max_examples=examples, phases=[Phase.generate])
    @given(strategy)
    def each(made: Made) -> None:
        check(made)

    each()
