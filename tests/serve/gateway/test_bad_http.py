"""Bad HTTP and bad bodies, one case a line, against the real servers: each gets a clear error and changes nothing.

The cases have the numbers of the project's list of bad input at the inference entrance. Every case is sent twice: to
uvicorn, as a replica runs it, and to HAProxy before it, as customers meet it. Where one of those answers before the
router is asked, the case says so and only its status counts: the words are not ours.

What is decided otherwise than on that list, and why:

- 15: compressed bodies are understood, because clients of the protocol send them; a bomb is refused at the limit.
- 32: a body that is no object is malformed (400), like one that is no JSON.
- 61: an offer of h2c is ignored and answered over HTTP/1.1 (RFC 9110, 7.8): Java's own client makes it by default.
  Who begins with HTTP/2 at once is spoken to in HTTP/2 by HAProxy.
- 65: a path in absolute form is understood, as RFC 9112, 3.2.2 demands; the host in it is not looked at.

Authentication (48 to 52), a feature's time (54), protected attributes (55), free text (56) and entities (57, 58) belong
to other parts.
"""

from __future__ import annotations

import asyncio
import json
import select
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lineage.settings import Settings
from serve.cluster.haproxy_config import limits_for
from tests.support.bad_http_cases import CASES, HAPROXY, INFER, ROUTER, TEXT, UVICORN, Case, chunks, tensors
from tests.support.gateway_servers import GOOD, ServedLoans, connect, good, raw_request, read_reply, send, served
from tests.support.real_haproxy import guarded, healthy, ray_writes


@dataclass(frozen=True)
class Fronts:
    """The served loans and the ports of the servers in front."""

    loans: ServedLoans
    ports: dict[str, int]


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronts]:
    folder = tmp_path_factory.mktemp("fronts")
    loans = ServedLoans(Settings(home=folder))
    with ExitStack() as stack:
        port = stack.enter_context(served(healthy(loans.app)))
        written = ray_writes(loans.settings, [port])
        yield Fronts(loans, {UVICORN: port, HAPROXY: stack.enter_context(guarded(written, folder, _LIMITS))})


_LIMITS = replace(limits_for(32), body=400)  # so that a body that never ends is given up soon
Front = tuple[str, int, ServedLoans]


@pytest.fixture(params=[UVICORN, HAPROXY])
def front(request: pytest.FixtureRequest, fronts: Fronts) -> Iterator[Front]:
    """One of the servers; afterwards a request with which nothing is wrong must be answered, and decided once."""
    name: str = request.param
    fronts.loans.lines.clear()
    yield name, fronts.ports[name], fronts.loans
    fronts.loans.lines.clear()
    assert good(fronts.ports[name]).status == 200
    assert len(fronts.loans.lines) == 1


@pytest.mark.parametrize("case", CASES, ids=[f"6A-{case.number:02d} {case.name}" for case in CASES])
def test_bad_input_is_refused_clearly_and_changes_nothing(case: Case, front: Front) -> None:
    name, port, loans = front
    status, by = case.expected[name]
    reply = send(port, case.content, case.method)
    assert reply.status == status, reply.body[:300]
    assert loans.lines == []
    if by == ROUTER:
        error = reply.content
        assert error["code"]
        assert error.get("field") == case.field, error
        assert [word for word in case.words if word not in error["error"]] == [], error
        assert len(reply.body) < 2_000


def test_6a_07_the_rest_of_a_body_that_is_too_large_is_not_waited_for(front: Front) -> None:
    """It never ends: only a server that answers before reading on can answer at all."""
    _, port, loans = front
    with connect(port) as connection:
        connection.sendall(raw_request(Transfer_Encoding="chunked", Content_Length=None))
        try:
            while not select.select([connection], [], [], 0)[0]:
                connection.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        except ConnectionError:
            pass  # answered and closed
        assert read_reply(connection).status == 413
    assert loans.lines == []


