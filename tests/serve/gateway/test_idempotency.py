"""Requests sent again under an Idempotency-Key: answered once, remembered for a while and within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.responses import Response

from lineage.errors import InvalidError, RefusedError
from serve.gateway.idempotency import IdempotencyCache, Name
from serve.gateway.messages import compress_reply

NAME: Name = ("client", "/decide/loan", "k1")
TWICE: Name = ("client", "/decide/loan", "k2")


class Work:
    """Work that counts how often it was done."""

    def __init__(self, body: bytes = b"{}") -> None:
        self.done, self.body = 0, body

    async def __call__(self) -> Response:
        self.done += 1
        await asyncio.sleep(0)
        return Response(self.body, headers={"X-Done": str(self.done)})


class ManualClock:
    """A clock whose time we move."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _ask(
    repeats: IdempotencyCache, work: Callable[[], Awaitable[Response]], name: Name = NAME, body: bytes = b"a"
) -> Response:
    return asyncio.run(repeats.once(name, body, work))


def test_the_first_answer_is_given_again_and_says_so() -> None:
    repeats, work = IdempotencyCache(), Work()
    first, again = _ask(repeats, work), _ask(repeats, work)
    assert work.done == 1
    assert (first.headers["x-done"], again.headers["x-done"]) == ("1", "1")
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"


def test_other_callers_paths_and_keys_are_other_requests() -> None:
    repeats, work = IdempotencyCache(), Work()
    for name in (NAME, TWICE, ("other", *NAME[1:]), (NAME[0], "/outcome/loan", NAME[2])):
        _ask(repeats, work, name)
    assert work.done == 4


def test_another_body_under_the_same_key_is_refused() -> None:
    repeats, work = IdempotencyCache(), Work()
    _ask(repeats, work)
    with pytest.raises(RefusedError, match="'k1' came with another body") as told:
        _ask(repeats, work, body=b"b")
    assert (told.value.status, told.value.field, work.done) == (409, "Idempotency-Key", 1)


def test_what_was_refused_may_be_corrected_under_the_same_key() -> None:
    async def refuse() -> Response:
        raise InvalidError("wrong")

    repeats, work = IdempotencyCache(), Work()
    with pytest.raises(InvalidError):
        _ask(repeats, refuse)
    assert len(repeats) == 0
    assert _ask(repeats, work, body=b"corrected").headers["x-done"] == "1"


def test_two_at_a_time_are_decided_once() -> None:
    repeats, work = IdempotencyCache(), Work()

    async def both() -> list[Response]:
        return await asyncio.gather(*(repeats.once(NAME, b"a", work) for _ in range(5)))

    answers = asyncio.run(both())
    assert work.done == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 4


def test_who_waited_for_one_that_failed_has_a_try_of_their_own() -> None:
    repeats, work = IdempotencyCache(), Work()
    failing = [True]

    async def fail_once() -> Response:
        await asyncio.sleep(0)
        if failing.pop() if failing else False:
            raise InvalidError("wrong")
        return await work()

    async def both() -> list[Response | BaseException]:
        asked = (repeats.once(NAME, b"a", fail_once) for _ in range(2))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second = asyncio.run(both())
    assert isinstance(first, InvalidError)
    assert isinstance(second, Response)
    assert _ask(repeats, work).headers["idempotent-replayed"] == "true"
    assert work.done == 1


def test_answers_are_forgotten_with_time() -> None:
    clock, work = ManualClock(), Work()
    repeats = IdempotencyCache(clock, seconds=60.0)
    _ask(repeats, work)
    clock.now += 60.0
    _ask(repeats, work)
    assert work.done == 1
    clock.now += 1.0
    _ask(repeats, work)
    assert (work.done, len(repeats)) == (2, 1)


def test_the_oldest_go_when_memory_is_used_up() -> None:
    repeats, work = IdempotencyCache(bytes_most=20_000), Work(b"x" * 4_000)
    for number in range(50):
        _ask(repeats, work, ("client", "/decide/loan", str(number)))
    assert len(repeats) <= 5
    _ask(repeats, work, ("client", "/decide/loan", "49"))
    assert work.done == 50


def test_an_answer_is_packed_for_each_caller_anew() -> None:
    repeats, work = IdempotencyCache(), Work(b"x" * 8_000)
    first = _ask(repeats, work)
    compress_reply(first, b"gzip")
    again = _ask(repeats, work)
    assert bytes(again.body) == b"x" * 8_000
    assert "content-encoding" not in again.headers
