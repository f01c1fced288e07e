"""One decision: which release answers, the fallback on failure, and the record before the reply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lineage.errors import InvalidError, UnavailableError, UnknownError
from serve.models.bundle_store import BundleStore
from serve.routes import Target
from tests.support.bundles import features, folder_of
from tests.support.decider_bench import RISKY, Bench
from tests.support.gateway_parts import decider_of


def test_the_champion_answers_and_an_adverse_decision_has_reasons_of_its_own_model(bench: Bench) -> None:
    answer = bench.ask(bench.table())
    assert (answer.release, answer.role, answer.decision) == ("loan@1", "champion", "decline")
    assert 0 < len(answer.reasons) <= 2
    assert answer.reasons[0]["contribution"] > 0
    assert bench.ask(bench.table(), features(9.0, 0.0, 0)).reasons == []


def test_the_record_holds_what_a_replay_needs(bench: Bench) -> None:
    answer = bench.ask(bench.table(share=1.0))
    (line,) = bench.lines
    assert line["decision_id"] == answer.decision_id
    assert line["features"] == [0.1, 4.0, 4.0]
    assert line["score"] == answer.score
    assert line["arm"] == "challenger"
    assert line["route_version"] == 7
    assert line["adverse"] is True
    assert line["reasons"] == [reason["code"] for reason in answer.reasons]


def test_a_decision_that_cannot_be_recorded_is_not_given(bench: Bench) -> None:
    def full(record: dict[str, Any]) -> None:
        raise UnavailableError("disk full")

    bench.decider = decider_of(bench.store, full, bench.pool)
    with pytest.raises(UnavailableError, match="disk full"):
        bench.ask(bench.table())


def test_a_challengers_share_is_answered_by_the_challenger(bench: Bench) -> None:
    answer = bench.ask(bench.table(share=1.0))
    assert (answer.release, answer.role, answer.fallback) == ("loan@2", "challenger", None)


@pytest.mark.parametrize(("kind", "flag"), [("slow", "challenger_timeout"), ("broken", "challenger_failed")])
def test_the_champion_stands_in_for_a_failing_challenger_whose_failure_it_is(
    bench: Bench, kind: str, flag: str
) -> None:
    async def misbehave(target: Target, values: dict[str, Any]) -> dict[str, Any]:
        if kind == "broken":
            raise UnavailableError("pool is gone")
        await asyncio.sleep(10)
        raise AssertionError

    bench.pool.behave = misbehave
    answer = bench.ask(bench.table(share=1.0))
    assert (answer.release, answer.role, answer.fallback) == ("loan@1", "champion", flag)
    assert bench.lines[0]["arm"] == "challenger"
    assert bench.lines[0]["error"] is not None


def test_a_challenger_that_is_not_prepared_gets_nobody(bench: Bench) -> None:
    bench.pool.ready = False
    assert bench.ask(bench.table(share=1.0)).role == "champion"
    assert bench.lines[0]["arm"] is None


def test_without_a_champion_the_baseline_answers(bench: Bench) -> None:
    answer = bench.ask(bench.table(champion=None, baseline=bench.second))
    assert (answer.release, answer.role, answer.fallback) == ("loan@2", "baseline", None)
    assert answer.reasons


def test_refused_bytes_are_not_parsed_and_the_baseline_answers_flagged(bench: Bench) -> None:
    model = folder_of(bench.settings, bench.first) / "model.ubj"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    bench.store = BundleStore(bench.settings)
    bench.store.load([bench.first, bench.second])
    bench.decider = decider_of(bench.store, bench.lines.append, bench.pool)
    assert "digest" in bench.store.refused[bench.first.digest]
    answer = bench.ask(bench.table(previous=bench.second))
    assert (answer.release, answer.role, answer.fallback) == ("loan@2", "baseline", "champion_refused")
    with pytest.raises(UnavailableError, match="no verified bundle"):
        bench.ask(bench.table())


def test_a_bundle_without_a_signature_is_refused(bench: Bench) -> None:
    folder = folder_of(bench.settings, bench.first)
    folder.with_name(folder.name + ".sig").unlink()
    store = BundleStore(bench.settings)
    store.load([bench.first])
    assert store.get(bench.first) is None
    assert "signature" in store.refused[bench.first.digest]


def test_verification_asks_the_champion_and_belongs_to_no_arm(bench: Bench) -> None:
    answer = bench.ask(bench.table(share=1.0), purpose="verification")
    assert answer.role == "champion"
    assert (bench.lines[0]["arm"], bench.lines[0]["purpose"]) == (None, "verification")


def test_without_a_key_the_features_are_the_key(bench: Bench) -> None:
    bench.ask(bench.table(), key=None)
    bench.ask(bench.table(), key=None)
    assert bench.lines[0]["key"] == bench.lines[1]["key"]


def test_wrong_input_is_named(bench: Bench) -> None:
    with pytest.raises(InvalidError, match="late"):
        bench.ask(bench.table(), features(late=-1))
    with pytest.raises(UnknownError, match="no model 'lone'"):
        asyncio.run(bench.decider.decide(bench.table(), "lone", RISKY, None))
    assert bench.lines == []