def test_6a_08_what_follows_a_body_is_no_request_of_its_own(front: Front) -> None:
    _, port, loans = front
    with connect(port) as connection:
        connection.sendall(raw_request(TEXT, Content_Length="5"))
        assert read_reply(connection).status == 400
        assert read_reply(connection).status in (0, 400)
    assert loans.lines == []


def test_6a_10_a_length_beside_chunks_cannot_smuggle_a_second_request(front: Front) -> None:
    """HAProxy drops the length, as RFC 9112, 6.3 wants, and closes; uvicorn refuses."""
    name, port, loans = front
    smuggled = raw_request(TEXT)
    with connect(port) as connection:
        connection.sendall(raw_request(**chunks(TEXT) | {"Content_Length": "6"}) + smuggled)
        first, second = read_reply(connection), read_reply(connection)
    assert (first.status, second.status) == ((400, 0) if name == UVICORN else (200, 0))
    assert len(loans.lines) == (0 if name == UVICORN else 1)


def test_6a_11_an_endless_chunk_extension_decides_nothing_twice(front: Front) -> None:
    name, port, loans = front
    chunk = b"%x;%s\r\n%s\r\n0\r\n\r\n" % (len(TEXT), b"x" * 70_000, TEXT)
    reply = send(port, raw_request(chunk, Transfer_Encoding="chunked", Content_Length=None))
    assert reply.status == (200 if name == UVICORN else 408)  # uvicorn skips it, HAProxy has no room for it
    assert len(loans.lines) == (1 if name == UVICORN else 0)


def test_6a_12_a_byte_at_a_time_is_given_up(front: Front) -> None:
    _, port, loans = front
    with connect(port) as connection:
        connection.sendall(raw_request(Content_Length="100000"))
        try:
            while not select.select([connection], [], [], 0.05)[0]:
                connection.sendall(b" ")
        except ConnectionError:
            pass
        reply = read_reply(connection)
    assert (reply.status, reply.content["field"]) == (408, "body")
    assert loans.lines == []


def test_6a_13_who_does_not_finish_the_headers_keeps_nobody_waiting(front: Front) -> None:
    _, port, loans = front
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(port)).sendall(b"POST /decide/loan HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow:")
        assert good(port).status == 200
    assert len(loans.lines) == 1


def test_6a_34_minus_zero_and_the_smallest_number_are_recorded_to_the_bit(front: Front) -> None:
    _, port, loans = front
    for literal in ("-0.0", "5e-324", "2.2250738585072014e-308", "0.1"):
        body = f'{{"features":{{"income":{literal},"late":1,"grade":"A"}},"key":"c"}}'.encode()
        assert send(port, raw_request(body)).status == 200
        assert loans.lines[-1]["features"][0].hex() == float(literal).hex()


def test_6a_42_rows_before_a_bad_row_are_not_decided(front: Front) -> None:
    _, port, loans = front
    rows = tensors(40, grade=[*["A"] * 39, "D"])
    reply = send(port, raw_request(json.dumps(rows).encode(), INFER))
    assert (reply.status, reply.content["field"], reply.content["row"]) == (422, "grade", 39)
    assert loans.lines == []


def test_6a_46_forged_headers_change_nothing(front: Front) -> None:
    _, port, loans = front
    forged = {
        "X_Canary": "always",
        "X_Model_Digest": "sha256:00",
        "X_Model_Release": "loan@3",
        "X_Model_Role": "challenger",
        "X_Forwarded_For": "10.0.0.1",
        "X_Forwarded_Host": "elsewhere.example",
        "X_HTTP_Method_Override": "DELETE",
    }
    reply = send(port, raw_request(TEXT, **forged))
    assert reply.status == 200
    assert (reply.headers["x-model-release"], reply.headers["x-model-role"]) == ("loan@2", "champion")
    assert loans.lines[0]["release"] == "loan@2"


