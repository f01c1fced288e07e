"""What did not change is not sent again, and what is kept belongs to one person."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from console.answer_cache import Answer, AnswerCache
from console.ledger_client import LedgerClient
from console.person_ledger import PersonLedger
from console.session import Person
from plimsoll.errors import Refused
from tests.support.console_home import Home
from tests.support.sample_facts import sample


class Recording(httpx.AsyncHTTPTransport):
    """The real transport; the statuses of its answers in order."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[int] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        self.statuses.append(answer.status_code)
        return answer


def person(home: Home, name: str) -> Person:
    sent = {"name": name, "password": home.passwords[name]}
    answer = httpx.post(f"{home.settings.ledger_url}/v1/session", json=sent).json()
    return Person(name, answer["role"], answer["token"], answer["expires_at"], "", tuple(answer["roles"]))


def test_an_answer_that_is_still_the_same_is_not_sent_again(home: Home) -> None:
    transport, reader, second = Recording(), person(home, "validator"), person(home, "auditor")

    async def ask() -> None:
        client = LedgerClient(home.settings.ledger_url, transport=transport)
        first = await PersonLedger(client, reader).inbox()
        again = PersonLedger(client, reader)
        assert await again.inbox() == first
        assert again.version == home.head()
        assert transport.statuses == [200, 304]
        assert (await PersonLedger(client, second).inbox()).items == [], "the inbox of another person is another"
        assert transport.statuses == [200, 304, 200]
        home.ledger.append("RouteApplied", model="credit-default", data=sample("RouteApplied"))
        later = PersonLedger(client, reader)
        assert await later.inbox() == first
        assert later.version == home.head(), "nothing to send, and as new as the newest record"
        assert transport.statuses[-1] == 304
        await client.close()

    asyncio.run(ask())


def test_a_kept_answer_is_worth_nothing_after_the_session(home: Home) -> None:
    leaving = person(home, "auditor")

    async def ask() -> None:
        client = LedgerClient(home.settings.ledger_url)
        await PersonLedger(client, leaving).models()
        await client.send(leaving.token, "DELETE", "/v1/session")
        with pytest.raises(Refused) as refused:
            await PersonLedger(client, leaving).models()
        assert refused.value.status == 401
        await client.close()

    asyncio.run(ask())


def test_the_version_is_that_of_the_oldest_answer(home: Home) -> None:
    async def ask() -> None:
        client = LedgerClient(home.settings.ledger_url)
        at = PersonLedger(client, person(home, "auditor"))
        await at.models()
        before = home.head()
        home.ledger.append("ControllerStarted", data={"replicas": 2})
        await at.records(1)
        assert at.versions == [before, before + 1]
        assert at.version == before
        await client.close()

    asyncio.run(ask())


def test_what_was_used_longest_ago_makes_room() -> None:
    cache = AnswerCache(most_bytes=10)
    for name in ("a", "b"):
        cache.put(name, Answer(name, b"1234"))
    assert cache.get("a") is not None
    cache.put("c", Answer("c", b"1234"))
    assert [name for name in "abc" if cache.get(name)] == ["a", "c"]
    cache.put("a", Answer("new", b"12"))
    assert [name for name in "abc" if cache.get(name)] == ["a", "c"]
    cache.put("d", Answer("d", b"12345678901"))
    assert cache.get("d") is None, "larger than everything together may be"
