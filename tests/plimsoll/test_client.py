"""The Python client: light imports, and errors that say which side is at fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import plimsoll
from plimsoll import Client, Error, Invalid, Refused, Unavailable, Unknown
from plimsoll.ledger import Ledger
from plimsoll.wire import Wire, part, pause_before_again

HEAVY = (
    "ray",
    "duckdb",
    "mlflow",
    "pandas",
    "numpy",
    "pydantic",
    "orjson",
    "fastapi",
    "lineage",
    "validators",
    "console",
)
Handler = Callable[[httpx.Request], httpx.Response]
DECISION = {
    "decision": "approve",
    "score": 0.12,
    "threshold": 0.31,
    "decision_id": "d-1",
    "release": "credit-default@2",
    "digest": "sha256:00",
    "role": "champion",
    "fallback": None,
    "reasons": [],
}


class Door:
    """Answers everything the same way and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers, self.asked = list(answers), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def paths(self) -> list[str]:
        return [request.url.raw_path.decode() for request in self.asked]


def client(handler: Handler) -> Client:
    return Client("token", transport=httpx.MockTransport(handler))


def answer(body: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


def test_what_is_exported() -> None:
    names = "Admin AsyncAdmin AsyncClient Client Decision Error Invalid Refused Unavailable Unknown"
    assert plimsoll.__all__ == names.split()
    assert all(hasattr(plimsoll, name) for name in plimsoll.__all__)


@pytest.mark.parametrize("module", ["plimsoll", "plimsoll.ledger"])
def test_importing_it_loads_httpx_and_the_standard_library_only(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Refused),
        (403, Refused),
        (404, Unknown),
        (405, Invalid),
        (409, Refused),
        (412, Refused),
        (413, Invalid),
        (422, Invalid),
        (428, Refused),
        (429, Refused),
        (301, Unavailable),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
    ],
)
def test_each_status_is_an_error_of_its_kind(status: int, kind: type[Error]) -> None:
    body = {"error": "what happened", "code": "stale", "field": "etag", "etag": 12}
    with client(Door(answer(body, status))) as asked, pytest.raises(Error) as caught:
        asked.models()
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.field, error.detail) == (status, "stale", "etag", {"etag": 12})
    assert str(error) == error.message == "what happened"


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[]", b'"no"', b"\xff"])
def test_an_error_in_no_form_of_ours_is_one_all_the_same(body: bytes) -> None:
    with client(Door(httpx.Response(502, content=body))) as asked, pytest.raises(Unavailable) as caught:
        asked.models()
    assert caught.value.status == 502
    assert caught.value.message


