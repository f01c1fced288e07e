"""The ledger service over HTTP: invalid requests are refused with field, value and expectation.

A refusal is the only thing they leave on record, and the next good request works.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as fresh
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lineage.facts.registry import FACTS
from lineage.service.app import BODY_BYTES
from lineage.settings import Settings
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import MODEL, ManualClock, sample

Json = dict[str, Any]
PEOPLE = ("scientist", "validator", "operator", "auditor")
MACHINES = ("controller", "trainer", "client")
VERBS: dict[str, tuple[str, Json, str]] = {
    "canary": ("/v1/releases/{release}/canary", {}, "CanaryStarted"),
    "review": ("/v1/releases/{release}/review", {"decision": "approve"}, "ReviewDecided"),
    "promote": ("/v1/releases/{release}/promote", {}, "RolloutStepped"),
    "abort": ("/v1/releases/{release}/abort", {}, "CanaryAborted"),
    "rollback": ("/v1/models/{model}/rollback", {}, "RollbackOrdered"),
    "retrain": ("/v1/models/{model}/retrain", {"folder": "examples/credit_default"}, "RetrainRequested"),
}
WHO_MAY = {
    "canary": {"operator", "controller", "trainer"},
    "review": {"validator"},
    "promote": {"operator", "controller", "trainer"},
    "abort": {"operator", "validator", "controller", "trainer"},
    "rollback": {"operator", "controller", "trainer"},
    "retrain": {"operator", "scientist", "controller", "trainer"},
}
#: The state a release has to be in for the verb, and one who may.
READY = {"canary": "registered", "review": "review", "promote": "approved", "abort": "canary", "rollback": "champion"}
ONE_WHO_MAY = {"review": "validator", "retrain": "scientist"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerService]:
    with open_service(Settings(home=tmp_path_factory.mktemp("service") / "var"), ManualClock()) as opened:
        yield opened


def body_of(verb: str, **changes: Any) -> Json:
    return VERBS[verb][1] | {"reason": "the evidence is sound"} | changes


def refused(service: LedgerService, answer: Any, status: int, field: str | None = None, *, recorded: int = 0) -> Json:
    """The answer is an error in the one form, and nothing but `recorded` refusals was written."""
    assert answer.status_code == status, answer.text
    body: Json = answer.json()
    assert body["error"]
    assert body["code"]
    if field is not None:
        assert body["field"] == field, body
    news = service.news()
    assert [record["kind"] for record in news] == ["ActionRefused"] * recorded
    return body


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_without_a_token_nothing_is_told(verb: str, service: LedgerService) -> None:
    path = VERBS[verb][0].format(release=f"{MODEL}@1", model=MODEL)
    for headers in (
        {},
        {"Authorization": "Basic x"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nobody's"},
    ):
        answer = service.http.post(path, json=body_of(verb), headers=headers)
        refused(service, answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["state", "models/x", "releases/x", "records", "query/drift", "verify", "events"])
def test_reading_takes_a_token_that_may_read(path: str, service: LedgerService) -> None:
    refused(service, service.http.get(f"/v1/{path}"), 401)
    refused(service, service.get(path, who="client"), 403)


def test_a_client_token_knows_itself_and_no_more(service: LedgerService) -> None:
    known = {"name": "client", "role": "client", "id": "m-client", "roles": ["client", "outcomes"]}
    assert service.get("whoami", who="client").json() == known
    refused(service, service.get("gateway-tokens", who="client"), 403)
    refused(service, service.get("gateway-tokens", who="auditor"), 403)
    assert service.get("gateway-tokens", who="controller").status_code == 200


@pytest.mark.parametrize("verb", sorted(VERBS))
@pytest.mark.parametrize("who", [*PEOPLE, *MACHINES])
def test_each_verb_is_for_its_roles(verb: str, who: str, service: LedgerService) -> None:
    if who in WHO_MAY[verb]:
        return
    release = service.release_in(READY.get(verb, "registered"))
    code = "four_eyes" if who == "scientist" and verb in ("canary", "review", "promote") else "role"
    body = refused(service, service.act(verb, release, who, seen=True), 403, recorded=1)
    assert body["code"] == code
    assert service.last["actor"]["name"] == who
    assert service.last["data"]["attempted"].startswith(VERBS[verb][2])
    assert service.last["data"]["code"] == code


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_verb_is_one_fact_and_the_same_key_gives_it_again(verb: str, service: LedgerService) -> None:
    release = service.release_in(READY.get(verb, "registered"))
    who = ONE_WHO_MAY.get(verb, "operator")
    first = service.act(verb, release, who, seen=True, key=f"{verb}-once")
    assert first.status_code == 201, first.text
    record = first.json()
    assert (record["kind"], record["actor"]["name"]) == (VERBS[verb][2], who)
    again = service.act(verb, release, who, seen=True, key=f"{verb}-once")
    assert (again.status_code, again.json()) == (200, record)
    assert [one["kind"] for one in service.news()] == [VERBS[verb][2]]
    other = service.act(verb, release, who, seen=True, key=f"{verb}-once", reason="another reason")
    assert refused(service, other, 409, recorded=1)["code"] == "key_reused"
    different = {"review": {"decision": "reject"}, "rollback": {"to": "x@1"}, "retrain": {"folder": "elsewhere"}}
    if verb in different:
        other = service.act(verb, release, who, seen=True, key=f"{verb}-once", **different[verb])
        assert refused(service, other, 409, recorded=1)["code"] == "key_reused"


def test_a_service_states_facts_once_a_key(service: LedgerService) -> None:
    fact = {"kind": "AlertRaised", "model": MODEL, "data": sample("AlertRaised")}
    headers = service.headers("controller") | {"Idempotency-Key": "alert-1"}
    first = service.http.post("/v1/facts", json=fact, headers=headers)
    again = service.http.post("/v1/facts", json=fact, headers=headers)
    assert first.json() == again.json()
    assert len(service.news()) == 1
    other = fact | {"data": sample("AlertRaised", summary="another")}
    assert (
        refused(service, service.http.post("/v1/facts", json=other, headers=headers), 409, recorded=1)["code"]
        == "key_reused"
    )


@pytest.mark.parametrize("who", [*PEOPLE, "client"])
def test_people_do_not_state_facts(who: str, service: LedgerService) -> None:
    fact = {"kind": "ReleasePromoted", "model": MODEL, "release": f"{MODEL}@1", "data": {}, "reason": "x" * 50_000}
    answer = service.http.post("/v1/facts", json=fact, headers=service.headers(who))
    refused(service, answer, 403, recorded=1)
    assert len(json.dumps(service.last)) < 6_000, "a refusal does not let anybody fill the log"


@pytest.mark.parametrize("verb", ["review", "promote"])
def test_who_decides_says_what_was_seen(verb: str, service: LedgerService) -> None:
    release = service.release_in(READY[verb])
    who = ONE_WHO_MAY.get(verb, "operator")
    assert "If-Match" in refused(service, service.act(verb, release, who), 428)["error"]
    etag = int(service.etag(release))
    stale = service.act(verb, release, who, etag=f'"{etag - 1}"')
    body = refused(service, stale, 412, recorded=1)
    assert (body["code"], body["etag"]) == ("stale", etag)
    for bad in ("", "abc", '"1', '"-1"', "*", '"1.5"', 'W/"1"', "9" * 5_000, '"²"'.encode("latin-1")):
        answer = service.act(verb, release, who, etag=bad)
        if bad == '"1':
            refused(service, answer, 412, recorded=1)
        else:
            refused(service, answer, 422, "If-Match")
    assert service.act(verb, release, who, etag=f'"{etag}"').status_code == 201
    service.news()


@pytest.mark.parametrize("verb", ["abort", "rollback"])
def test_stopping_never_takes_an_etag(verb: str, service: LedgerService) -> None:
    release = service.release_in(READY[verb])
    assert service.act(verb, release, "operator").status_code == 201
    service.news()


def test_what_stands_still_does_not_make_a_view_stale(service: LedgerService) -> None:
    release = service.release_in("review")
    etag = service.etag(release)
    service.writer.record("CanaryHeld", release)
    service.writer.record("DriftMeasured")
    assert service.etag(release) == etag
    service.news()


def test_the_author_as_validator_is_refused_and_it_is_on_record(service: LedgerService) -> None:
    release = service.release_in("review", author="validator")
    body = refused(service, service.act("review", release, "validator", seen=True), 403, recorded=1)
    assert body["code"] == "four_eyes"
    assert service.last["data"]["code"] == "four_eyes"
    assert (service.last["actor"]["name"], service.last["actor"]["role"]) == ("validator", "validator")
    assert service.last["reason"] == "the evidence is sound"


@dataclass(frozen=True)
class Bad:
    """A request that is wrong in one place."""

    method: str
    path: str
    status: int
    field: str | None
    body: Any = None
    raw: bytes | None = None
    who: str = "operator"
    headers: dict[str, str] = fresh(default_factory=dict)
    says: str = ""


REASON = {"reason": "x"}
CANARY = f"/v1/releases/{MODEL}@1/canary"
RETRAIN = f"/v1/models/{MODEL}/retrain"
DEEP = b'{"a":' * 600 + b"1" + b"}" * 600
BAD = [
    Bad("GET", "/v1/models/nobody", 404, "model", says=MODEL),
    Bad("GET", "/v1/releases/nobody@1", 404, "release"),
    Bad("GET", f"/v1/releases/{MODEL}@999", 404, "release", says=f"{MODEL}@1"),
    Bad("GET", "/v1/releases/%00", 404, "release"),
    Bad("GET", "/v1/releases/a%2Fb", 404, None),
    Bad("GET", "/v1/releases/%F0%9F%9A%A2", 404, "release"),
    Bad("GET", "/v1/releases/%ff", 404, "release"),
    Bad("GET", "/v1/models/..%2Fstate", 404, None),
    Bad("GET", "/v1/reports/..%2F..%2Faccounts", 404, None),
    Bad("GET", "/v1/query/drifts", 404, "name", says="drift"),
    Bad("GET", "/v1/query/drift?limit=0", 422, "limit", says="'0'"),
    Bad("GET", "/v1/query/drift?limit=10001", 422, "limit"),
    Bad("GET", "/v1/records?limit=0", 422, "limit"),
    Bad("GET", "/v1/records?limit=1001", 422, "limit"),
    Bad("GET", "/v1/records?after=-1", 422, "after"),
    Bad("GET", "/v1/records?after=x", 422, "after", says="'x'"),
    Bad("GET", "/v1/records?after=" + "9" * 5_000, 422, "after"),
    Bad("GET", "/v1/records?offset=-1", 422, "offset"),
    Bad("GET", "/v1/records?order=best", 422, "order", says="'best'"),
    Bad("GET", "/v1/records?wait=-1", 422, "wait"),
    Bad("GET", "/v1/records?wait=31", 422, "wait"),
    Bad("GET", "/v1/records?wait=nan", 422, "wait"),
    Bad("GET", "/v1/records?wait=inf", 422, "wait"),
    Bad("GET", "/v1/events?after=-1", 422, "after"),
    Bad("GET", "/v1/nowhere", 404, None),
    Bad("GET", CANARY, 405, None),
    Bad("POST", "/v1/releases/nobody@1/canary", 404, "release", REASON),
    Bad("POST", "/v1/models/nobody/rollback", 404, "model", REASON),
    Bad("POST", "/v1/models/a@1/retrain", 422, "model", REASON | {"folder": "x"}),
    Bad("POST", "/v1/models/%1b[2J/retrain", 422, "model", REASON | {"folder": "x"}),
    Bad("POST", f"/v1/models/{'m' * 101}/retrain", 422, "model", REASON | {"folder": "x"}),
    Bad("POST", CANARY, 422, "reason", {}),
    Bad("POST", CANARY, 422, "reason", {"reason": ""}),
    Bad("POST", CANARY, 422, "reason", {"reason": "x" * 4_001}),
    Bad("POST", CANARY, 422, "reason", {"reason": 5}, says="got 5"),
    Bad("POST", CANARY, 422, "reason", {"reason": None}),
    Bad("POST", CANARY, 422, "reason", raw=b'{"reason": "\\ud800"}'),
    Bad("POST", CANARY, 422, "share", {"reason": "x", "share": 1.0}, says="got 1.0"),
    Bad("POST", CANARY, 422, "body", raw=b'{"reason": "x", "\\ud800": 1}'),
    Bad("POST", CANARY, 422, "body", [1]),
    Bad("POST", CANARY, 422, "body", raw=b""),
    Bad("POST", CANARY, 422, "body", raw=b"{"),
    Bad("POST", CANARY, 422, "body", raw=b"\xff\xfe"),
    Bad("POST", CANARY, 422, "Idempotency-Key", REASON, headers={"Idempotency-Key": "k" * 201}),
    Bad("POST", CANARY, 422, "Idempotency-Key", REASON, headers={"Idempotency-Key": ""}),
    Bad("POST", CANARY, 413, None, raw=b" " * (BODY_BYTES + 1)),
    Bad("POST", f"/v1/releases/{MODEL}@1/review", 422, "decision", REASON | {"decision": "maybe"}, says="'maybe'"),
    Bad("POST", RETRAIN, 422, "reason", {"reason": "  ", "folder": "x"}),
    Bad("POST", RETRAIN, 422, "folder", REASON),
    Bad("POST", RETRAIN, 422, "folder", REASON | {"folder": "x" * 501}),
    Bad("POST", RETRAIN, 422, "options.trials.str", REASON | {"folder": "x", "options": {"trials": [1]}}),
    Bad("POST", RETRAIN, 422, "options.trials", raw=b'{"reason":"x","folder":"x","options":{"trials":NaN}}'),
    Bad("POST", "/v1/session", 422, "password", {"name": "x"}),
    Bad("POST", "/v1/session", 422, "password", {"name": "x", "password": "x" * 1_025}),
    Bad("POST", "/v1/session", 422, "name", {"name": "", "password": "x"}),
    Bad("POST", "/v1/session", 422, "password", raw=b'{"name": "operator", "password": "\\ud800"}'),
    Bad("POST", "/v1/session", 401, None, {"name": "operator", "password": "wrong"}),
    Bad("POST", "/v1/facts", 422, "kind", {"kind": "Nonsense", "data": {}}, who="controller", says="'Nonsense'"),
    Bad("POST", "/v1/facts", 422, "data", {"kind": "AlertRaised", "data": []}, who="controller"),
    Bad("POST", "/v1/facts", 422, "alert", {"kind": "AlertRaised", "model": MODEL, "data": {}}, who="controller"),
    Bad("POST", "/v1/facts", 422, "model", {"kind": "AlertRaised", "data": sample("AlertRaised")}, who="controller"),
    Bad(
        "POST",
        "/v1/facts",
        422,
        "evidence",
        {"kind": "AlertRaised", "model": MODEL, "data": sample("AlertRaised", evidence="12")},
        who="controller",
        says="'12'",
    ),
    Bad(
        "POST",
        "/v1/facts",
        404,
        "release",
        {"kind": "CanaryHeld", "model": MODEL, "release": f"{MODEL}@999", "data": sample("CanaryHeld")},
        who="controller",
    ),
    Bad(
        "POST",
        "/v1/facts",
        422,
        "release",
        {"kind": "CanaryHeld", "model": "other", "release": f"{MODEL}@1", "data": sample("CanaryHeld")},
        who="controller",
    ),
    Bad(
        "POST",
        "/v1/facts",
        422,
        None,
        raw=b'{"kind":"CanaryHeld","release":"credit-default@1","data":{"why":"x","judgement":'
        + b'{"a":' * 600
        + b"1"
        + b"}" * 602,
        who="controller",
    ),
    Bad("POST", "/v1/facts", 422, None, raw=b"[" * 100_000, who="controller"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.method} {bad.path[:40]} {bad.field}")
def test_what_is_wrong_is_named_and_nothing_is_written(bad: Bad, service: LedgerService) -> None:
    service.release_in("registered", keep=True)
    headers = {"Content-Type": "application/json"} | service.headers(bad.who) | bad.headers
    if bad.path.endswith(("/review", "/promote")):
        headers["If-Match"] = '"1"'
    content = bad.raw if bad.raw is not None else None if bad.body is None else json.dumps(bad.body).encode()
    answer = service.http.request(bad.method, bad.path, content=content, headers=headers)
    if bad.status == 422 and bad.field is None:
        assert answer.status_code in (400, 422), answer.text
        refused(service, answer, answer.status_code)
    else:
        body = refused(service, answer, bad.status, bad.field)
        assert bad.says in body["error"]
        assert len(body["error"]) < 2_000
    assert service.get("whoami").status_code == 200, "the next good request works"


def test_a_body_that_does_not_say_its_length_is_not_read(service: LedgerService) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"reason": "x"}'

    refused(service, service.http.post(CANARY, content=pieces(), headers=service.headers("operator")), 413)


def test_another_host_name_is_refused(service: LedgerService) -> None:
    answer = service.http.get("/v1/state", headers=service.headers("auditor") | {"Host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (421, "host")


def test_records_are_paged_and_filtered(service: LedgerService) -> None:
    everything = service.get("records?limit=1000").json()
    assert everything["head"] == everything["total"] == len(everything["records"])
    newest = service.get("records?order=newest&limit=3&offset=1").json()["records"]
    assert newest == everything["records"][-4:-1][::-1]
    some = service.get("records?kind=ModelTrained,SignedIn&limit=1000").json()["records"]
    assert {record["kind"] for record in some} == {"ModelTrained", "SignedIn"}
    assert service.get("records?kind=Nonsense").json()["records"] == []
    assert service.get(f"records?after={10**30}").json()["records"] == []
    mine = service.get("records?actor=operator").json()["records"]
    assert {record["actor"]["name"] for record in mine} <= {"operator"}


def test_long_polls_end_with_the_record_they_wait_for(service: LedgerService) -> None:
    head = service.get("records?limit=1").json()["head"]
    with service.meanwhile(lambda: service.writer.record("AlertRaised", summary="at last")):
        found = service.get(f"records?after={head}&kind=AlertRaised&wait=30").json()["records"]
    assert [record["data"]["summary"] for record in found] == ["at last"]
    assert service.get(f"records?after={head + 1}&wait=0.01").json()["records"] == []
    service.news()


def test_health_and_metrics_are_open_and_say_nothing_about_anybody(service: LedgerService) -> None:
    assert service.http.get("/healthz").json()["ok"] is True
    text = service.http.get("/metrics").text
    assert "plimsoll_ledger_records" in text
    assert not [name for name in PEOPLE if name in text]


def test_signing_in_and_out_is_on_record_and_secrets_are_not(service: LedgerService, settings: Settings) -> None:
    sent = {"name": "auditor", "password": service.passwords["auditor"]}
    session = service.http.post("/v1/session", json=sent).json()
    assert [record["kind"] for record in service.news()] == ["SignedIn"]
    headers = {"Authorization": f"Bearer {session['token']}"}
    assert service.http.get("/v1/whoami", headers=headers).json()["roles"] == ["auditor"]
    assert service.http.delete("/v1/session", headers=headers).json() == {"signed_out": "auditor"}
    assert service.http.get("/v1/whoami", headers=headers).status_code == 401
    home = service.settings
    log = b"".join(path.read_bytes() for path in home.log_folder.glob("*.jsonl")).decode()
    secrets = [*service.passwords.values(), session["token"], *(home.token(name) for name in MACHINES)]
    assert not [secret for secret in secrets if secret in log + home.accounts_file.read_text()]


def test_a_machine_is_not_signed_out(service: LedgerService) -> None:
    answer = service.http.delete("/v1/session", headers=service.headers("client"))
    assert refused(service, answer, 409)["code"] == "machine"
    assert service.get("whoami", who="client").status_code == 200


def test_the_views_are_those_of_the_fold(service: LedgerService) -> None:
    release = service.release_in("registered", keep=True)
    fold = service.get("state").json()
    assert service.get("state").headers["etag"] == f'"{fold["seq"]}"'
    assert service.get(f"models/{MODEL}").json() == fold["models"][MODEL] | {"kill_of_all": None}
    one = service.get(f"releases/{release}").json()
    assert {name: one[name] for name in fold["releases"][release]} == fold["releases"][release]
    assert {fact["release"] for fact in one["facts"]} == {release}
    assert service.get("query/checks").json()["rows"]
    assert refused(service, service.get(f"reports/{release}"), 404)


def test_the_report_is_served_as_it_was_recorded(service: LedgerService) -> None:
    release = service.release_in("validated", report=b"<p>sound</p>")
    path = service.settings.reports / f"{release}.html"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"<p>sound</p>")
    assert service.get(f"reports/{release}").content == b"<p>sound</p>"
    path.write_bytes(b"<p>sounder</p>")
    assert refused(service, service.get(f"reports/{release}"), 500)["code"] == "tampered"


def test_the_record_verifies_to_the_end(service: LedgerService) -> None:
    result = service.get("verify").json()
    problems = [problem for problem in result["problems"] if "bundle" not in problem["problem"]]
    wrong = [problem for problem in problems if "no folder" not in problem["problem"]]
    assert wrong == []
    assert result["records"] == len(service.context.ledger.records)


def test_every_kind_that_a_service_states_is_taken_or_refused_in_form(service: LedgerService) -> None:
    for kind in FACTS:
        fact = {"kind": kind, "model": "new", "release": None, "data": sample(kind)}
        answer = service.http.post("/v1/facts", json=fact, headers=service.headers("controller"))
        assert answer.status_code in (201, 403, 404, 409, 422), (kind, answer.text)
    service.news()


def test_reopening_gives_the_same_state(service: LedgerService) -> None:
    before = service.get("state").json()
    service.reopen()
    after = service.get("state").json()
    assert after["models"] == before["models"]
    assert after["releases"] == before["releases"]
    assert [record["kind"] for record in service.news() if record["kind"] != "SignInsFailed"] == ["LedgerOpened"]
    assert isinstance(service.http, TestClient)


def test_a_bypass_by_a_setting_is_on_record_at_each_start_and_shown(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "var", host="10.0.0.4", unsafe_plain_http=True)
    service = LedgerService(settings, ManualClock())
    try:
        service.reopen()
        stated = [record["data"]["what"] for record in service.context.ledger.records if record["kind"] == "UnsafeUsed"]
        assert stated[0] == "plain_http"
        assert len(stated) == sum(record["kind"] == "LedgerOpened" for record in service.context.ledger.records)
        assert [one["what"] for one in service.http.get("/healthz").json()["unsafe"]] == ["plain_http"]
    finally:
        service.close()
