"""Kill switch and shadow over HTTP: roles, keys, ETags, and stopping without waiting for other work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lineage.settings import Settings
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import MODEL, ManualClock, sample

Json = dict[str, Any]
PATHS = {"one": f"/v1/models/{MODEL}/kill", "all": "/v1/kill"}
each_scope = pytest.mark.parametrize("scope", sorted(PATHS))
ACTS = {"": "KillSwitchPulled", "/ask-release": "KillReleaseRequested", "/release": "KillSwitchReleased"}


@pytest.fixture
def service(settings: Settings) -> Iterator[LedgerService]:
    with open_service(settings, ManualClock()) as opened:
        opened.writer.champion()
        opened.news()
        yield opened


def seen(service: LedgerService, scope: str) -> str:
    path = "kill" if scope == "all" else f"models/{MODEL}"
    answer = service.get(path)
    assert answer.headers["ETag"] == f'"{answer.json()["etag"]}"'
    return str(answer.headers["ETag"])


def send(service: LedgerService, scope: str, act: str, who: str, **headers: str) -> Any:
    given = service.headers(who) | headers
    return service.http.post(PATHS[scope] + act, json={"reason": "scores look wrong"}, headers=given)


def look_and_send(service: LedgerService, scope: str, act: str, who: str) -> Any:
    return send(service, scope, act, who, **{"If-Match": seen(service, scope)})


@each_scope
def test_one_person_stops_and_two_let_go(scope: str, service: LedgerService) -> None:
    told = send(service, scope, "", "validator")
    assert (told.status_code, told.json()["data"]) == (201, {"answer": "baseline"})
    view = service.get("kill").json()
    kill = view["kill"] if scope == "all" else view["models"][MODEL]
    assert (kill["by"], kill["answer"], kill["asked_by"]) == ("validator", "baseline", None)
    assert look_and_send(service, scope, "/ask-release", "validator").status_code == 201
    alone = look_and_send(service, scope, "/release", "validator")
    assert (alone.status_code, alone.json()["code"]) == (403, "four_eyes")
    assert look_and_send(service, scope, "/release", "operator").status_code == 201
    assert service.get("kill").json() | {"etag": 0} == {"kill": None, "etag": 0, "models": {}}
    kinds = [record["kind"] for record in service.news()]
    assert kinds == ["KillSwitchPulled", "KillReleaseRequested", "ActionRefused", "KillSwitchReleased"]


@each_scope
def test_stopping_takes_no_etag_and_heeds_none(scope: str, service: LedgerService) -> None:
    told = send(service, scope, "", "operator", **{"If-Match": '"1"'})
    assert told.status_code == 201
    again = send(service, scope, "", "validator")
    assert (again.status_code, again.json()["code"]) == (409, "pulled")
    more = {"reason": "still wrong", "answer": "nothing"}
    assert service.http.post(PATHS[scope], json=more, headers=service.headers("validator")).status_code == 201


@each_scope
def test_letting_go_takes_what_was_seen(scope: str, service: LedgerService) -> None:
    old = seen(service, scope)
    send(service, scope, "", "operator")
    for act, who in (("/ask-release", "operator"), ("/release", "validator")):
        assert send(service, scope, act, who).status_code == 428
        stale = send(service, scope, act, who, **{"If-Match": old})
        assert (stale.status_code, stale.json()["code"]) == (412, "stale")
        old = seen(service, scope)
        assert look_and_send(service, scope, act, who).status_code == 201


@each_scope
@pytest.mark.parametrize("who", ["scientist", "auditor", "controller", "trainer", "client"])
def test_others_have_no_switch(scope: str, who: str, service: LedgerService) -> None:
    send(service, scope, "", "operator")
    for act, kind in ACTS.items():
        service.news()
        told = look_and_send(service, scope, act, who)
        assert (told.status_code, told.json()["code"]) == (403, "role"), act
        assert "operator or validator" in told.json()["error"]
        assert [record["kind"] for record in service.news()] == ["ActionRefused"]
        about = MODEL if scope == "one" else "platform"
        assert service.last["data"]["attempted"] == f"{kind} {about}"


@pytest.mark.parametrize("kind", sorted(ACTS.values()))
@pytest.mark.parametrize("model", [MODEL, None])
def test_no_service_states_it(kind: str, model: str | None, service: LedgerService) -> None:
    body = {"kind": kind, "model": model, "data": sample(kind), "reason": "automatic"}
    told = service.http.post("/v1/facts", json=body, headers=service.headers("controller"))
    assert (told.status_code, told.json()["code"]) == (403, "role")


@each_scope
def test_the_same_key_is_the_same_stop_and_no_other(scope: str, service: LedgerService) -> None:
    first = send(service, scope, "", "operator", **{"Idempotency-Key": "stop"})
    again = send(service, scope, "", "operator", **{"Idempotency-Key": "stop"})
    assert (first.status_code, again.status_code, again.json()) == (201, 200, first.json())
    other = "one" if scope == "all" else "all"
    told = send(service, other, "", "operator", **{"Idempotency-Key": "stop"})
    assert (told.status_code, told.json()["code"]) == (409, "key_reused"), "one model is not all of them"
    body = {"reason": "scores look wrong", "answer": "nothing"}
    headers = service.headers("operator") | {"Idempotency-Key": "stop"}
    assert service.http.post(PATHS[scope], json=body, headers=headers).json()["code"] == "key_reused"


@each_scope
def test_what_cannot_be_understood_is_named(scope: str, service: LedgerService) -> None:
    for body, field in (
        ({}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "x", "answer": "champion"}, "answer"),
        ({"reason": "x", "model": MODEL}, "model"),
    ):
        told = service.http.post(PATHS[scope], json=body, headers=service.headers("operator"))
        assert (told.status_code, told.json()["field"]) == (422, field), told.text
    assert service.get("kill").json()["models"] == {}


def test_a_model_that_nobody_knows_is_named_and_nobody_is_stopped(service: LedgerService) -> None:
    for path in ("", "/ask-release", "/release"):
        headers = service.headers("operator") | {"If-Match": '"1"'}
        told = service.http.post(f"/v1/models/credit-defualt/kill{path}", json={"reason": "x"}, headers=headers)
        assert (told.status_code, told.json()["field"]) == (404, "model"), told.text
        assert MODEL in told.json()["error"]


def test_the_state_shows_it(service: LedgerService) -> None:
    for scope in PATHS:
        send(service, scope, "", "operator")
    told = service.get("state").json()
    assert told["kill"]["by"] == told["models"][MODEL]["kill"]["by"] == "operator"
    assert told["etag"] == told["kill"]["seq"]
    assert (told["models"][MODEL]["breakers"], told["models"][MODEL]["shadow"]) == ({}, None)
    assert service.get(f"models/{MODEL}").json()["kill"]["answer"] == "baseline"
    assert service.get("kill", who="client").status_code == 403
    assert service.http.get("/v1/kill").status_code == 401


def test_it_is_stopped_after_a_restart(service: LedgerService) -> None:
    send(service, "all", "", "operator")
    service.reopen()
    assert service.get("kill").json()["kill"]["by"] == "operator"


def test_a_shadow_is_started_by_operators_and_stopped_by_the_controller_too(service: LedgerService) -> None:
    release = service.writer.register()
    for starts, stops in (("operator", "operator"), ("operator", "controller")):
        for verb, who, shadow in (("start", starts, release), ("stop", stops, None)):
            path = f"/v1/releases/{release}/shadow/{verb}"
            told = service.http.post(path, json={"reason": "look at it first"}, headers=service.headers(who))
            assert told.status_code == 201, told.text
            assert service.get(f"models/{MODEL}").json()["shadow"] == shadow
            refused = service.http.post(path, json={"reason": "x"}, headers=service.headers("scientist"))
            assert refused.json()["code"] == "role"
    path = f"/v1/releases/{release}/shadow/start"
    refused = service.http.post(path, json={"reason": "x"}, headers=service.headers("controller"))
    assert refused.json()["code"] == "role"
    bad = service.http.post(
        f"/v1/releases/{release}/shadow/halt", json={"reason": "x"}, headers=service.headers("operator")
    )
    assert bad.status_code == 422
    gone = service.http.post("/v1/releases/x@1/shadow/start", json={"reason": "x"}, headers=service.headers("operator"))
    assert gone.status_code == 404


def test_a_stop_and_a_refused_canary_are_both_on_record(service: LedgerService) -> None:
    release = service.writer.register()
    send(service, "all", "", "validator")
    service.news()
    told = service.act("canary", release, "operator")
    assert (told.status_code, told.json()["code"]) == (409, "killed")
    assert "validator" in told.json()["error"]
    assert [record["kind"] for record in service.news()] == ["ActionRefused"]
