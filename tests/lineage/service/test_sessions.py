"""Sign-ins over HTTP: counted at entry, on record as one fact, and never in the way of a kill."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from lineage.accounts.limits import BY_ADDRESS
from lineage.service import sign_ins
from lineage.settings import Settings
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import ManualClock


@pytest.fixture
def service(settings: Settings, clock: ManualClock) -> Iterator[LedgerService]:
    with open_service(settings, clock) as service:
        yield service


def attempt(service: LedgerService, name: str = "operator", **given: Any) -> int:
    answer = service.http.post("/v1/session", json={"name": name, "password": "wrong"} | given)
    return int(answer.status_code)


def test_which_of_name_and_password_is_wrong_is_not_said(service: LedgerService) -> None:
    found = [
        service.http.post("/v1/session", json={"name": name, "password": "wrong"}).json()
        for name in ("operator", "no-one", "client", "controller")
    ]
    assert found == [{"error": "name or password is wrong", "code": "sign_in"}] * 4


def test_failures_are_one_fact_with_address_and_account(service: LedgerService) -> None:
    service.news()
    assert [attempt(service) for _ in range(BY_ADDRESS + 2)] == [401] * BY_ADDRESS + [429] * 2
    assert attempt(service, "my-password-typed-as-a-name") == 401
    assert service.news() == [], "not a fact each"
    service.context.sign_ins.report()
    service.context.sign_ins.report()
    (fact,) = service.news()
    data = fact["data"]
    assert (fact["kind"], data["failed"], data["turned_away"]) == ("SignInsFailed", BY_ADDRESS + 1, 2)
    assert data["sources"] == {"testclient": BY_ADDRESS + 3}
    assert data["accounts"] == {"operator": BY_ADDRESS}, "a name without an account may be a password"


def test_failures_are_on_record_when_the_service_ends(service: LedgerService) -> None:
    attempt(service)
    service.reopen()
    assert next(record["kind"] for record in service.news()) == "SignInsFailed"


def test_guesses_do_not_lock_out_a_device_that_signed_in_before(service: LedgerService) -> None:
    password = service.passwords["operator"]
    first = service.http.post("/v1/session", json={"name": "operator", "password": password}).json()
    while attempt(service) == 401:
        pass
    assert attempt(service, password=password) == 429
    assert attempt(service, password=password, device=first["device"]) == 200
    assert attempt(service, password=password, device="made up") == 429


def test_parallel_guesses_are_counted_before_they_are_heard(service: LedgerService) -> None:
    found: Counter[int] = Counter()
    start = threading.Barrier(30)

    def guess() -> None:
        start.wait()
        found[attempt(service)] += 1

    threads = [threading.Thread(target=guess) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {401: BY_ADDRESS, 429: 20}


def test_a_kill_does_not_wait_for_sign_ins(service: LedgerService) -> None:
    held, release = threading.Semaphore(0), threading.Event()

    def slow(password: str, known: str | None) -> bool:
        held.release()
        return release.wait(60) and False

    with mock.patch.object(sign_ins, "matches", slow):
        flood = [
            threading.Thread(target=attempt, args=(service, f"name-{number}"), daemon=True) for number in range(60)
        ]
        for thread in flood:
            thread.start()
        held.acquire()
        killed = service.http.post("/v1/kill", json={"reason": "stop"}, headers=service.headers("operator"))
        release.set()
        for thread in flood:
            thread.join()
    assert killed.status_code == 201
    assert service.context.ledger.state.kill is not None


def test_more_than_can_wait_are_turned_away(service: LedgerService) -> None:
    release, inside = threading.Event(), threading.Semaphore(0)
    found: Counter[int] = Counter()

    def slow(password: str, known: str | None) -> bool:
        inside.release()
        return release.wait(60) and False

    def guess(number: int) -> None:
        found[attempt(service, f"name-{number}")] += 1
        if found[429] >= 60 - sign_ins._WAITING_MOST:
            release.set()

    with mock.patch.object(sign_ins, "matches", slow):
        flood = [threading.Thread(target=guess, args=(number,), daemon=True) for number in range(60)]
        for thread in flood:
            thread.start()
        for thread in flood:
            thread.join()
    assert found == {401: sign_ins._WAITING_MOST, 429: 60 - sign_ins._WAITING_MOST}


def test_a_session_of_a_machine_is_not_opened(service: LedgerService) -> None:
    assert attempt(service, "controller", password=service.settings.token("controller")) == 401
