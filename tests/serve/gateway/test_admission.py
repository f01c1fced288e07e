"""Admission: as many concurrent requests as the limit, a few more for services, and each slot is returned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.errors import RefusedError
from serve.gateway.admission import Admission


def test_when_it_is_full_customers_are_refused_and_services_are_not() -> None:
    places = Admission(2, reserved=1)
    places.enter(service=False)
    places.enter(service=False)
    with pytest.raises(RefusedError, match="2 requests are being answered") as refusal:
        places.enter(service=False)
    assert (refusal.value.status, refusal.value.code) == (503, "overloaded")
    places.enter(service=True)
    with pytest.raises(RefusedError):
        places.enter(service=True)
    places.leave()
    places.leave()
    places.enter(service=False)
    assert (places.inside, places.refused) == (2, 2)


@given(st.lists(st.sampled_from(["customer", "service", "leave"]), max_size=200))
def test_there_are_never_more_inside_than_there_are_places(history: list[str]) -> None:
    places, inside = Admission(3, reserved=2), 0
    for what in history:
        if what == "leave":
            if inside:
                places.leave()
                inside -= 1
            continue
        try:
            places.enter(service=what == "service")
            inside += 1
        except RefusedError:
            assert inside >= 3
        assert places.inside == inside <= 5