def test_6a_53_an_idempotency_key_stands_for_one_body(front: Front) -> None:
    name, port, loans = front
    key = f"retry-{name}"
    first = send(port, raw_request(TEXT, Idempotency_Key=key))
    again = send(port, raw_request(TEXT, Idempotency_Key=key))
    assert first.content["decision_id"] == again.content["decision_id"]
    assert again.headers["idempotent-replayed"] == "true"
    other = send(port, raw_request(json.dumps(GOOD | {"key": "other"}).encode(), Idempotency_Key=key))
    assert (other.status, other.content["field"]) == (409, "Idempotency-Key")
    assert len(loans.lines) == 1


def test_6a_60_no_other_site_is_let_in(front: Front) -> None:
    _, port, _ = front
    for method, body in (("OPTIONS", b""), ("POST", TEXT)):
        reply = send(port, raw_request(body, method=method, Origin="https://elsewhere.example"), method)
        assert not [header for header in reply.headers if header.startswith("access-control")]


def test_6a_61_an_offer_of_h2c_is_no_reason_to_refuse(fronts: Fronts) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    assert send(fronts.ports[HAPROXY], raw_request(TEXT, **offer)).status == 200


def test_6a_61_a_handshake_of_websocket_is_refused_before_a_replica_hears_of_it(fronts: Fronts) -> None:
    wanted = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    request = raw_request(method="GET", Content_Length=None, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==", **wanted)
    reply = send(fronts.ports[HAPROXY], request, "GET")
    assert (reply.status, reply.content["code"]) == (400, "malformed")


@pytest.mark.parametrize(("name", "count"), [(UVICORN, 1_000), (HAPROXY, 20)])  # HAProxy takes its time with each
def test_6a_62_pipelined_requests_are_answered_in_turn(fronts: Fronts, name: str, count: int) -> None:
    one = raw_request(path="/v2/health/live", method="GET", Content_Length=None)
    with connect(fronts.ports[name]) as connection:
        connection.sendall(one * count)
        answers = b""
        while answers.count(b"HTTP/1.1 200") < count:
            part = connection.recv(65_536)
            assert part, f"closed after {answers.count(b'HTTP/1.1 200')} answers"
            answers += part
    assert good(fronts.ports[name]).status == 200


def test_6a_63_who_leaves_before_the_end_of_the_body_is_not_decided_about(front: Front) -> None:
    _, port, loans = front
    with connect(port) as connection:
        connection.sendall(raw_request(TEXT, Content_Length="900"))
    assert good(port).status == 200
    assert [line["key"] for line in loans.lines] == [GOOD["key"]]


def test_6a_63_who_leaves_before_the_reply_is_decided_about_on_record(front: Front) -> None:
    name, port, loans = front
    loans.recorded.clear()
    with connect(port) as connection:
        connection.sendall(raw_request(json.dumps(GOOD | {"key": "left"}).encode()))
        if name == HAPROXY:
            read_reply(connection)  # it drops a request whose sender has gone before it was passed on
    assert loans.recorded.wait(5.0)
    assert [line["key"] for line in loans.lines] == ["left"]


def test_6a_65_the_absolute_form_is_the_same_path(front: Front) -> None:
    _, port, _ = front
    assert send(port, raw_request(TEXT, "http://127.0.0.1/decide/loan")).status == 200


def test_6a_66_names_that_nobody_serves_are_not_kept(fronts: Fronts) -> None:
    loans = fronts.loans

    async def ask(number: int) -> int:
        headers = {"host": "127.0.0.1", "authorization": "Bearer token-of-client", "idempotency-key": str(number)}
        scope = {
            "type": "http",
            "method": "POST",
            "path": f"/decide/model-{number}",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": TEXT}

        async def note(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        await loans.app(scope, receive, note)
        return statuses[0]

    async def ask_all() -> set[int]:
        return {await ask(number) for number in range(10_000)}

    kept = len(loans.router.repeats)
    assert asyncio.run(ask_all()) == {404}
    assert len(loans.router.repeats) == kept
