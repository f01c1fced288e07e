"""Limits on sign-ins: guessing is slow, counted at entry, and keeps no person out on a device that signed in before."""

from __future__ import annotations

import pytest

from lineage.accounts.limits import BY_ADDRESS, BY_NAME, SignInLimits
from lineage.errors import RefusedError
from tests.support.sample_facts import ManualClock


@pytest.fixture
def limits(clock: ManualClock) -> SignInLimits:
    return SignInLimits(clock)


def heard(limits: SignInLimits, name: str = "operator", source: str = "10.0.0.1", device: str | None = None) -> bool:
    try:
        limits.enter(name, source, device)
    except RefusedError as error:
        if (error.code, error.status) != ("throttled", 429):
            raise
        return False
    return True


def test_ten_attempts_from_one_address_in_five_minutes(limits: SignInLimits, clock: ManualClock) -> None:
    assert [heard(limits) for _ in range(BY_ADDRESS + 1)] == [True] * BY_ADDRESS + [False]
    assert heard(limits, "auditor"), "other names are not kept out"
    assert heard(limits, source="10.0.0.2"), "nor is the person elsewhere"
    clock.later(minutes=5)
    assert heard(limits)


def test_attempts_count_before_their_password_is_looked_at(limits: SignInLimits) -> None:
    under_way = [limits.enter("operator", "10.0.0.1", None) for _ in range(BY_ADDRESS)]
    assert not heard(limits), "those under way count"
    limits.succeeded(under_way[0])
    assert heard(limits), "a success starts the count anew"


def test_guesses_from_many_addresses_are_limited_by_name(limits: SignInLimits) -> None:
    found = [heard(limits, source=f"10.0.{number}.1") for number in range(BY_NAME + 5)]
    assert found == [True] * BY_NAME + [False] * 5


def test_guesses_elsewhere_do_not_lock_out_a_device_that_signed_in_before(limits: SignInLimits) -> None:
    for number in range(BY_NAME):
        heard(limits, source=f"10.0.{number}.1")
    assert not heard(limits, source="10.9.9.9")
    assert heard(limits, source="10.9.9.9", device="ab12")


def test_a_device_has_ten_attempts_of_its_own(limits: SignInLimits) -> None:
    assert [heard(limits, device="ab12") for _ in range(BY_ADDRESS + 1)] == [True] * BY_ADDRESS + [False]
    assert heard(limits), "the others are counted for themselves"


def test_a_report_counts_what_failed_and_what_was_not_heard(limits: SignInLimits, clock: ManualClock) -> None:
    assert limits.take_report() is None
    since = clock()
    for _ in range(BY_ADDRESS):
        heard(limits)
        limits.failed("10.0.0.1", "operator")
    heard(limits)
    limits.failed("10.0.0.2", None)
    clock.later(seconds=30)
    report = limits.take_report()
    assert report is not None
    assert (report["failed"], report["turned_away"]) == (11, 1)
    assert report["sources"] == {"10.0.0.1": 11, "10.0.0.2": 1}
    assert report["accounts"] == {"operator": 10}, "unknown names are counted, not kept: they may be passwords"
    assert str(report["since"]).startswith(since.isoformat()[:19])
    assert limits.take_report() is None


def test_a_flood_of_names_takes_bounded_memory(limits: SignInLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    from lineage.accounts import limits as module

    monkeypatch.setattr(module, "_BUCKETS_MOST", 50)
    for number in range(500):
        heard(limits, f"name-{number}")
        limits.failed(f"10.0.0.{number}", None)
    assert len(limits._attempts) <= 52
    report = limits.take_report()
    assert report is not None
    assert len(report["sources"]) == 20  # type: ignore[arg-type]