@pytest.mark.parametrize(
    "failure",
    [httpx.ConnectError("refused"), httpx.ReadError("cut"), httpx.ReadTimeout("slow"), httpx.DecodingError("x")],
)
def test_a_connection_that_fails_is_unavailable(failure: Exception) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise failure

    with client(handler) as asked, pytest.raises(Unavailable) as caught:
        asked.models()
    assert caught.value.code == ("timeout" if isinstance(failure, httpx.TimeoutException) else "unreachable")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{"])
def test_a_success_that_is_not_json_is_unavailable(body: bytes) -> None:
    with client(Door(httpx.Response(200, content=body))) as asked:
        with pytest.raises(Unavailable):
            asked.models()
        with pytest.raises(Unavailable):
            asked.decide("credit-default", {}, key="k")
        with pytest.raises(Unavailable):
            asked.verify()


@pytest.mark.parametrize("wrong", [{}, [], {"decision": "approve"}, None])
def test_what_is_not_a_decision_is_not_taken_for_one(wrong: Any) -> None:
    with client(Door(answer(wrong))) as asked, pytest.raises(Unavailable):
        asked.decide("credit-default", {}, key="k")


def test_a_decision_is_read_and_more_than_known_is_ignored() -> None:
    door = Door(httpx.Response(200, json=DECISION | {"newer": 1}, headers={"X-Replica": "r1"}))
    with client(door) as asked:
        decision = asked.decide("credit-default", {"LIMIT_BAL": 1}, key="customer-17")
    assert (decision.decision, decision.release, decision.replica) == ("approve", "credit-default@2", "r1")
    sent = json.loads(door.asked[0].content)
    assert sent == {"features": {"LIMIT_BAL": 1}, "key": "customer-17", "purpose": "customer"}
    assert door.asked[0].headers["Authorization"] == "Bearer token"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_json_cannot_say_is_not_sent(value: object) -> None:
    door = Door(answer(DECISION))
    with client(door) as asked, pytest.raises(Invalid):
        asked.decide("credit-default", {"LIMIT_BAL": value}, key="k")
    assert door.asked == []


@pytest.mark.parametrize("name", ["m@1/canary?x=", "../state", "..", "a b", "a#b", "\n", "ü", "", "\ud800", "%2F"])
def test_a_name_never_leads_to_another_address(name: str) -> None:
    door = Door(answer({"seq": 1}))
    with client(door) as asked:
        asked.abort(name, "because")
        asked.rollback(name, "because")
    first, second = door.paths
    assert first.startswith("/v1/releases/")
    assert first.endswith("/abort")
    assert second.endswith("/rollback")
    assert first.count("/") == second.count("/") == 4
    assert part("credit-default@2") == "credit-default@2"


def test_each_act_carries_a_key_of_its_own_and_the_reason() -> None:
    door = Door(answer({"seq": 1}))
    with client(door) as asked:
        asked.canary("m@1", "evidence is sound")
        asked.abort("m@1", "errors")
        asked.rollback("m", "errors", to="baseline")
        asked.retrain("m", "examples/m", "drift", options={"trials": 2})
    keys = [request.headers["Idempotency-Key"] for request in door.asked]
    assert len(set(keys)) == 4
    assert all("If-Match" not in request.headers for request in door.asked)
    assert [json.loads(request.content)["reason"] for request in door.asked] == [
        "evidence is sound",
        *["errors"] * 2,
        "drift",
    ]


@pytest.mark.parametrize("verb", ["review", "promote"])
def test_deciding_sends_the_etag_of_what_was_seen(verb: str) -> None:
    door = Door(answer({"etag": 41}), answer({"seq": 42}))
    with client(door) as asked:
        if verb == "review":
            asked.review("m@1", "approve", "sound")
        else:
            asked.promote("m@1", "approved")
    assert [request.method for request in door.asked] == ["GET", "POST"]
    assert door.asked[1].headers["If-Match"] == '"41"'


@pytest.mark.parametrize(("model", "path"), [("m", "/v1/models/m/kill"), (None, "/v1/kill")])
def test_stopping_looks_at_nothing_first_and_letting_go_does(model: str | None, path: str) -> None:
    door = Door(answer({"etag": 41}))
    with client(door) as asked:
        asked.kill(model, "scores look wrong")
        asked.kill(model, "still", answer="nothing")
        asked.ask_kill_release(model, "mended")
        asked.release_kill(model, "mended, seen by a second person")
    sent = [request for request in door.asked if request.method == "POST"]
    assert [request.method for request in door.asked] == ["POST", "POST", "GET", "POST", "GET", "POST"]
    assert [request.url.path for request in sent] == [path, path, f"{path}/ask-release", f"{path}/release"]
    assert [request.headers.get("If-Match") for request in sent] == [None, None, '"41"', '"41"']
    assert [json.loads(request.content).get("answer") for request in sent] == ["baseline", "nothing", None, None]
    assert len({request.headers["Idempotency-Key"] for request in sent}) == 4


@pytest.mark.parametrize("name", ["", ".", "..", "../kill", "a/b"])
def test_no_name_of_a_model_stops_all(name: str) -> None:
    door = Door(answer({"seq": 1}))
    with client(door) as asked:
        asked.kill(name, "because")
    assert door.paths[0].startswith("/v1/models/")
    assert door.paths[0].count("/") == 4


def test_the_shadow_is_started_and_stopped() -> None:
    door = Door(answer({"seq": 1}))
    with client(door) as asked:
        asked.start_shadow("m@1", "look first")
        asked.stop_shadow("m@1", "seen")
    assert door.paths == ["/v1/releases/m@1/shadow/start", "/v1/releases/m@1/shadow/stop"]


def test_signing_in_gives_a_client_with_the_token() -> None:
    door = Door(answer({"token": "fresh"}), answer({"models": {}}))
    with Client.sign_in("operator", "secret", transport=httpx.MockTransport(door)) as asked:
        assert asked.models() == {}
    assert "Authorization" not in door.asked[0].headers
    assert door.asked[1].headers["Authorization"] == "Bearer fresh"


def test_a_listing_is_read_page_by_page_and_no_further_than_asked() -> None:
    names = [f"a@{number}" for number in range(1_100)]

    def page(request: httpx.Request) -> httpx.Response:
        offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
        found = [{"release": name} for name in names[offset : offset + limit]]
        return httpx.Response(200, json={"releases": found, "total": len(names)})

    asked: list[str] = []

    def pages(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        return page(request)

    with client(pages) as known:
        assert [release["release"] for release in known.releases("a", state="canary")] == names
        assert [release["release"] for release in known.releases(limit=501)] == names[:501]
    assert asked[0] == "/v1/releases?offset=0&limit=500&model=a&state=canary"
    assert asked[-1] == "/v1/releases?offset=500&limit=1"
    assert len(asked) == 5


def test_reading_leaves_out_what_is_not_asked() -> None:
    door = Door(answer({"records": [], "rows": [], "head": 0}))
    with client(door) as asked:
        asked.audit(after=3, kind=None, order="newest")
        asked.query("drift", model="m", release=None)
    assert door.paths == ["/v1/records?after=3&order=newest", "/v1/query/drift?model=m"]


def test_the_ledger_of_services() -> None:
    door = Door(answer({"seq": 7, "records": [], "head": 7}))
    ledger = Ledger("http://ledger/", "token", transport=httpx.MockTransport(door))
    assert ledger.append("AlertRaised", data={"alert": "x"}, model="m", key="once")["seq"] == 7
    ledger.append("AlertRaised", data={"alert": "x"}, model="m")
    assert door.asked[0].headers["Idempotency-Key"] == "once"
    assert door.asked[1].headers["Idempotency-Key"] not in ("", "once")
    assert ledger.records(after=7, wait=20.0)["head"] == 7
    assert door.asked[2].extensions["timeout"]["read"] == 30.0, "longer than the other side may wait"
    ledger.changes(3), ledger.model("m"), ledger.release("m@1"), ledger.gateway_tokens()
    assert door.paths[3:] == ["/v1/changes?after=3", "/v1/models/m", "/v1/releases/m@1", "/v1/gateway-tokens"]
    ledger.close()


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    wire = Wire("http://127.0.0.1:1")
    assert wire._http.trust_env is False
    wire.close()


def test_a_broken_connection_is_tried_once_more_where_asking_twice_does_no_harm() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        if len(seen) % 2:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        return httpx.Response(202, json={"recorded": True})

    with Client("token", transport=httpx.MockTransport(answer)) as client:
        client.outcome("credit-default", "d-1", 1)
        assert seen == ["/outcome/credit-default"] * 2
        with pytest.raises(Unavailable):
            client.abort("credit-default@2", "no second order without a second decision")
    assert len(seen) == 3


@pytest.mark.parametrize("key", ["x ", "é", "a\nb"])
def test_a_key_that_no_header_can_carry_is_the_callers_mistake(key: str) -> None:
    ledger = Ledger("http://127.0.0.1:9", "token")
    with pytest.raises(Invalid) as caught:
        ledger.append("AlertRaised", data={}, model="m", key=key)
    assert caught.value.field == "Idempotency-Key"


@pytest.mark.parametrize(
    ("status", "said", "least", "most"),
    [(503, "1", 1.0, 1.5), (503, "0", 0.0, 0.0), (503, "2", 2.0, 3.0)],
)
def test_the_pause_before_asking_again_is_what_was_said_and_a_little_more(
    status: int, said: str, least: float, most: float
) -> None:
    pause = pause_before_again(status, said)
    assert pause is not None
    assert least <= pause <= most


@pytest.mark.parametrize(
    ("status", "said"), [(200, "1"), (429, "1"), (503, ""), (503, "3"), (503, "soon"), (503, "-1")]
)
def test_where_nothing_or_too_much_is_said_nobody_asks_again(status: int, said: str) -> None:
    assert pause_before_again(status, said) is None


def test_an_entity_is_sent_in_place_of_features() -> None:
    door = Door(httpx.Response(200, json=DECISION))
    Client("t", transport=httpx.MockTransport(door)).decide("credit-default", entity={"ID": 42}, key="c1")
    assert json.loads(door.asked[0].content) == {"entity": {"ID": 42}, "key": "c1", "purpose": "customer"}


def test_a_busy_gateway_is_asked_once_more_when_it_said_so() -> None:
    busy = httpx.Response(503, json={"error": "too much", "code": "overloaded"}, headers={"Retry-After": "0"})
    door = Door(busy, httpx.Response(200, json=DECISION))
    assert (
        Client("t", transport=httpx.MockTransport(door)).decide("credit-default", {}, key="c1").release
        == "credit-default@2"
    )
    assert len(door.asked) == 2
    still = Door(busy)
    with pytest.raises(Unavailable, match="too much"):
        Client("t", transport=httpx.MockTransport(still)).decide("credit-default", {}, key="c1")
    assert len(still.asked) == 2
