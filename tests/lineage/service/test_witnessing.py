"""Control facts wait for the witness; its absence is on record; an older folder does not start unseen."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from lineage.accounts.credentials import Credentials
from lineage.errors import TamperedError, UnavailableError
from lineage.facts.eras import LATEST
from lineage.lifecycle import State
from lineage.rules.draft import Draft
from lineage.service.app import create_app, serve
from lineage.service.context import PLATFORM_ACTOR, Context
from lineage.settings import Settings
from lineage.witness.server import create_app as create_witness
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import MODEL, OPERATOR, FactWriter, ManualClock, sample
from tests.support.witnessed_log import listening, listening_at, serving

SECONDS = 20.0  # a bound that no test reaches


@pytest.fixture
def witness(tmp_path: Path) -> FastAPI:
    return create_witness(tmp_path / "witness", trust_first=True)


def watched(settings: Settings, url: str, **changes: Any) -> Settings:
    given = {"witness_url": url, "witness_seconds": SECONDS} | changes
    return Settings(**settings.model_dump() | given)


@pytest.fixture
def service(settings: Settings, witness: FastAPI, clock: ManualClock) -> Iterator[LedgerService]:
    """A ledger service whose witness answers."""
    with serving(witness) as url, open_service(watched(settings, url), clock) as service:
        yield service


@pytest.fixture
def alone(settings: Settings, clock: ManualClock) -> Iterator[LedgerService]:
    """A ledger service whose witness does not listen."""
    with listening() as (_, url):
        pass
    with open_service(watched(settings, url), clock) as service:
        yield service


def kinds(service: LedgerService) -> list[str]:
    return [record["kind"] for record in service.context.ledger.records]


def test_an_approval_is_answered_once_the_witness_cosigned_it(service: LedgerService) -> None:
    release = service.release_in("review")
    answer = service.act("review", release, "validator", seen=True)
    assert (answer.status_code, answer.json()["witnessed"]) == (201, True)
    assert service.context.cosigned_over(answer.json()["seq"]) is not None
    promoted = service.act("promote", release, "operator", seen=True)
    assert promoted.json()["witnessed"] is True
    assert "WitnessAway" not in kinds(service)
    assert service.http.get("/healthz").json()["witness_away"] is None


def test_the_controllers_promotion_is_witnessed_too(service: LedgerService) -> None:
    release = service.release_in("rollout")
    service.writer.record("RolloutStepped", release, share=1.0)
    model = service.context.ledger.state.models[MODEL]
    about = service.context.ledger.state.releases[release]
    golden = {"count": 2, "matched": 2}
    data = {"digest": about.digest, "replaced": model.champion, "golden": golden}
    fact = {"kind": "ReleasePromoted", "model": MODEL, "release": release, "data": data}
    answer = service.http.post("/v1/facts", json=fact, headers=service.headers("controller"))
    assert answer.json().get("witnessed") is True, answer.json()


def test_what_stops_does_not_wait(service: LedgerService, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bool:
        raise AssertionError("a stop waited for the witness")

    release = service.release_in("canary")
    cosigner = service.context.cosigner
    assert cosigner is not None
    monkeypatch.setattr(cosigner, "wait_for", never)
    for path in (f"/v1/models/{MODEL}/kill", "/v1/kill"):
        answer = service.http.post(path, json={"reason": "wrong"}, headers=service.headers("operator"))
        assert (answer.status_code, "witnessed" in answer.json()) == (201, False)
    assert "witnessed" not in service.act("abort", release, "operator").json()


def test_without_a_witness_nothing_waits_and_the_answer_says_so(settings: Settings, clock: ManualClock) -> None:
    with open_service(settings, clock) as service:
        release = service.release_in("review")
        answer = service.act("review", release, "validator", seen=True).json()
        assert answer["witnessed"] is None
        assert "WitnessAway" not in kinds(service)


def test_a_log_opened_without_its_witness_says_so_everywhere(alone: LedgerService) -> None:
    away = alone.context.ledger.state.away
    assert away is not None
    assert away.at_opening
    health = alone.http.get("/healthz").json()["witness_away"]
    assert (health["record"], health["at_opening"]) == (away.seq, True)
    assert alone.get("stopped").json()["away"]["seq"] == away.seq
    assert "plimsoll_ledger_witness_away 1.0" in alone.http.get("/metrics").text
    release = alone.release_in("review")
    answer = alone.act("review", release, "validator", seen=True)
    assert (answer.status_code, answer.json()["witnessed"]) == (201, False)
    assert kinds(alone).count("WitnessAway") == 1, "one absence is recorded once"


def test_a_witness_that_may_not_be_away_keeps_the_log_closed(settings: Settings, clock: ManualClock) -> None:
    with listening() as (_, url):
        pass
    with pytest.raises(UnavailableError, match="no answer from the witness"):
        Context(watched(settings, url, witness_required=True), clock=clock)
    assert not list(settings.log_folder.glob("*.jsonl"))


def until(service: LedgerService, kind: str) -> None:
    """Wait until a record of the kind is durable."""
    ledger, found = service.context.ledger, threading.Event()
    ledger.follow(lambda record: found.set() if record["kind"] == kind else None)
    if kind not in kinds(service):
        assert found.wait(60), kind


def test_a_witness_that_comes_back_is_recorded_and_witnesses_again(
    settings: Settings, witness: FastAPI, clock: ManualClock
) -> None:
    with listening() as (bound, url):
        home = watched(settings, url)
        bound.close()
        with open_service(home, clock) as service, listening_at(url) as again, serving(witness, again):
            assert service.context.cosigner is not None
            service.context.cosigner.wait_for(1, 0)  # try again now
            until(service, "WitnessBack")
            release = service.release_in("review")
            assert service.act("review", release, "validator", seen=True).json()["witnessed"] is True
            assert service.http.get("/healthz").json()["witness_away"] is None


def test_an_older_folder_put_back_while_the_witness_is_away_ends_the_service_when_it_is_back(
    settings: Settings, witness: FastAPI, clock: ManualClock, tmp_path: Path, quick: None
) -> None:
    """The whole folder is of an earlier time, with its own copy of what was cosigned then."""
    with serving(witness) as url:
        home = watched(settings, url)
        with open_service(home, clock) as service:
            release = service.release_in("review")
            older = shutil.copytree(home.root, tmp_path / "older")
            service.act("review", release, "validator", seen=True)
            service.context.ledger.append(Draft("LedgerOpened", PLATFORM_ACTOR, sample("LedgerOpened")))
        shutil.rmtree(home.root)
        older.rename(home.root)
        with pytest.raises(TamperedError, match="Was an older copy restored"):
            Context(home, clock=clock)
    context = Context(watched(settings, url), clock=clock)
    reasons: list[str] = []
    context.stop = reasons.append
    assert context.ledger.state.away is not None
    assert context.ledger.state.era == LATEST
    with listening_at(url) as bound, serving(create_again(witness), bound):
        assert context.cosigner is not None
        assert not context.cosigner.submit()
        context.cosigner.after_round()
    context.close()
    assert reasons
    assert "the witness saw" in reasons[0]


def create_again(witness: FastAPI) -> FastAPI:
    """The witness, started again on its folder."""
    return create_witness(witness.state.witness.folder, trust_first=True)


def test_a_stopped_service_ends_with_the_reason(settings: Settings, clock: ManualClock) -> None:
    class Server:
        """A server that is told to end while it runs."""

        should_exit, started = False, True

        def run(self) -> None:
            context.stop("the witness saw 9 records")

    app = create_app(settings, clock=clock)
    context: Context = app.state.context
    server = Server()
    assert serve(server, context) == "the witness saw 9 records"  # type: ignore[arg-type]
    assert server.should_exit
    context.close()


def test_an_erasure_says_whether_it_is_witnessed(service: LedgerService, monkeypatch: pytest.MonkeyPatch) -> None:
    erased = service.context.ledger.append(Draft("SubjectErased", PLATFORM_ACTOR, sample("SubjectErased")))
    monkeypatch.setattr(service.context.subjects, "erase", lambda *_, **__: (erased, True))
    body = {"subject": "somebody", "reason": "asked in writing", "identity_verified": True}
    answer = service.http.post("/v1/subjects/erase", json=body, headers=service.headers("operator"))
    assert (answer.status_code, answer.json()["witnessed"]) == (201, True)


def test_the_state_of_a_group_that_fails_is_taken_back(settings: Settings, clock: ManualClock, quick: None) -> None:
    Credentials(settings, clock=clock).first_start()
    context = Context(settings, clock=clock)
    writer = FactWriter(context.ledger)
    writer.bring(State.REGISTERED)
    context.ledger.state.begin()
    data = {"since": "2026-11-23T10:00:00Z", "cosigned": 0, "at_opening": False, "why": "x"}
    record = {"seq": context.ledger.state.seq + 1, "kind": "WitnessAway", "model": None, "release": None, "data": data}
    context.ledger.state.apply(record | {"at": "2026-11-23T10:00:00Z", "actor": {"name": OPERATOR.name}})
    assert context.ledger.state.away is not None
    context.ledger.state.roll_back()
    assert context.ledger.state.away is None
    context.close()
