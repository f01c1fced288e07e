"""The asynchronous client: the same methods, answers and errors as the synchronous one, concurrently."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import httpx
import pytest

from plimsoll import AsyncClient, Client, Refused, Unavailable


def client(*answers: httpx.Response | Exception) -> tuple[AsyncClient, list[httpx.Request]]:
    asked: list[httpx.Request] = []
    given = list(answers)

    async def door(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        answer = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return AsyncClient("token", transport=httpx.MockTransport(door)), asked


def test_every_method_has_its_twin_with_the_same_parameters() -> None:
    def methods(kind: type) -> dict[str, str]:
        found = inspect.getmembers(kind, lambda one: inspect.isfunction(one) or inspect.ismethod(one))
        return {name: str(inspect.signature(one)) for name, one in found if not name.startswith("_")}

    own, twin = methods(Client), methods(AsyncClient)
    assert {name: text.replace("Client", "AsyncClient") for name, text in own.items()} == twin
    plain = [name for name in twin if not inspect.iscoroutinefunction(getattr(AsyncClient, name))]
    assert plain == []


def test_many_are_asked_at_a_time() -> None:
    decision: dict[str, Any] = {"decision": "approve", "score": 0.1, "threshold": 0.3, "decision_id": "d"}
    decision |= {"release": "m@1", "digest": "sha256:0", "role": "champion", "fallback": None, "reasons": []}

    async def ask() -> list[Any]:
        one, asked = client(httpx.Response(200, json=decision))
        async with one:
            found = await asyncio.gather(*(one.decide("m", {"x": 1}, key=str(key)) for key in range(20)))
        assert len(asked) == 20
        assert asked[0].headers["Authorization"] == "Bearer token"
        return found

    assert {found.decision for found in asyncio.run(ask())} == {"approve"}


def test_errors_are_those_of_the_client() -> None:
    async def ask(*answers: httpx.Response | Exception) -> int:
        one, asked = client(*answers)
        async with one:
            await one.explain("m", {"x": 1}, key="k")
        return len(asked)

    with pytest.raises(Refused, match="no"):
        asyncio.run(ask(httpx.Response(403, json={"error": "no", "code": "role"})))
    with pytest.raises(Unavailable, match="cannot reach"):
        asyncio.run(ask(httpx.ConnectError("gone")))
    broken = httpx.RemoteProtocolError("the server closed the connection")
    assert asyncio.run(ask(broken, httpx.Response(200, json={}))) == 2, "asked once more"
