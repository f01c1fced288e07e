"""The socket: heartbeats, news, and access."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from console import live_updates
from tests.support.console_home import Home, SignIn

Json = dict[str, Any]


def live_id(client: TestClient) -> str:
    [spec] = [one for one in client.get("/_dash-dependencies").json() if one.get("persistent")]
    return str(spec["output"])


def ask_live(output: str) -> Json:
    payload = {"output": output, "outputs": [], "inputs": [], "changedPropIds": [], "state": []}
    return {"type": "callback_request", "requestId": "1", "rendererId": "r", "payload": payload}


def heard(socket: Any) -> Iterator[tuple[str, Json]]:
    """What the socket sets: component id and data; several often come in one message."""
    for _ in range(40):
        message = socket.receive_json()
        for one in message if isinstance(message, list) else [message]:
            if one.get("type") == "set_props":
                yield one["payload"]["componentId"], one["payload"]["props"]["data"]


def first(told: Iterator[tuple[str, Json]], wanted: str) -> Json:
    return next(data for name, data in told if name == wanted)


def test_the_socket_brings_beats_and_news(sign_in: SignIn, home: Home) -> None:
    client = sign_in("auditor")
    output = live_id(client)
    with client.websocket_connect("/_dash-ws-callback", headers={"origin": "http://testserver"}) as socket:
        socket.send_json(ask_live(output))
        told = heard(socket)
        assert first(told, "beat")["silent"] == 0
        first(told, "news")
        record = home.ledger.append("ControllerStarted", data={"replicas": 2})
        news = first(told, "news")
        assert news["head"] >= record["seq"]
        assert ["ControllerStarted", ""] in news["moved"]


def test_a_socket_without_a_session_is_closed(console: TestClient) -> None:
    console.cookies.clear()
    opening = console.websocket_connect("/_dash-ws-callback", headers={"origin": "http://testserver"})
    with pytest.raises(WebSocketDisconnect) as closed, opening:
        raise AssertionError("it was opened")
    assert closed.value.code == 4001


def test_news_are_kinds_and_models_each_once(sign_in: SignIn) -> None:
    feed = live_updates.Feed(sign_in("auditor").app.state.client, "build")  # type: ignore[attr-defined]
    feed.head = 5
    feed.take_in({"records": [record(seq, "CanaryHeld", "m") for seq in (6, 7)] + [record(8, "LedgerOpened", None)]})
    assert feed.moved(5) == [["CanaryHeld", "m"], ["LedgerOpened", ""]]
    assert feed.moved(7) == [["LedgerOpened", ""]]
    assert live_updates.news(feed, 7) == {"head": 8, "moved": [["LedgerOpened", ""]]}


def test_a_tab_that_is_too_far_behind_hears_that_anything_moved(sign_in: SignIn) -> None:
    feed = live_updates.Feed(sign_in("auditor").app.state.client, "build")  # type: ignore[attr-defined]
    feed.take_in({"records": [record(seq, "CanaryHeld", "m") for seq in range(1, 3_000)]})
    assert feed.moved(10) is None
    assert feed.moved(2_900) == [["CanaryHeld", "m"]]
    assert live_updates.news(feed, 0)["moved"] is None, "it has seen nothing yet"


def record(seq: int, kind: str, model: str | None) -> Json:
    return {"seq": seq, "kind": kind, "model": model}
