"""Medians with confidence intervals, and alternating rounds."""

from __future__ import annotations

import pytest

from benchmarks.serving.rounds import middle, promise, ratios, text


def test_seven_rounds_promise_what_is_said_with_the_least_and_the_most() -> None:
    assert middle([3.0, 1.0, 7.0, 5.0, 2.0, 6.0, 4.0]) == (4.0, 1.0, 7.0)
    assert promise(7) == pytest.approx(1 - 2 / 128)


def test_more_rounds_give_a_narrower_interval_that_still_holds() -> None:
    values = [float(number) for number in range(1, 16)]
    assert middle(values) == (8.0, 4.0, 12.0)  # the table of the sign test: n = 15 leaves out three on either side
    assert promise(15) == pytest.approx(0.964844, abs=1e-6)
    assert promise(9) == pytest.approx(0.960938, abs=1e-6)


def test_few_rounds_say_how_little_they_promise() -> None:
    assert promise(3) == 0.75
    assert middle([2.0, 9.0, 1.0]) == (2.0, 1.0, 9.0)


def test_ratios_are_of_rounds_next_to_each_other() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    assert text([1.0, 2.0, 4.0], 1) == "2.0 (1.0 to 4.0)"
