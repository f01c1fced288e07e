"""Load and counters of the serving fault runs: customers with stable keys, and the time of the last old answer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults.serving_load import Customers, Question, Reply, question, read_into, received_by
from benchmarks.faults.serving_route_change import Change, between, measure
from lineage.ledger import Ledger
from lineage.log.signing_key import signer_at
from lineage.settings import Settings
from serve.decision.traffic_split import position_of
from tests.support.gateway_servers import CLIENT, FEATURES, ServedLoans, served
from tests.support.sample_facts import FactWriter

MODEL = "loan"
Answered = tuple[float, str, str, str]  # seconds after the acknowledgement, key, role, release


@pytest.fixture
def writer(tmp_path: Path) -> FactWriter:
    ledger = Ledger(tmp_path / "log", signer=signer_at(tmp_path / "log.key"))
    return FactWriter(ledger, MODEL)


def _replies(at: float, *answers: Answered) -> list[Reply]:
    return [
        Reply(MODEL, (key,), at, at + seconds - 0.001, at + seconds, 200, "r1", [("d", release, None, role)])
        for seconds, key, role, release in answers
    ]


def _stepped(writer: FactWriter) -> tuple[dict[str, Any], str, str]:
    """A trial whose share went from 0.1 to 0.25: the fact, a customer who moved and one who did not."""
    writer.champion()
    trial = writer.canary(writer.register())
    fact = writer.record("CanaryStepped", trial)
    salt = writer.ledger.state.models[MODEL].salt or ""
    return fact, between(salt, 0.1, 0.25)[0], between(salt, 0.25, 1.0)[0]


def test_the_last_old_answer_to_a_customer_who_moved_is_what_counts(writer: FactWriter) -> None:
    fact, moved, stayed = _stepped(writer)
    old, new = ("champion", f"{MODEL}@1"), ("challenger", f"{MODEL}@2")
    answers = [(-0.01, moved, *old), (0.02, moved, *old), (0.03, moved, *new), (0.9, stayed, *old)]
    found = measure(list(writer.ledger.records), [Change(fact, 100.0)], _replies(100.0, *answers), MODEL)
    assert found.milliseconds == [pytest.approx(20.0)]
    assert found.unseen == 0


def test_a_change_that_nobody_was_seen_to_follow_is_not_a_fast_one(writer: FactWriter) -> None:
    fact, moved, stayed = _stepped(writer)
    old = ("champion", f"{MODEL}@1")
    answers = [(0.02, moved, *old), (0.9, stayed, *old)]
    found = measure(list(writer.ledger.records), [Change(fact, 100.0)], _replies(100.0, *answers), MODEL)
    assert (found.milliseconds, found.unseen) == ([], 1)


def test_customers_between_two_shares_stand_there() -> None:
    keys = between("pepper", 0.4, 0.425)
    assert len(keys) == 40
    assert all(0.4 <= position_of(key, "pepper") < 0.425 for key in keys)
    assert between("", 0.0, 1.0)[:2] == ["customer-0", "customer-1"]


def test_customers_ask_once_and_remember_every_answer(tmp_path: Path) -> None:
    loans = ServedLoans(Settings(home=tmp_path))

    def ask(number: int) -> Question:
        token = CLIENT if number % 4 else "token-of-nobody"
        return question(MODEL, f"customer-{number}", FEATURES, token)

    with served(loans.app) as port, Customers(port, ask, rate=200.0) as customers:
        assert customers.until(lambda _: len(customers.replies) >= 20, 20.0, since=0.0) is not None
    good = [reply for reply in customers.replies if reply.good]
    received = received_by(good)
    assert {reply.status for reply in customers.replies if not reply.good} == {401}
    assert sorted(received["decision_id"]) == sorted(line["decision_id"] for line in loans.lines)
    assert dict(zip(received["decision_id"], received["key"], strict=True)) == {
        line["decision_id"]: line["key"] for line in loans.lines
    }
    assert len(customers.replies) < 4 * 20  # open loop, but not one that runs away


def test_who_is_gone_is_a_failed_request_and_no_exception(tmp_path: Path) -> None:
    loans = ServedLoans(Settings(home=tmp_path))
    with served(loans.app) as port:
        pass
    with Customers(port, lambda _: question(MODEL, "c", FEATURES, CLIENT), rate=50.0) as customers:
        assert customers.until(lambda reply: not reply.good, 20.0, since=time.time() - 1.0) is not None
    assert {reply.status for reply in customers.replies} == {0}


def test_rows_of_a_batch_keep_their_own_release_and_role() -> None:
    reply = Reply(MODEL, ("a", "b"), 0.0, 0.0)
    columns = {"decision_id": ["1", "2"], "release": ["loan@1", "loan@2"], "role": ["champion", "challenger"]}
    outputs = [{"name": name, "data": data} for name, data in columns.items()]
    read_into(reply, b"http/1.1 200 ok\r\nx-replica: r1\r\n", json.dumps({"outputs": outputs}).encode())
    assert reply.rows == [("1", "loan@1", None, "champion"), ("2", "loan@2", None, "challenger")]
    assert (reply.replica, reply.good) == ("r1", True)
