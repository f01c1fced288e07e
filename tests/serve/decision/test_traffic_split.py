"""The split: sticky, reproducible, fair, and monotone in the share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve.decision.traffic_split import falls_on_challenger, position_of


def test_the_position_is_reproducible_by_anyone_with_the_salt() -> None:
    assert position_of("customer-17", "pepper-and-salt") == position_of("customer-17", "pepper-and-salt")
    assert position_of("customer-17", "pepper-and-salt") != position_of("customer-17", "another-salt")
    assert position_of("a", "b") == int("cb448b440c42ac8a", 16) / 2**64


def test_a_quarter_share_takes_a_quarter_of_the_customers() -> None:
    taken = sum(falls_on_challenger(position_of(f"customer-{n}", "pepper-and-salt"), 0.25) for n in range(20_000))
    assert abs(taken / 20_000 - 0.25) < 0.012


@given(key=st.text(max_size=40), salt=st.text(min_size=8, max_size=40), less=st.floats(0, 1), more=st.floats(0, 1))
def test_raising_the_share_never_moves_a_customer_back(key: str, salt: str, less: float, more: float) -> None:
    position = position_of(key, salt)
    assert falls_on_challenger(position, max(less, more)) or not falls_on_challenger(position, min(less, more))


@given(key=st.text(max_size=40))
def test_everybody_belongs_to_a_full_share_and_nobody_to_none(key: str) -> None:
    position = position_of(key, "pepper-and-salt")
    assert falls_on_challenger(position, 1.0)
    assert not falls_on_challenger(position, 0.0)
