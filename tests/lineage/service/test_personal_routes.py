"""Every route of the ledger service either shows no personal data, or leaves a fact before it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from starlette.routing import Route

from lineage.errors import UnavailableError
from lineage.log.writer import Log
from lineage.service.personal_reads import REPEAT, PersonalReads, reason_in, without_name
from lineage.settings import Settings
from lineage.store.rows import PERSONAL
from tests.support.decision_archive import Archive, open_archive
from tests.support.sample_facts import ManualClock

Json = dict[str, Any]
WHY = "a customer complained"
#: Why a route shows nothing about customers. A route that is in neither table fails the test below.
FACTS = "facts name customers by commitments only"
STATE = "the state of models and releases"
OWN = "the caller's own account or session"
COUNTS = "counts of the service itself"
PROOFS = "hashes, keys and signatures"
ACTION = "records a fact about a release or model and answers with it"
ACCOUNTS = "accounts of employees, for admins and auditors"
NOT_PERSONAL = {
    ("get", "/healthz"): COUNTS,
    ("get", "/metrics"): COUNTS,
    ("get", "/v1/whoami"): OWN,
    ("post", "/v1/session"): OWN,
    ("delete", "/v1/session"): OWN,
    ("get", "/v1/gateway-tokens"): "hashes of tokens, for services only",
    ("get", "/v1/state"): STATE,
    ("get", "/v1/models"): STATE,
    ("get", "/v1/models/{model}"): STATE,
    ("get", "/v1/models/{model}/actions"): STATE,
    ("get", "/v1/models/{model}/asof"): STATE,
    ("get", "/v1/releases"): STATE,
    ("get", "/v1/releases/{release}"): STATE,
    ("get", "/v1/releases/{release}/actions"): STATE,
    ("get", "/v1/kill"): STATE,
    ("get", "/v1/kill/actions"): STATE,
    ("get", "/v1/stopped"): STATE,
    ("get", "/v1/inbox"): STATE,
    ("get", "/v1/changes"): STATE,
    ("get", "/v1/provenance"): "releases, data sets by digest, segments by name and count",
    ("get", "/v1/releases/{release}/dossier"): "rows of customers are left out (tests/lineage/history/test_dossier.py)",
    ("get", "/v1/reports/{release}"): "findings of checks: rates and counts of groups",
    ("get", "/v1/records"): FACTS,
    ("get", "/v1/events"): FACTS,
    ("get", "/v1/verify"): "records and segments by number and name",
    ("get", "/v1/followers"): COUNTS,
    ("get", "/v1/checkpoint"): PROOFS,
    ("get", "/v1/consistency"): PROOFS,
    ("get", "/v1/keys"): PROOFS,
    ("get", "/v1/proof/{seq}"): FACTS,
    ("post", "/v1/store/rebuild"): COUNTS,
    ("post", "/v1/facts"): ACTION,
    ("post", "/v1/password"): OWN,
    ("get", "/v1/accounts"): ACCOUNTS,
    ("post", "/v1/accounts"): ACCOUNTS,
    ("post", "/v1/accounts/recover"): ACCOUNTS,
    **{
        ("post", f"/v1/accounts/{{account}}/{verb}"): ACCOUNTS
        for verb in ("roles", "reset", "enable", "disable", "recertify")
    },
    ("post", "/v1/account-requests/{requested}/confirm"): ACCOUNTS,
    ("post", "/v1/account-requests/{requested}/withdraw"): ACCOUNTS,
    ("post", "/v1/account-recoveries/{recovered}/confirm"): ACCOUNTS,
    ("get", "/v1/key-eras"): PROOFS,
    ("post", "/v1/keys/{key}/rotate"): ACTION,
    ("post", "/v1/keys/{key}/revoke"): ACTION,
    ("post", "/v1/kill"): ACTION,
    ("post", "/v1/kill/ask-release"): ACTION,
    ("post", "/v1/kill/release"): ACTION,
    ("post", "/v1/models/{model}/kill"): ACTION,
    ("post", "/v1/models/{model}/kill/ask-release"): ACTION,
    ("post", "/v1/models/{model}/kill/release"): ACTION,
    ("post", "/v1/models/{model}/retrain"): ACTION,
    ("post", "/v1/models/{model}/rollback"): ACTION,
    ("post", "/v1/releases/{release}/abort"): ACTION,
    ("post", "/v1/releases/{release}/canary"): ACTION,
    ("post", "/v1/releases/{release}/promote"): ACTION,
    ("post", "/v1/releases/{release}/review"): ACTION,
    ("post", "/v1/releases/{release}/shadow/{verb}"): ACTION,
}
#: What a person sends to each route that is about customers, and the fact that it leaves.
Sent = tuple[str, Json | None, str]
ABOUT = {"subject": "customer-1", "reason": WHY}
LEFT: dict[tuple[str, str], list[Sent]] = {
    ("get", "/v1/decisions/{decision_id}"): [("/v1/decisions/d1", None, "PersonalDataRead")],
    ("get", "/v1/query/{name}"): [(f"/v1/query/{name}", None, "PersonalDataRead") for name in sorted(PERSONAL)],
    ("post", "/v1/subjects/history"): [("/v1/subjects/history", ABOUT, "PersonalDataRead")],
    ("post", "/v1/subjects/erase"): [
        ("/v1/subjects/erase", ABOUT | {"identity_verified": True}, "ActionRefused"),
        ("/v1/subjects/erase", ABOUT | {"subject": "unknown", "identity_verified": True}, "PersonalDataRead"),
    ],
    ("post", "/v1/subjects/hold"): [
        ("/v1/subjects/hold", ABOUT | {"subject": "unknown"}, "PersonalDataRead"),
        ("/v1/subjects/hold", ABOUT, "HoldPlaced"),
    ],
    ("post", "/v1/subjects/release-hold"): [("/v1/subjects/release-hold", ABOUT, "HoldReleased")],
}
MACHINES = ("controller", "trainer")


@pytest.fixture
def archive(settings: Settings, clock: ManualClock) -> Iterator[Archive]:
    with open_archive(settings, clock) as archive:
        archive.decide(1, reasons=["R-debt"])
        archive.seal()
        yield archive


def send(archive: Archive, method: str, sent: Sent, who: str, **headers: str) -> Any:
    path, body, _ = sent
    given = archive.service.headers(who) | {"X-Reason": WHY} | headers
    given = {name: value for name, value in given.items() if value}
    return archive.service.http.request(method, path, json=body, headers=given)


def reader_of(path: str) -> str:
    return "operator" if path.endswith("erase") else "auditor"


def cases() -> list[Any]:
    return [
        pytest.param(method, sent, id=f"{sent[0]} {number}")
        for (method, _), several in LEFT.items()
        for number, sent in enumerate(several)
    ]


def test_every_route_is_in_one_of_the_tables(archive: Archive) -> None:
    app: Any = archive.service.http.app
    document = {(method, path) for path, methods in app.openapi()["paths"].items() for method in methods}
    assert document == NOT_PERSONAL.keys() | LEFT.keys()
    assert not NOT_PERSONAL.keys() & LEFT.keys()
    routed = {route.path for route in app.routes if isinstance(route, Route)}
    assert routed <= {path for _, path in document} | {"/openapi.json"}, "a route that is in no document"


def prepare(archive: Archive, path: str) -> None:
    if path.endswith("release-hold"):
        archive.ask("hold", "customer-1", "operator", 201, reason=WHY)


@pytest.mark.parametrize(("method", "sent"), cases())
def test_a_read_leaves_a_fact_before_it_is_answered(archive: Archive, method: str, sent: Sent) -> None:
    who = reader_of(sent[0])
    prepare(archive, sent[0])
    archive.service.news()
    send(archive, method, sent, who)
    (record,) = archive.service.news()
    assert (record["kind"], record["reason"]) == (sent[2], WHY)
    assert "customer-1" not in repr(record)
    by = record["actor"]["name"] if sent[2] in ("PersonalDataRead", "ActionRefused") else record["data"]["by"]
    assert by == who


@pytest.mark.parametrize(("method", "sent"), cases())
def test_without_the_fact_there_is_no_answer(archive: Archive, method: str, sent: Sent) -> None:
    prepare(archive, sent[0])
    failing = mock.patch.object(Log, "commit", side_effect=UnavailableError("the disk is full"))
    with failing:
        answer = send(archive, method, sent, reader_of(sent[0]))
    assert answer.status_code == 503
    assert answer.json()["error"] == "the disk is full"
    assert archive.service.get("records").json()["total"] == len(archive.service.context.ledger.records)
    again = send(archive, method, sent, reader_of(sent[0]))
    assert again.status_code in (200, 201, 404, 409), "what failed is not taken for recorded"
    assert archive.service.news()[-1]["kind"] == sent[2]


@pytest.mark.parametrize("path", ["/v1/decisions/d1", "/v1/query/decisions", "/v1/query/outcomes"])
@pytest.mark.parametrize("reason", ["", "   ", "%20", "x" * 4_001])
def test_whoever_looks_says_why(archive: Archive, path: str, reason: str) -> None:
    answer = send(archive, "get", (path, None, ""), "auditor", **{"X-Reason": reason})
    assert (answer.status_code, answer.json()["field"]) == (422, "X-Reason")
    assert archive.service.http.get(path, headers=archive.service.headers("auditor")).status_code == 422


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_history_takes_a_reason(archive: Archive, reason: str) -> None:
    archive.ask("history", "customer-1", "auditor", 422, reason=reason)
    archive.ask("history", "customer-1", "auditor", 422, reason="asked by CUSTOMER-1 herself")


@pytest.mark.parametrize("who", MACHINES)
@pytest.mark.parametrize("path", ["/v1/decisions/d1", "/v1/query/decisions", "/v1/query/outcomes"])
def test_services_read_no_decisions_here(archive: Archive, who: str, path: str) -> None:
    answer = send(archive, "get", (path, None, ""), who)
    assert (answer.status_code, answer.json()["code"]) == (403, "role")
    assert "d1" not in answer.text


def test_services_cannot_state_that_somebody_read(archive: Archive) -> None:
    data = {"what": "decision", "commitment": None, "decision_ids": [], "count": 0, "fields": "shown"}
    body = {"kind": "PersonalDataRead", "data": data, "reason": WHY}
    for who in (*MACHINES, "auditor"):
        answer = archive.service.http.post("/v1/facts", json=body, headers=archive.service.headers(who))
        assert answer.status_code == 403


def test_the_fact_says_who_saw_what_about_whom(archive: Archive) -> None:
    archive.service.news()
    archive.show("d1")
    archive.show("d1", "validator")
    archive.history("customer-1")
    decision, withheld, history = archive.service.news()
    assert (decision["actor"]["name"], decision["actor"]["role"]) == ("auditor", "auditor")
    assert (decision["data"]["decision_ids"], decision["data"]["fields"]) == (["d1"], "shown")
    assert (withheld["actor"]["name"], withheld["data"]["fields"]) == ("validator", "withheld")
    whom = {one["data"]["commitment"] for one in (decision, withheld, history)}
    assert len(whom) == 1
    assert None not in whom
    hold = archive.ask("hold", "customer-1", "operator", 201, reason=WHY)
    assert whom == {hold["data"]["commitment"]}


def test_a_look_that_is_repeated_is_recorded_once_in_ten_minutes(archive: Archive, clock: ManualClock) -> None:
    archive.service.news()
    for _ in range(5):
        archive.show("d1")
    assert len(archive.service.news()) == 1
    archive.show("d1", "operator")
    send(archive, "get", ("/v1/decisions/d1", None, ""), "auditor", **{"X-Reason": "another reason"})
    assert len(archive.service.news()) == 2
    archive.history("customer-1")
    archive.decide(2, key="customer-1")
    archive.history("customer-1")
    assert [one["data"]["count"] for one in archive.service.news()] == [1, 2], "one decision more is another fact"
    clock.later(seconds=REPEAT.total_seconds())
    archive.show("d1")
    assert len(archive.service.news()) == 1


def test_the_memory_of_reads_is_bounded(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lineage.service.personal_reads._MOST_REMEMBERED", 1)
    archive.service.news()
    for name in ("auditor", "operator", "auditor"):
        archive.show("d1", name)
    assert len(archive.service.news()) == 3, "what was forgotten is recorded again"
    reads: PersonalReads = archive.service.context.reads
    assert len(reads._recent) == 1


def test_a_reason_confirms_no_guess_of_who_it_is(archive: Archive) -> None:
    archive.service.news()
    for guess in ("customer-1", "customer-2"):
        sent: Sent = ("/v1/decisions/d1", None, "")
        assert send(archive, "get", sent, "validator", **{"X-Reason": f"is it {guess}?"}).status_code == 200
    assert archive.service.news()[0]["reason"] == "is it [the person]?"


@pytest.mark.parametrize(
    ("sent", "read"), [("plain words", "plain words"), (" f%C3%BCr%20die Pr%C3%BCfung ", "für die Prüfung")]
)
def test_a_reason_is_percent_encoded(sent: str, read: str) -> None:
    assert reason_in(sent) == read


@pytest.mark.parametrize(
    ("reason", "subject", "kept"),
    [
        ("about Ada Lovelace", "ada lovelace", "about [the person]"),
        ("about Adamant", "ada", "about Adamant"),
        ("nobody", None, "nobody"),
        ("a.b", "a.b", "[the person]"),
    ],
)
def test_a_name_in_a_reason_is_left_out(reason: str, subject: Any, kept: str) -> None:
    assert without_name(reason, subject) == kept
